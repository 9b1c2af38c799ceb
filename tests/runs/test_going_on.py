"""A training that goes on keeps its settings and its rows, and what may change does what is said."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from kronlit.data import GLUE, TextFiles
from kronlit.data.batches import LengthGroupedBatches, ResumableLoader
from kronlit.training.checkpoint import AtomicCheckpoint

LAST = Path("runs/small/version_0/checkpoints/last.ckpt")


@pytest.fixture
def begun(kronlit, config):
    """The words of a run of two epochs that has ended, of two steps each."""
    words = ["--config", config, "--trainer.log_every_n_steps", "1", "--model.warmup", "1"]
    code, _, err = kronlit("fit", *words)
    assert code == 0, err
    return words


def line(err):
    return err.strip().splitlines()[-1]


def test_what_the_optimizer_or_the_checkpoint_would_pass_over_is_refused(kronlit, begun, tmp_path):
    before = LAST.read_bytes()
    for option, value in (
        ("model.lr", "0.5"),
        ("model.weight_decay", "0.1"),
        ("model.warmup", "0.5"),
        ("seed_everything", "7"),
        ("data.max_train_samples", "30"),
        ("data.split_seed", "7"),
        ("data.splits", "official"),
    ):
        code, _, err = kronlit("fit", *begun, f"--{option}", value, "--ckpt_path", "last")
        assert code == 2, option
        assert f"`{option}`={value}" in line(err)
        assert "Traceback" not in err
    assert LAST.read_bytes() == before
    assert not list(tmp_path.glob("runs/small/version_0/config-resumed*"))
    code, _, err = kronlit("fit", *begun, "--model.lr", "0.5", "--ckpt_path", LAST)  # a file, too
    assert code == 2
    assert "was begun with 0.001" in line(err)


def test_the_cure_for_another_learning_rate_works(kronlit, begun):
    assert kronlit("export", "--ckpt_path", "runs/small", "--output", "mine", "--format", "kronlit")[0] == 0
    code, out, err = kronlit("fit", *begun, "--model.lr", "0.5", "--init_adapter", "mine", "--run_dir", "new")
    assert code == 0, err
    assert "starting from mine" in out


def test_more_epochs_are_trained_by_the_schedule_that_is_said(kronlit, begun):
    code, out, err = kronlit("fit", *begun, "--trainer.max_epochs", "4", "--ckpt_path", "last")
    assert code == 0, err
    said = re.search(r"has 8 steps now, where it had 4: from step 4 the learning rate goes on at (\S+),", out)
    with Path("runs/small/version_0/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rates = {int(row["step"]): float(row["train/lr"]) for row in rows if row["train/lr"]}
    linear = [1e-3 * (8 - step) / 7 for step in range(4, 8)]  # one step of warm-up
    assert [rates[step] for step in range(4, 8)] == pytest.approx(linear)
    assert float(said[1]) == pytest.approx(linear[0], rel=1e-4)


def test_the_same_length_is_gone_on_with_in_silence(kronlit, begun):
    code, out, err = kronlit("fit", *begun, "--ckpt_path", "last")
    assert code == 0, err
    assert "steps now" not in out


def test_a_seed_that_is_drawn_is_that_of_the_run_and_recorded(kronlit, begun, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")  # which Lightning draws
    code, _, err = kronlit("fit", *begun, "--seed_everything", "true", "--ckpt_path", "last")
    assert code == 0, err
    saved = yaml.safe_load(next(Path("runs/small/version_0").glob("config-resumed*")).read_text())
    assert saved["seed_everything"] == 42


def test_a_checkpoint_of_before_goes_on(kronlit, begun):
    content = AtomicCheckpoint().load_checkpoint(LAST)
    content["kronlit"] = {name: content["kronlit"][name] for name in ("method", "plm")}
    del content["GLUE"]["rows"]
    AtomicCheckpoint().save_checkpoint(content, LAST)
    assert kronlit("fit", *begun, "--trainer.max_epochs", "3", "--ckpt_path", "last")[0] == 0


# --- rows ---


def texts(path, count, labels="ab"):
    rows = [f"text {n},{labels[n * 7 % 5 % len(labels)]}" for n in range(count)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return str(path)


def state(data):
    return json.loads(json.dumps({"rows": data.trained_rows}))


def test_rows_are_known_by_what_they_are_wherever_they_lie(tmp_path):
    mine = TextFiles(texts(tmp_path / "mine.csv", 40))
    moved = TextFiles(texts(tmp_path / "moved.csv", 40))
    for command in ("fit", "validate"):
        moved.check_trained_rows(state(mine), command)
    TextFiles(mine.files["train"], max_train_samples=99).check_trained_rows(state(mine), "fit")  # of 36: no limit


@pytest.mark.parametrize(
    ("count", "arguments", "said"),
    [
        (41, {}, "37 rows to train on that are not the 36 of the checkpoint"),
        (40, {"split_seed": 7}, "`data.split_seed`=7, where the checkpoint had 42"),
        (40, {"validation": 0.25}, "`data.validation`=0.25, where the checkpoint had 0.1"),
        (40, {"test": 0.2}, "`data.test`=0.2, where the checkpoint had None"),
        (40, {"max_train_samples": 20}, "`data.max_train_samples`=20, where the checkpoint had None"),
    ],
)
def test_rows_that_would_move_are_refused(tmp_path, count, arguments, said):
    mine = TextFiles(texts(tmp_path / "mine.csv", 40))
    other = TextFiles(texts(tmp_path / "other.csv", count), **arguments)
    with pytest.raises(ValueError, match=re.escape(said)):
        other.check_trained_rows(state(mine), "fit")
    if "max_train_samples" in arguments:  # the same are held out
        other.check_trained_rows(state(mine), "validate")
    else:
        with pytest.raises(ValueError, match="rows that were trained on would be among those that are scored"):
            other.check_trained_rows(state(mine), "validate")
    other.files["validation"] = mine.files["train"]  # rows of its own are not held out
    other.check_trained_rows(state(mine), "validate")


def test_official_rows_are_scored_whatever_was_held_out_before(glue):
    held = {task: GLUE(task, str(glue), splits="mahabadi") for task in ("qnli", "rte")}
    for task, data in held.items():
        official = GLUE(task, str(glue))
        official.check_trained_rows(state(data), "validate")  # never trained on
        official.check_trained_rows(state(data), "predict")
        other = GLUE(task, str(glue), splits="mahabadi", split_seed=1)
        with pytest.raises(ValueError, match=r"`data.split_seed`=1, where the checkpoint had 42"):
            other.check_trained_rows(state(data), "validate")
    with pytest.raises(ValueError, match=r"`data.splits`=mahabadi, where the checkpoint had official"):
        held["qnli"].check_trained_rows(state(GLUE("qnli", str(glue))), "validate")
    held["qnli"].check_trained_rows(state(GLUE("qnli", str(glue))), "test")


def test_rows_that_are_not_here_are_not_needed_to_score_others(glue, tmp_path):
    (tmp_path / "rte").mkdir()
    shutil.copy(glue / "rte/validation.parquet", tmp_path / "rte")
    held = state(GLUE("rte", str(glue), splits="mahabadi"))
    GLUE("rte", str(tmp_path), splits="mahabadi").check_trained_rows(held, "test")


def test_tokens_of_another_length_are_refused_within_an_epoch_alone():
    def loader(lengths):
        batches = LengthGroupedBatches(lengths, 2, shuffle=True)
        return ResumableLoader(torch.arange(8), batches, lambda: 4)

    ours, other = loader(list(range(8))), loader([1] * 8)
    next(iter(ours))
    within = ours.state_dict() | {"given": 1}
    loader(list(range(8))).load_state_dict(within)
    with pytest.raises(ValueError, match=r"`model.max_length`"):
        other.load_state_dict(within)
    other.load_state_dict(within | {"given": 0})
