"""A run is complete in its own folder, and can be used from there."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from kronlit.modules import SequenceClassification
from kronlit.studies.result import newest_fit

OTHER_LOGGER = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "elsewhere"]


def columns(path):
    with path.open(newline="") as file:
        return set(csv.DictReader(file).fieldnames)


@pytest.mark.parametrize("words", [OTHER_LOGGER, ["--trainer.logger", "false"], ["--trainer.logger", "[]"]])
def test_a_run_is_complete_in_its_own_folder_whatever_logs_beside(kronlit, config, tmp_path, words):
    code, _, err = kronlit("fit", "--config", config, "--trainer.max_epochs", "1", *words)
    assert code == 0, err
    run = tmp_path / "runs/small/version_0"
    assert (run / "config.yaml").exists()
    assert (run / "checkpoints/last.ckpt").exists()
    assert list(run.glob("checkpoints/best*.ckpt"))
    if words == OTHER_LOGGER:
        assert {"train/epoch_seconds", "val/score"} <= columns(run / "metrics.csv")
        assert "val/score" in columns(tmp_path / "elsewhere/lightning_logs/version_0/metrics.csv")
        assert newest_fit(run.parent)[1]["scores"]["val/accuracy"] >= 0
        assert not list((tmp_path / "elsewhere").rglob("*.ckpt"))
    more = ["--trainer.max_epochs", "2", "--ckpt_path", "last"]
    code, out, err = kronlit("fit", "--config", config, *words, *more)
    assert code == 0, err
    assert "starting afresh" not in out
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4


def test_checkpoints_that_no_command_would_find_are_told(kronlit, config):
    always = ["fit", "--config", config, "--trainer.max_steps", "1"]
    assert "do not look" not in kronlit(*always)[2]
    words = ["--best_checkpoint.filename", "{epoch}-{step}", "--last_checkpoint.dirpath", "away"]
    code, _, err = kronlit(*always, *words)
    assert code == 0
    assert "`best_checkpoint` writes where merge and `--ckpt_path best` do not look" in err
    assert "`last_checkpoint` writes where merge and `--ckpt_path last` do not look" in err
    assert Path("runs/small/version_1/checkpoints/last.ckpt").exists()  # the end, whatever else is written


def test_last_of_a_run_whose_checkpoints_are_gone_is_no_fresh_start(kronlit, config, tmp_path):
    assert kronlit("fit", "--config", config, "--trainer.max_epochs", "1")[0] == 0
    run = tmp_path / "runs/small/version_0"
    (run / "checkpoints").rename(tmp_path / "away")
    (run / "summary.json").unlink()  # as of one that was killed later
    code, _, err = kronlit("fit", "--config", config, "--ckpt_path", "last")
    assert code == 2
    assert "`ckpt_path`='last': the run in 'runs/small/version_0'" in err
    assert not (run.parent / "version_1").exists()
    assert kronlit("fit", "--config", config, "--trainer.max_steps", "1")[0] == 0  # the cure
    shutil.rmtree(run.parent / "version_1")
    (tmp_path / "away").rename(run / "checkpoints")  # the other one
    code, out, _ = kronlit("fit", "--config", config, "--ckpt_path", "last")
    assert (code, "starting afresh" in out) == (0, False)


def test_a_run_that_was_killed_between_its_best_and_its_last_checkpoint_goes_on_from_the_best(kronlit, config):
    assert kronlit("fit", "--config", config, "--trainer.max_epochs", "1")[0] == 0
    Path("runs/small/version_0/checkpoints/last.ckpt").unlink()
    code, out, err = kronlit("fit", "--config", config, "--ckpt_path", "last")
    assert code == 0
    assert "going on from runs/small/version_0/checkpoints/best" in err
    assert "starting afresh" not in out
    assert torch.load("runs/small/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4


def test_a_run_that_was_killed_in_its_first_validation_starts_afresh(kronlit, config, monkeypatch):
    def killed(self):
        raise OverflowError

    with monkeypatch.context() as patch:
        patch.setattr(SequenceClassification, "on_validation_end", killed, raising=False)
        with pytest.raises(OverflowError):
            kronlit("fit", "--config", config, "--trainer.num_sanity_val_steps", "0")
    assert "val/score" in columns(Path("runs/small/version_0/metrics.csv"))
    code, out, _ = kronlit("fit", "--config", config, "--ckpt_path", "last")
    assert (code, "runs/small has no checkpoint yet: starting afresh." in out) == (0, True)


@pytest.fixture
def moved(kronlit, tmp_path, tiny_bert, glue, monkeypatch):
    """A run that was started in another folder, on files that its config names from there, then moved and renamed."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    (home / "bert").symlink_to(tiny_bert)
    (home / "rte").mkdir()  # a folder that has the name of a task is not what the config means
    (home / "data").symlink_to(glue)
    words = ["--model", "SequenceClassification", "--model.plm", "bert", "--model.method", "KronA", "--data", "GLUE"]
    words += ["--data.task", "rte", "--data.path", "data", "--data.splits", "mahabadi", "--trainer.max_epochs", "1"]
    words += ["--trainer.accelerator", "cpu", "--run_dir", "runs/mine", "--test_after_fit", "true"]
    code, _, err = kronlit("fit", *words, "--scored_rows", "true")
    assert code == 0, err
    monkeypatch.chdir(tmp_path)
    return home / "runs/mine/version_0"


def scores(path, split):
    with path.open(newline="") as file:
        values = [{k: v for k, v in row.items() if v and k.startswith(f"{split}/")} for row in csv.DictReader(file)]
    return {name: float(value) for row in values for name, value in row.items()}


def test_a_run_is_evaluated_from_anywhere_by_its_folder_alone_and_written_to(kronlit, moved, tmp_path):
    before = {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()}
    for command, split in (("test", "test"), ("validate", "val"), ("test", "test")):
        code, _, err = kronlit(command, "--ckpt_path", moved, "--scored_rows", "true")
        assert code == 0, err
        known = scores(moved / "metrics.csv", split)
        assert scores(moved / command / "metrics.csv", split) == pytest.approx(known, rel=1e-5)
        assert (moved / command / f"{split}_rows.csv").exists()
    assert (moved / "test-2/metrics.csv").exists()
    assert {path: path.read_bytes() for path in before} == before
    best = next(moved.glob("checkpoints/best*.ckpt"))
    for number, path in enumerate((moved, moved.parent, best)):
        code, out, err = kronlit("predict", "--ckpt_path", path)
        assert code == 0, err
        written = moved / f"predict{f'-{number + 1}' if number else ''}/predictions.jsonl"
        assert f"predictions in {written}" in out
        assert set(json.loads(written.read_text().splitlines()[0])) >= {"sentence1", "label"}
    assert [path.name for path in moved.parent.iterdir()] == ["version_0"]
    assert not list(tmp_path.glob("runs"))
    code, _, err = kronlit("test", "--ckpt_path", moved, "--run_dir", "mine")  # as of one that may not be written to
    assert code == 0, err
    assert (tmp_path / "mine/version_0/metrics.csv").exists()


def test_a_run_that_is_moved_and_renamed_goes_on_there_with_its_best(kronlit, moved, tmp_path, monkeypatch):
    other = moved.parent / "version_1"
    shutil.copytree(moved, other)  # a newer one beside it
    whole = ["--trainer.max_epochs", "2", "--ckpt_path", "last"]
    with monkeypatch.context() as patch:
        patch.chdir(moved.parents[2])
        assert kronlit("fit", "--config", other / "config.yaml", *whole)[0] == 0
    here = tmp_path / "good"
    shutil.move(moved, here)
    code, _, err = kronlit("test", "--config", here / "config.yaml", "--ckpt_path", "best")
    assert code == 2  # its data is not here, and nothing says where it came from
    paths = ["--data.path", tmp_path / "home/data", "--model.plm", tmp_path / "home/bert"]
    code, _, err = kronlit("test", "--config", here / "config.yaml", "--ckpt_path", "best", *paths)
    assert code == 0, err
    code, _, err = kronlit("fit", "--config", here / "config.yaml", *whole, *paths)
    assert code == 0, err
    ours, theirs = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (here, other))
    assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())


def test_a_run_that_was_renamed_keeps_the_best_that_it_had(kronlit, config):
    assert kronlit("fit", "--config", config, "--trainer.max_epochs", "1", "--model.lr", "0")[0] == 0
    Path("runs/small/version_0").rename("good")
    before = list(Path("good").glob("checkpoints/best*.ckpt"))
    words = ["--trainer.max_epochs", "2", "--ckpt_path", "last"]
    code, _, err = kronlit("fit", "--config", "good/config.yaml", *words)  # it learns nothing: the first stays the best
    assert code == 0, err
    assert list(Path("good").glob("checkpoints/best*.ckpt")) == before
    state = torch.load("good/checkpoints/last.ckpt", weights_only=True)["callbacks"]
    assert [v["best_model_path"] for k, v in state.items() if "val/score" in k] == [str(before[0])]


def test_a_run_is_merged_from_another_folder(kronlit, moved):
    code, _, err = kronlit("merge", "--ckpt_path", moved, "--output", "merged")
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ckpt_path", "nowhere"], "`ckpt_path`='nowhere' is neither a checkpoint nor the folder of a run"),
        (["--ckpt_path", "lost.ckpt"], "name a `config`, too"),
        (["--ckpt_path", "best"], "name a `config`, or the folder of a run"),
    ],
)
def test_a_run_that_cannot_be_found_is_told(kronlit, tmp_path, words, said):
    (tmp_path / "lost.ckpt").touch()
    code, _, err = kronlit("test", *words)
    assert code == 2
    assert said in err
