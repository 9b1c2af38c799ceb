"""The command line as a user types it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone

import pytest
import torch
import yaml
from fixtures.methods import CLASSES, options
from fixtures.runs import environment, rows_of

from kronlit.config.explain import subclasses
from kronlit.data.tasks import GLUE_TASKS
from kronlit.methods import Method
from kronlit.modules import SequenceClassification


def last_values(run_dir):
    values = {}
    for row in csv.DictReader((run_dir / "metrics.csv").open()):
        values |= {name: float(value) for name, value in row.items() if value}
    return values


def test_fit_leaves_everything_and_the_others_use_it(kronlit, config, tmp_path):
    words = ["--test_after_fit", "true", "--scored_rows", "true", "--trainer.log_every_n_steps", "1"]
    code, out, _ = kronlit("fit", "--config", config, *words)
    assert code == 0
    assert "all, over a model of" in out
    run = tmp_path / "runs/small/version_0"
    assert {"config.yaml", "metrics.csv", "checkpoints"} <= {path.name for path in run.iterdir()}
    assert list(run.glob("events.out.tfevents.*"))
    assert (run / "checkpoints/last.ckpt").exists()
    values = last_values(run)
    assert {"train/loss", "train/lr", "val/accuracy", "val/loss", "val/score", "test/accuracy"} <= values.keys()

    summary = json.loads((run / "summary.json").read_text())
    assert summary["scores"]["test/accuracy"] == values["test/accuracy"]
    assert f"{summary['trained_parameters']:,}" in out.split("all, over a model of")[1].splitlines()[0]
    assert summary["per_cent"] == pytest.approx(100 * summary["trained_parameters"] / summary["parameters"])
    assert summary["adapter_bytes"] == 4 * summary["trained_parameters"]
    assert 0 < summary["seconds_per_epoch"] < summary["seconds"]
    assert summary["peak_memory_bytes"] > 100_000_000
    assert torch.__version__.startswith(summary["versions"]["torch"])
    assert summary["machine"]["cores"] == os.cpu_count()
    assert summary["machine"]["threads"] == torch.get_num_threads()
    assert summary["machine"]["processor"]
    age = datetime.now(timezone.utc) - datetime.fromisoformat(summary["date"])
    assert abs(age.total_seconds()) < 3600

    with (run / "test_rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(len(rows)))
    right = [float(row["prediction"]) == float(row["target"]) for row in rows]
    assert sum(right) / len(right) == pytest.approx(values["test/accuracy"])
    assert summary["rows"]["test"] == len(rows)
    assert {"train", "validation", "test"} <= summary["rows"].keys()
    largest = max(Counter(row["target"] for row in rows).values()) / len(rows)
    assert summary["chance"]["test/accuracy"] == summary["chance"]["test/score"] == pytest.approx(largest)

    # The saved config.yaml is complete: with it alone, the best checkpoint scores what it scored.
    code, _, _ = kronlit("test", "--config", run / "config.yaml", "--run_dir", "runs/small", "--ckpt_path", "best")
    assert code == 0
    assert last_values(tmp_path / "runs/small/version_1")["test/accuracy"] == values["test/accuracy"]

    words = ["--ckpt_path", run / "checkpoints/last.ckpt", "--scored_rows", "true"]
    code, _, _ = kronlit("validate", "--config", config, *words)
    assert code == 0
    assert {path.name for path in run.parent.rglob("*_rows.csv")} == {"test_rows.csv", "val_rows.csv"}
    assert last_values(tmp_path / "runs/small/version_2")["val/loss"] == pytest.approx(values["val/loss"], rel=1e-5)

    size = (run / "checkpoints/last.ckpt").stat().st_size
    assert size < 100_000  # 482 parameters, two moments each, and the state of loops and generators


def test_a_mixture_is_tested_by_another_evaluation_than_it_was_trained_with(kronlit, config, tmp_path):
    always = ["--config", config, "--model.method", "AdaMix", "--model.method.bottleneck_width", "8"]
    assert kronlit("fit", *always, "--model.lr", "0.03", "--trainer.max_epochs", "1")[0] == 0
    losses = []
    for number, evaluation in enumerate(("mean", "random", "first"), 1):
        code, _, err = kronlit("test", *always, "--ckpt_path", "best", "--model.method.evaluation", evaluation)
        assert code == 0, err
        losses.append(last_values(tmp_path / f"runs/small/version_{number}")["test/loss"])
        saved = yaml.safe_load((tmp_path / f"runs/small/version_{number}/config.yaml").read_text())
        assert saved["model"]["init_args"]["method"]["init_args"]["evaluation"] == evaluation
    assert len(set(losses)) == 3


@pytest.mark.parametrize(("stop", "validation"), [(0, "1.0"), (1, "1.0"), (3, "1.0"), (5, "1.0"), (3, "1"), (4, "1")])
def test_a_run_that_was_cut_short_goes_on_in_its_own_folder(kronlit, config, tmp_path, monkeypatch, stop, validation):
    always = ["--config", config, "--trainer.log_every_n_steps", "1", "--trainer.max_epochs", "3"]
    always += ["--trainer.val_check_interval", validation]  # every epoch, or every step
    assert kronlit("fit", *always, "--run_dir", "whole")[0] == 0

    def interrupt(self, batch, batch_idx):
        if self.trainer.global_step == stop:  # two steps an epoch
            raise OverflowError("cut short")

    with monkeypatch.context() as patch:
        patch.setattr(SequenceClassification, "on_train_batch_start", interrupt)
        with pytest.raises(OverflowError, match="cut short"):
            kronlit("fit", *always)
    code, out, _ = kronlit("fit", *always, "--ckpt_path", "last")
    assert code == 0
    assert ("starting afresh" in out) == (stop < 2)

    whole, again = tmp_path / "whole/version_0", tmp_path / f"runs/small/version_{int(stop < 2)}"
    assert rows_of(again) == rows_of(whole)
    assert {path.name for path in again.rglob("*.ckpt")} == {path.name for path in whole.rglob("*.ckpt")}
    for path in whole.rglob("*.ckpt"):
        ours, theirs = (torch.load(run / "checkpoints" / path.name, weights_only=True) for run in (again, whole))
        assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())


def test_a_run_that_is_given_more_steps_logs_under_the_right_ones(kronlit, config, tmp_path):
    always = ["--config", config, "--data.batch_size", "4"]
    assert kronlit("fit", *always, "--trainer.val_check_interval", "2", "--trainer.max_steps", "4")[0] == 0
    more = ["--trainer.val_check_interval", "3", "--trainer.max_steps", "9", "--ckpt_path", "last"]
    assert kronlit("fit", *always, *more)[0] == 0
    rows = csv.DictReader((tmp_path / "runs/small/version_0/metrics.csv").open())
    assert [int(row["step"]) for row in rows if row["val/loss"]] == [1, 3, 5, 8]


def test_a_run_from_a_file_gets_a_folder_of_its_own(kronlit, config, tmp_path):
    kronlit("fit", "--config", config, "--trainer.max_epochs", "1")
    before = {path: path.read_bytes() for path in (tmp_path / "runs/small/version_0").rglob("*") if path.is_file()}
    last = tmp_path / "runs/small/version_0/checkpoints/last.ckpt"
    assert kronlit("fit", "--config", config, "--ckpt_path", last)[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    checkpoint = torch.load(tmp_path / "runs/small/version_1/checkpoints/last.ckpt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 4)  # 41 rows in batches of 32, twice


def test_the_command_line_wins_over_what_a_checkpoint_remembers(kronlit, config, tmp_path):
    kronlit("fit", "--config", config, "--trainer.max_epochs", "1")
    last = tmp_path / "runs/small/version_0/checkpoints/last.ckpt"
    changed = ["--trainer.gradient_clip_val", "0.5", "--model.max_length", "16"]
    assert kronlit("fit", "--config", config, "--ckpt_path", last, *changed)[0] == 0
    saved = yaml.safe_load((tmp_path / "runs/small/version_1/config.yaml").read_text())
    assert saved["trainer"]["gradient_clip_val"] == 0.5
    assert saved["model"]["init_args"]["max_length"] == 16


def test_configs_layer_and_the_command_line_comes_last(kronlit, config, tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text("model: {init_args: {lr: 0.25, method: {class_path: KronA, init_args: {scale: 2.0}}}}\n")
    arguments = ["--config", config, "--config", more, "--model.method.scale", "4", "--trainer.max_steps", "1"]
    assert kronlit("fit", *arguments)[0] == 0
    saved = yaml.safe_load((tmp_path / "runs/small-more/version_0/config.yaml").read_text())["model"]["init_args"]
    assert (saved["lr"], saved["method"]["init_args"]["scale"]) == (0.25, 4.0)


def test_a_method_is_named_and_set_on_the_command_line(kronlit, config, tmp_path):
    code, out, _ = kronlit(
        "fit", "--config", config, "--model.method", "LoRA", "--model.method.rank", "3", "--trainer.max_steps", "1"
    )
    assert code == 0
    assert "3 x 48" in out


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_predict_writes_text_label_and_scores_in_the_rows_order(kronlit, config, tmp_path, task, suffix):
    mine = tmp_path / "mine.csv"
    mine.write_text(
        "id,sentence1,sentence2,label\n"
        + "".join(f"{n},the {w},a dog ran,mine\n" for n, w in enumerate(["cat sat", "dog", "red house was good"]))
    )
    out = tmp_path / f"out.{suffix}"
    code, said, _ = kronlit(
        "predict", "--config", config, "--data.task", task, "--data.predict_file", mine, "--predictions", out
    )
    assert code == 0
    assert f"3 predictions in {out}" in said
    lines = list(csv.DictReader(out.open())) if suffix == "csv" else [json.loads(line) for line in out.open()]
    assert [line["sentence1"] for line in lines] == ["the cat sat", "the dog", "the red house was good"]
    assert [line["id"] for line in lines] == ["0", "1", "2"]
    assert not any(line["label"] == "mine" for line in lines)
    for line in lines:
        if task == "stsb":
            float(line["label"])
            continue
        names = GLUE_TASKS["rte"].labels
        scores = {n: float(line[f"score_{n}"]) for n in names} if suffix == "csv" else line["scores"]
        assert sum(scores.values()) == pytest.approx(1)
        assert line["label"] == max(scores, key=scores.get)


def test_the_saved_config_finds_its_run(kronlit, config, tmp_path):
    assert kronlit("fit", "--config", config, "--trainer.max_steps", "1")[0] == 0
    saved = tmp_path / "runs/small/version_0/config.yaml"
    (tmp_path / "new.csv").write_text("sentence1,sentence2\nthe cat,a dog\n")
    words = ["--ckpt_path", "last", "--data.predict_file", "new.csv", "--predictions", "out.csv"]
    code, _, err = kronlit("predict", "--config", saved, *words)
    assert code == 0, err
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2


def test_predictions_are_not_written_over_a_file(kronlit, config, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("sentence1,sentence2\nthe cat,a dog\n")
    before = mine.read_text()
    code, _, err = kronlit("predict", "--config", config, "--data.predict_file", mine, "--predictions", mine)
    assert code == 2
    assert err.endswith(f"`predictions`={str(mine)!r} exists already and is not overwritten: name a new file.\n")
    assert mine.read_text() == before


def test_predict_covers_the_tasks_test_sets(kronlit, config, tmp_path, glue):
    code, _, _ = kronlit("predict", "--config", config, "--data.task", "mnli", "--data.splits", "official")
    assert code == 0
    lines = [json.loads(line) for line in (tmp_path / "runs/small/version_0/predictions.jsonl").open()]
    assert [line["split"] for line in lines] == ["test_matched"] * 17 + ["test_mismatched"] * 17


def test_every_method_is_tried_with_two_processes():
    own = {method for method in subclasses(Method) if method.__module__.startswith("kronlit.")}  # not other tests'
    assert set(CLASSES) == {method.__name__ for method in own} - {"Combined"}  # it trains the structures of others


DDP = [(name, "ddp", 1) for name in CLASSES]
DDP += [(name, "ddp_sharded", 1) for name in ("KronA", "Compacter", "AdaMix", "IntrinsicSAID", "SURM")]
DDP += [("KronA", "ddp", 3), ("KronA", "ddp_sharded", 3)]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "strategy", "accumulated"), DDP)
def test_two_processes_score_and_train_as_one(kronlit, config, tmp_path, request, glue, method, strategy, accumulated):
    # 23 rows of validation, 5 a batch: uneven over two processes. The batches of 8 are 4 and 4.
    def fit(name, *arguments):
        command = ["fit", "--config", config, "--run_dir", name, *kind, *arguments]
        command += ["--data.eval_batch_size", "5", "--data.task", "mrpc", "--data.splits", "official"]
        command += options(method) + (["--model.consistency", "1"] if method in ("AdaMix", "AdaMixLoRA") else [])
        if name == "one":
            code, _, error = kronlit(*command)
        else:
            words = [sys.executable, "-m", "kronlit", *map(str, command)]
            done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment())
            code, error = done.returncode, done.stderr
        assert code == 0, error
        rows = list(csv.DictReader((tmp_path / name / "version_0/metrics.csv").open()))
        return [{k: float(v) for k, v in row.items() if v and k != "train/epoch_seconds"} for row in rows]

    # Prompts are for sequence-to-sequence models.
    kind, plm = ["--model", "TextToText"], "tiny_t5"
    if method != "PromptTuning":
        kind, plm = [], "tiny_bert"
    # Dropout off in the tiny model: its masks differ from one process to two, as they should.
    quiet = tmp_path / "quiet"
    shutil.copytree(request.getfixturevalue(plm), quiet)
    settings = json.loads((quiet / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout_rate": 0.0}
    (quiet / "config.json").write_text(json.dumps(settings))
    same = ["--model.plm", str(quiet), "--trainer.log_every_n_steps", "1"]
    same += ["--trainer.accumulate_grad_batches", str(accumulated)]
    one = fit("one", *same, "--data.batch_size", "8")
    two = fit("two", *same, "--data.batch_size", "4", "--trainer.devices", "2", "--trainer.strategy", strategy)
    assert [set(row) for row in one] == [set(row) for row in two]
    for ours, theirs in zip(one, two, strict=True):
        for name, value in ours.items():
            # Logged training losses are those of the first process; validation is of all rows.
            if name in ("val/accuracy", "val/f1", "val/score"):
                assert theirs[name] == value
            elif name == "val/loss":
                assert theirs[name] == pytest.approx(value, rel=1e-4)
    weights = [
        torch.load(tmp_path / name / "version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5)
    losses = [[row["val/loss"] for row in rows if "val/loss" in row] for rows in (one, two)]
    apart = max(abs(ours - theirs) for ours, theirs in zip(*losses, strict=True))
    moved = max((weights[1][name] - value).abs().max().item() for name, value in weights[0].items())
    # A row of the table that -rP shows.
    print(f"| {method} | {strategy} | {apart:.1e} of {losses[0][-1]:.4f} | equal | {moved:.1e} |")


# --- mistakes ---


def yaml_file(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    return path


MISTAKES = [
    (["--trainer.max_epoch", "3"], ["'trainer.max_epoch'", "did you mean 'max_epochs'?"]),
    (["--trainer.max_epochs", "many"], ["trainer.max_epochs='many'", "int"]),
    (["--model.lr", "fast"], ["model.lr='fast'", "float"]),
    (["--model.lr", "-1"], ["`model.lr`=-1.0", "from 0 up"]),
    (["--model.methd", "KronA"], ["'methd'", "did you mean 'method'?"]),
    (["--model.method", "krona"], ["'krona'", "KronA", "LoRA", "did you mean 'KronA'?"]),
    (["--model.method.scal", "4"], ["'scal'", "did you mean 'scale'?"]),
    (["--model.method.scale", "big"], ["scale='big'", "float"]),
    (["--model.method.trains", "[heads]"], ["trains='heads'", "layer_norm"]),
    (["--model.method.a_shape", "[5,7]"], ["`a_shape`=(7, 5)", "(48, 48)", "query"]),
    (["--model.method.sites", "query, key"], ["method.sites='query, key' must be a list", "'[query, key]'"]),
    (["--data", "TextFiles"], ["`--data.train` must be given"]),
    (["--data", "TextFiles", "--data.train", "x.csv", "--data.span", "1,5"], ["data.span='1,5'", "null", "'[1, 5]'"]),
    (["--model.method.sites", "[]"], ["`sites`=[] must name one or more", "HeadOnly"]),
    (["--model.method.sites", "[qury]"], ["no site 'qury'", "query, key, value"]),
    (["--model", "TextModule"], ["model='TextModule' is what such classes share", "SequenceClassification"]),
    (["--model.plm", "no/such-model"], ["`model.plm`='no/such-model'", "local folder"]),
    (["--model.task", "x"], ["task"]),
    (["--data.task", "rtee"], ["`data.task`='rtee'", "cola, sst2"]),
    (["--data.splits", "halved"], ["splits='halved'", "mahabadi"]),
    (["--data.batch_size", "0"], ["`data.batch_size`=0"]),
    (["--data.path", "/nowhere"], ["`data.path`='/nowhere'", "rte/train.parquet"]),
    (["--ckpt_path", "nothing.ckpt"], ["`ckpt_path`='nothing.ckpt'", "no file"]),
    (["--config", "nothing.yaml"], ["nothing.yaml"]),
    (["--trainer.accelerator", "gpuu"], ["`trainer`", "gpuu"]),
    (["--trainer.devices", "0"], ["`trainer`"]),
    (["--trainer.strategy", "dpp"], ["`trainer.strategy`='dpp'", "use one of auto, ddp, ddp_sharded"]),
    (["--trainer.accumulate_grad_batches", "0"], ["`trainer.accumulate_grad_batches`=0 must be at least 1"]),
    (["--trainer.max_epochs", "-5"], ["`trainer`", "-5"]),
    (["--trainer.limit_train_batches", "2.5"], ["`trainer`", "2.5"]),
    (["--trainer.val_check_interval", "1000"], ["`trainer`", "1000"]),
    (["--modle.lr", "1"], ["'modle.lr'", "did you mean 'model'?"]),
    (["--run_dir", "/dev/null"], ["`run_dir`='/dev/null'"]),
    (["--data.splits", "official", "--test_after_fit", "true"], ["labels of rte/test are hidden"]),
    (["--trainer.precision", "16-true"], ["`trainer.precision`='16-true'", "bf16-mixed"]),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: " ".join(value)[:50])
def test_a_mistake_gets_one_line_and_exit_code_2(kronlit, config, arguments, words):
    code, _, err = kronlit("fit", "--config", config, *arguments)
    line = err.strip().splitlines()[-1]
    assert code == 2
    assert line.startswith("kronlit: ")
    assert "Traceback" not in err
    assert "usage:" not in err
    assert all(word in line for word in words), line


def test_an_option_before_its_class_is_told(kronlit):
    words = ["--model", "SequenceClassification", "--model.plm", "x", "--data.task", "rte", "--data", "GLUE"]
    code, _, err = kronlit("fit", *words)
    assert code == 2
    assert "`--data.task` comes before `--data`, the class it is of; there are ChoiceFiles, E2E, FewShot, GLUE" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle: 3", ["'modle'", "did you mean 'model'?"]),
        ("model: {init_args: {lrr: 1}}", ["'lrr'", "did you mean 'lr'?"]),
        ("data: {init_args: {tsk: rte}}", ["'tsk'", "did you mean 'task'?"]),
        ("trainer: {max_epoch: 3}", ["max_epoch", "did you mean 'max_epochs'?"]),
        (
            "model: {class_path: SequenceClasification}",
            ["'SequenceClasification'", "did you mean 'SequenceClassification'?"],
        ),
        ("data: {class_path: GLU}", ["'GLU'", "did you mean 'GLUE'?"]),
        ("model: [unclosed", ["bad.yaml"]),
        ("", ["bad.yaml"]),
        ("just text", ["bad.yaml"]),
        (
            "model: {init_args: {task: {class_path: Task, init_args: {name: a, columns: [b], labels: []}}}}",
            ["`model.task`"],
        ),
    ],
)
def test_a_mistake_in_a_yaml_gets_one_line_and_exit_code_2(kronlit, config, tmp_path, text, words):
    code, _, err = kronlit("fit", "--config", config, "--config", yaml_file(tmp_path, text))
    line = err.strip().splitlines()[-1]
    assert code == 2
    assert line.startswith("kronlit: ")
    assert "Traceback" not in err
    assert all(word in line for word in words), line


def test_a_fault_of_ours_keeps_its_traceback(kronlit, config, monkeypatch):
    monkeypatch.setattr(SequenceClassification, "_losses", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        kronlit("fit", "--config", config)
    monkeypatch.setattr("kronlit.modules.base.nn.utils.rnn.pad_sequence", lambda *_, **__: torch.tensor([[1], [1, 2]]))
    with pytest.raises(ValueError, match="expected sequence of length"):
        kronlit("fit", "--config", config)


def test_a_command_that_there_is_not_is_named(kronlit):
    code, _, err = kronlit("fti")
    assert code == 2
    there = (
        "fit, validate, test, predict, generate, rows, memory, merge, export, combine, submission, info, methods, "
        "models, init, configs, completion, study, tune, submit"
    )
    assert err.strip() == f"kronlit: 'fti' is no command; there are {there}; did you mean 'fit'?"


def test_the_version_is_the_packages(kronlit):
    import kronlit as package

    assert kronlit("--version")[1].strip() == f"kronlit {package.__version__}"
