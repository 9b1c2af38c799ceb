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
