"""Runs side by side: each gets what it gets alone. The oracle is the same command run by itself."""

import csv
import functools
import io
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from fixtures.adapters import adapter
from fixtures.methods import CLASSES, options
from fixtures.runs import ROOT, environment, fit_words
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from kronlit import KronA, inject
from kronlit.adapters.joint import OwnModules, Rows, join_modules, share_frozen
from kronlit.data.tasks import GLUE_TASKS
from kronlit.experimental.side_by_side.command import side_by_side_command
from kronlit.experimental.side_by_side.passes import Group, Pass
from kronlit.experimental.side_by_side.turns import Surroundings, Turns
from kronlit.methods import LoRA
from kronlit.modules import SequenceClassification
from kronlit.studies.plan import group_runs, plan
from kronlit.studies.process import RunProcess
from kronlit.studies.study import Study

# Rows and lengths of the batches differ from run to run, and so do the learning rates.
RUNS = [("1", "8", "1e-2"), ("2", "5", "3e-2"), ("3", "8", "2e-3")]
ALONE = ["FullFineTuning", "IntrinsicSAID"]


def together(commands, tmp_path):
    """The exit codes, and what each printed."""
    logs = [tmp_path / f"{number}.log" for number in range(len(commands))]
    codes = [tmp_path / f"{number}.code" for number in range(len(commands))]
    side_by_side_command([(one, str(log), str(code)) for one, log, code in zip(commands, logs, codes, strict=True)])
    return [int(code.read_text()) for code in codes], [log.read_text() for log in logs]


def left(folder):
    """What a run logged but its times, and its last weights."""
    rows = list(csv.DictReader((folder / "version_0/metrics.csv").open()))
    numbers = [{k: float(v) for k, v in row.items() if v and k != "train/epoch_seconds"} for row in rows]
    return numbers, torch.load(folder / "version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def assert_alike(ours, theirs):
    (ours, our_weights), (theirs, their_weights) = left(ours), left(theirs)
    assert len(ours) == len(theirs)
    for our_row, their_row in zip(ours, theirs, strict=True):
        assert our_row == pytest.approx(their_row, rel=1e-3, abs=1e-4)
    for name, value in their_weights.items():
        # Softmax does not see a key's bias: its gradient is nothing but rounding, of which AdamW makes a whole step.
        if name.endswith((".k.added_bias", "key.bias")):
            continue
        # AdamW makes steps as large as the learning rate, 3e-2, of the rounding in a gradient that is nearly zero.
        torch.testing.assert_close(our_weights[name], value, rtol=1e-3, atol=1e-3)


def check(kind, kronlit, tmp_path, runs=RUNS):
    for number, run in enumerate(runs):
        code, out, err = kronlit(*fit_words(kind, tmp_path / f"alone-{number}", *run))
        assert code == 0, out + err
    commands = [fit_words(kind, tmp_path / f"together-{number}", *run) for number, run in enumerate(runs)]
    codes, logs = together(commands, tmp_path)
    assert codes == [0] * len(runs), logs
    for number, log in enumerate(logs):
        assert f"together-{number}/version_0" in log
        assert_alike(tmp_path / f"together-{number}", tmp_path / f"alone-{number}")


def test_runs_on_a_model_without_a_pad_token_are_each_as_alone(kronlit, tmp_path, glue, tiny_gpt2):
    kind = ["--model", "SequenceClassification", "--model.plm", str(tiny_gpt2), "--model.method", "LoRA"]
    kind += ["--data", "GLUE", "--data.task", "rte", "--data.path", str(glue), "--trainer.max_steps", "6"]
    check(kind, kronlit, tmp_path, RUNS[:2])


OFTEN = ("KronA", "AdaMix")


@pytest.mark.parametrize(
    "method",
    [
        name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow)
        for name in CLASSES
        if name not in (*ALONE, "PromptTuning")
    ],
)
def test_every_run_gets_what_it_gets_alone(method, config, kronlit, tmp_path):
    # With dropout, and for AdaMix with experts and a second pass, all of the run's own random numbers.
    kind = ["--config", str(config), *options(method), "--trainer.max_epochs", "2"]
    kind += ["--model.consistency", "1"] if method in ("AdaMix", "AdaMixLoRA") else []
    check(kind, kronlit, tmp_path)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("Compacter", ["--model.method.trains", "[layer_norm]"]),
        *(pytest.param(name, [], marks=pytest.mark.slow) for name in ("KronA", "KronABRes", "BitFit")),
    ],
)
def test_texts_too(method, arguments, config, tiny_t5, kronlit, tmp_path):
    kind = ["--config", str(config), "--model", "TextToText", "--model.plm", str(tiny_t5)]
    check([*kind, *options(method), *arguments, "--trainer.max_epochs", "1"], kronlit, tmp_path)


def test_prompts_too(mlm_roberta, lm_bff, kronlit, tmp_path):
    kind = ["--model", "PromptClassification", "--model.plm", str(mlm_roberta), "--model.method", "KronA"]
    kind += ["--model.method.trains", "[head]", "--data", "FewShot", "--data.task", "mrpc", "--data.path", str(lm_bff)]
    check([*kind, "--trainer.max_steps", "6", "--trainer.max_epochs", "-1"], kronlit, tmp_path)


def test_images_too(tiny_vit, images, kronlit, tmp_path):
    kind = ["--model", "ImageClassification", "--model.plm", str(tiny_vit), "--model.method", "KronA"]
    kind += ["--data", "Images", "--data.dataset", "mine", "--data.path", str(images), "--trainer.max_epochs", "1"]
    check(kind, kronlit, tmp_path)


def test_accumulated_batches_and_runs_that_end_earlier(config, kronlit, tmp_path):
    # After four steps the first is done, and the other two go on by themselves.
    kind = ["--config", str(config), "--trainer.max_epochs", "-1", "--trainer.accumulate_grad_batches", "2"]
    each = [["--trainer.max_steps", "4"], ["--trainer.max_steps", "9"], ["--trainer.max_steps", "7"]]
    for number, more in enumerate(each):
        kronlit(*fit_words([*kind, *more], tmp_path / f"alone-{number}", *RUNS[number]))
    commands = [
        fit_words([*kind, *more], tmp_path / f"together-{number}", *RUNS[number]) for number, more in enumerate(each)
    ]
    codes, logs = together(commands, tmp_path)
    assert codes == [0, 0, 0], logs
    for number in range(3):
        assert_alike(tmp_path / f"together-{number}", tmp_path / f"alone-{number}")


def test_one_that_fails_stops_no_other(config, kronlit, tmp_path):
    kind = ["--config", str(config), "--trainer.max_epochs", "1"]
    kronlit(*fit_words(kind, tmp_path / "alone", *RUNS[0]))
    commands = [
        fit_words(kind, tmp_path / "fine", *RUNS[0]),
        fit_words([*kind, "--model.max_length", "2"], tmp_path / "bad", *RUNS[1]),
        fit_words([*kind, "--ckpt_path", str(tmp_path / "absent.ckpt")], tmp_path / "absent", *RUNS[1]),
    ]
    codes, logs = together(commands, tmp_path)
    assert codes == [0, 2, 2]
    assert_alike(tmp_path / "fine", tmp_path / "alone")
    for log, said in zip(logs[1:], ["`model.max_length`=2", "`ckpt_path`="], strict=True):
        assert said in log.splitlines()[-1]
        assert "Traceback" not in log


def test_what_cannot_be_computed_together_trains_by_itself(config, tiny_t5, kronlit, tmp_path):
    kind = ["--config", str(config), "--trainer.max_epochs", "1"]
    text = [*kind, "--model", "TextToText", "--model.plm", str(tiny_t5)]
    each = {
        "KronA": (kind, ""),
        "LoRA": (kind, "is not set"),
        "IntrinsicSAID": (kind, "is not set"),
        "PromptTuning": (text, "is not set"),
    }
    commands = []
    for method, (own, _) in each.items():
        more = options(method)
        kronlit(*fit_words([*own, *more], tmp_path / f"alone-{method}", *RUNS[0]))
        commands.append(fit_words([*own, *more], tmp_path / f"together-{method}", *RUNS[0]))
    codes, logs = together(commands, tmp_path)
    assert codes == [0] * 4
    for (method, (_, said)), log in zip(each.items(), logs, strict=True):
        assert ("trains by itself" in log) == bool(said)
        assert said in log
        assert_alike(tmp_path / f"together-{method}", tmp_path / f"alone-{method}")


def test_runs_on_different_adapters_below_train_apart(config, tiny_bert, tmp_path):
    kind = ["--config", str(config), *options("KronA"), "--trainer.max_steps", "1"]
    commands = []
    for alpha in (1, 64):
        below = adapter(tiny_bert, tmp_path / f"below-{alpha}", LoRA(alpha=alpha))
        commands.append(fit_words([*kind, "--below", below], tmp_path / f"run-{alpha}", *RUNS[0]))
    codes, logs = together(commands, tmp_path)
    assert codes == [0, 0], logs
    assert ["is not set as that of the runs beside it" in log for log in logs] == [False, True]


@pytest.mark.parametrize(
    ("method", "more", "said"),
    [
        ("FullFineTuning", [], "no frozen weights"),
        ("IntrinsicSAID", [], "weights move"),
        ("PromptTuning", [], "soft prompt"),
        ("KronA", ["--model.gradient_checkpointing", "true"], "gradient_checkpointing"),
        pytest.param("KronA", ["--compile_layers", "true"], "compiled", marks=pytest.mark.slow),
    ],
)
def test_it_says_why(method, more, said, config, tiny_t5, tmp_path):
    kind = ["--config", str(config), "--model", "TextToText", "--model.plm", str(tiny_t5), "--trainer.max_steps", "1"]
    run = fit_words([*kind, *options(method), *more], tmp_path / method, *RUNS[0])
    codes, logs = together([run], tmp_path)
    assert codes == [0]
    assert said in next(line for line in logs[0].splitlines() if "trains by itself" in line)


@pytest.mark.slow
def test_asked_to_stop_all_save_and_go_on(config, kronlit, tmp_path):
    kind = ["--config", str(config), "--trainer.max_epochs", "30"]
    kronlit(*fit_words(kind, tmp_path / "alone-0", *RUNS[0]))
    kronlit(*fit_words(kind, tmp_path / "alone-1", *RUNS[1]))
    commands = [
        (
            fit_words([*kind, "--ckpt_path", "last"], tmp_path / f"together-{number}", *RUNS[number]),
            str(tmp_path / f"{number}.log"),
            str(tmp_path / f"{number}.code"),
        )
        for number in range(2)
    ]

    def started():
        line = [sys.executable, "-m", "kronlit.experimental.side_by_side"]
        process = subprocess.Popen(line, stdin=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path)
        with process.stdin as file:
            json.dump(commands, file)
        return process

    def codes():
        return [int((tmp_path / f"{number}.code").read_text()) for number in range(2)]

    process = started()
    while not list(tmp_path.glob("together-1/version_0/checkpoints/last.ckpt")):
        assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 0
    assert codes() == [75, 75]
    assert started().wait() == 0
    assert codes() == [0, 0]
    for number in range(2):
        assert_alike(tmp_path / f"together-{number}", tmp_path / f"alone-{number}")


@pytest.mark.slow
def test_a_study_side_by_side_is_that_study(config, kronlit, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    study = {
        "configs": [str(config)],
        "options": {"trainer.max_epochs": 1, "trainer.enable_progress_bar": False},
        "methods": ["KronA"],
        "tasks": ["rte"],
        "seeds": [1, 2],
        "grid": {"model.lr": [1e-2, 1e-3]},
    }
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(study))
    scores = {}
    for name, more in {"alone": [], "together": ["--side_by_side", "3"]}.items():
        code, out, err = kronlit("study", "--config", path, "--dir", tmp_path / name, *more)
        assert code == 0, out + err
        found = sorted((tmp_path / name).rglob("run.json"))
        results = [json.loads(file.read_text()) for file in found]
        assert [result["status"] for result in results] == ["done"] * 4
        scores[name] = {
            str(file.parent.relative_to(tmp_path / name)): result["summary"]["scores"]
            for file, result in zip(found, results, strict=True)
        }
        assert [result["side_by_side"] for result in results] == [1 if name == "alone" else 2] * 4
        processes = {result["pid"] for result in results}
        assert len(processes) == (4 if name == "alone" else 2)
    assert scores["alone"].keys() == scores["together"].keys()
    for run, ours in scores["together"].items():
        assert ours == pytest.approx(scores["alone"][run], rel=1e-3)


def models_of(folder, count):
    return [inject(AutoModelForSequenceClassification.from_pretrained(folder), KronA()) for _ in range(count)]


def test_the_frozen_weights_are_there_once_and_computed_once(tiny_bert):
    models = models_of(tiny_bert, 3)
    share_frozen(models)
    frozen = {p.data_ptr() for model in models for p in model.parameters() if not p.requires_grad}
    assert len(frozen) == len([p for p in models[0].parameters() if not p.requires_grad])
    rows = Rows()
    whole = join_modules(models, rows)
    own = {name for name, module in whole.named_modules() if isinstance(module, OwnModules)}
    layers = [f"bert.encoder.layer.{number}.attention.self.{part}" for number in (0, 1) for part in ("query", "value")]
    assert own == {"classifier", *(f"{layer}.matrix" for layer in layers)}
    calls = []
    layer = whole.get_submodule("bert.encoder.layer.0.intermediate.dense")
    layer.register_forward_hook(lambda module, args, y: calls.append(len(y)))
    rows.begin([2, 1, 3])
    logits = whole(input_ids=torch.randint(5, 60, (6, 7))).logits
    assert calls == [6]
    assert logits.shape == (6, 2)


def test_a_model_that_is_moved_away_leaves_the_others_theirs(tiny_bert):
    first, second = models_of(tiny_bert, 2)
    share_frozen([first, second])
    kept = {name: parameter.clone() for name, parameter in second.named_parameters()}
    first.to("meta")  # as Lightning moves a run that ends from the GPU
    for name, parameter in second.named_parameters():
        torch.testing.assert_close(parameter, kept[name])


def test_what_is_tied_stays_tied(tiny_gpt2):
    models = [inject(AutoModelForCausalLM.from_pretrained(tiny_gpt2), KronA()) for _ in "12"]
    assert all(model.lm_head.weight is model.transformer.wte.weight for model in models)
    share_frozen(models)
    assert models[1].lm_head.weight is models[1].transformer.wte.weight
    assert models[1].lm_head.weight.data_ptr() == models[0].lm_head.weight.data_ptr()


def test_a_bad_batch_is_the_error_of_its_run_alone(tiny_bert):
    modules, group = [], Group()
    for _ in range(3):
        module = SequenceClassification(str(tiny_bert), KronA(), GLUE_TASKS["rte"])
        module.model = models_of(tiny_bert, 1)[0].train()
        modules.append(module)
        group.add(module, "")
    batches = [
        {"row": torch.arange(2), "label": torch.tensor([0, label]), "input_ids": torch.randint(5, 60, (2, 6 + label))}
        for label in (1, 9, 0)
    ]
    batches = [batch | {"attention_mask": torch.ones_like(batch["input_ids"])} for batch in batches]
    group.turns = Turns([], [], group.serve)
    group.turns.surroundings = [Surroundings.now() for _ in range(3)]
    expected = {}
    for index in (0, 2):
        torch.set_rng_state(group.turns.surroundings[index].torch["cpu"])
        expected[index] = modules[index].training_pass(batches[index])[0]
    answers = group.serve({i: Pass(modules[i], batches[i]) for i in range(3)})
    assert isinstance(answers[1], IndexError)
    for index, losses in expected.items():
        torch.testing.assert_close(answers[index].outer[0], losses)


def test_a_run_that_breaks_in_training_stops_no_other(config, kronlit, tmp_path):
    kind = ["--config", str(config), "--trainer.max_epochs", "2"]
    kronlit(*fit_words(kind, tmp_path / "alone-0", *RUNS[0]))
    kronlit(*fit_words(kind, tmp_path / "alone-1", *RUNS[1]))
    commands = [
        fit_words(kind, tmp_path / "breaks", "3", "8", "1e30"),
        fit_words(kind, tmp_path / "together-0", *RUNS[0]),
        fit_words(kind, tmp_path / "together-1", *RUNS[1]),
    ]
    codes, logs = together(commands, tmp_path)
    assert codes == [2, 0, 0]
    assert "loss" in logs[0].splitlines()[-1]
    for number in range(2):
        assert_alike(tmp_path / f"together-{number}", tmp_path / f"alone-{number}")


def test_runs_in_16_bits_share_their_precision(config, kronlit, tmp_path):
    kind = ["--config", str(config), "--trainer.max_epochs", "1", "--trainer.precision", "bf16-mixed"]
    kronlit(*fit_words(kind, tmp_path / "alone", *RUNS[0]))
    commands = [fit_words(kind, tmp_path / f"together-{number}", *run) for number, run in enumerate(RUNS)]
    commands.append(fit_words(kind[:-2], tmp_path / "float32", *RUNS[0]))
    codes, logs = together(commands, tmp_path)
    assert codes == [0] * 4
    assert ["trains by itself" in log for log in logs] == [False, False, False, True]
    # To bfloat16's rounding, of which a sum of other rows has another.
    ours, theirs = (left(tmp_path / name)[0] for name in ("together-0", "alone"))
    for our_row, their_row in zip(ours, theirs, strict=True):
        assert our_row.get("train/loss", 0) == pytest.approx(their_row.get("train/loss", 0), rel=0.02)


def test_several_devices_are_refused(config, tmp_path):
    kind = ["--config", str(config)]
    run = fit_words(kind, tmp_path / "two", *RUNS[0])
    run[run.index("--trainer.devices") + 1] = "2"
    codes, logs = together([run], tmp_path)
    assert codes == [2]
    assert "`trainer.devices`" in logs[0].splitlines()[-1]


def test_groups_leave_every_process_its_share():
    study = Study(
        methods=["A", "B"], tasks=["t"], seeds=[1, 2, 3, 4], grid={"model.lr": [1, 2], "model.max_length": [8, 9]}
    )
    runs = plan(study)
    groups = group_runs(runs, 8, 1)
    assert [len(group) for group in groups] == [8] * 4
    assert all(len({(one.method, one.point["model.max_length"]) for one in group}) == 1 for group in groups)
    assert [len(group) for group in group_runs(runs, 8, 4)] == [2] * 16
    assert sorted(len(group) for group in group_runs(runs, 3, 2)) == [2] * 4 + [3] * 8
    assert [len(group) for group in group_runs(runs, 1, 1)] == [1] * 32


def test_a_run_that_died_with_its_group_has_its_own_code(tmp_path, monkeypatch):
    # A process of two of which one ended well, the other was stopped, and then it was killed.
    program = """
import json, os, signal, sys
from pathlib import Path
(_, _, first), (words, log, second) = json.load(sys.stdin)
Path(first).write_text("2\\n")
Path(log).open("a").write("kronlit: all is lost\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""
    package = tmp_path / "stand_in/kronlit/experimental"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "side_by_side.py").write_text(program)
    runs = plan(Study(methods=["A"], tasks=["t"], seeds=[1, 2]))
    started = RunProcess(runs, tmp_path, os.environ | {"PYTHONPATH": str(package.parents[1])}, (), None)
    started.process.wait()
    first, second = started.collect()
    assert (first.status, first.exit_code) == ("failed", 2)
    assert (second.status, second.exit_code) == ("failed", -9)
    assert "SIGKILL" in second.error


def test_a_member_whose_end_cannot_be_printed_lets_the_others_go_on():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    def fails():
        raise RuntimeError("lost")

    turns = Turns([fails, lambda: 7], [Full(), io.StringIO()], lambda asked: asked)
    assert turns.run() == [None, 7]


def test_an_answer_that_is_an_error_is_raised_where_it_was_asked_for():
    def member(turns, number):
        try:
            return turns[0].meet(number)
        except ValueError as error:
            return str(error)

    turns = []
    logs = [io.StringIO() for _ in range(3)]

    def serve(asked):
        return {index: ValueError("odd") if request % 2 else request for index, request in asked.items()}

    turns.append(Turns([functools.partial(member, turns, number) for number in (4, 5, 6)], logs, serve))
    assert turns[0].run() == [4, "odd", 6]


def test_each_member_has_its_own_random_numbers_and_output():
    def member(turns, seed):
        torch.manual_seed(seed)
        drawn = []
        for _ in range(3):
            drawn.append(torch.rand(()).item())
            print(f"drew {len(drawn)}")
            assert turns[0].meet(seed) == seed * 10
        return drawn

    def alone(seed):
        generator = torch.Generator().manual_seed(seed)
        return [torch.rand((), generator=generator).item() for _ in range(3)]

    logs = [io.StringIO() for _ in range(3)]
    turns = []
    members = [functools.partial(member, turns, seed) for seed in (5, 6, 7)]
    turns.append(Turns(members, logs, lambda asked: {index: 10 * request for index, request in asked.items()}))
    before, out = torch.get_rng_state(), sys.stdout
    assert turns[0].run() == [alone(seed) for seed in (5, 6, 7)]
    assert [log.getvalue() for log in logs] == ["drew 1\ndrew 2\ndrew 3\n"] * 3
    assert torch.equal(torch.get_rng_state(), before)
    assert sys.stdout is out
