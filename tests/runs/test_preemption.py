"""A run that is asked to stop saves between two batches, and goes on as if it had never stopped."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from fixtures.runs import environment, rows_of
from lightning.pytorch.callbacks import Callback

from kronlit.modules import SequenceClassification
from kronlit.training import signals
from kronlit.training.paused import paused_after


@pytest.fixture(autouse=True)
def _nothing_heard(monkeypatch):
    monkeypatch.setattr(signals, "_received", [])


def weights(run):
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


EVERY_BATCH, NO_VALIDATION = ["--trainer.val_check_interval", "1"], ["--trainer.limit_val_batches", "0"]
ACCUMULATING = ["--trainer.accumulate_grad_batches", "4"]
NEVER = ["--trainer.check_val_every_n_epoch", "10"]
OVER_EPOCHS = ["--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "4"]


# 41 rows in batches of 8: six batches an epoch, two epochs.
@pytest.mark.parametrize(
    ("stop", "more"),
    [
        (0, []),
        pytest.param(0, [*NO_VALIDATION, "--data.batch_size", "64"], marks=pytest.mark.matrix),
        (5, []),
        (3, EVERY_BATCH),
        pytest.param(0, ACCUMULATING, marks=pytest.mark.matrix),
        (4, ACCUMULATING),
        (5, NO_VALIDATION),
        (3, OVER_EPOCHS),
        pytest.param(0, [*NEVER, "--data.batch_size", "64"], marks=pytest.mark.matrix),
        (5, NEVER),
    ],
)
def test_a_run_that_is_asked_to_stop_goes_on_exactly(kronlit, config, tmp_path, monkeypatch, stop, more):
    always = ["--config", config, "--data.batch_size", "8", "--trainer.log_every_n_steps", "1", *more]
    always += ["--trainer.max_epochs", "2", "--model.lr", "0.01"]
    assert kronlit("fit", *always, "--run_dir", "whole")[0] == 0
    start = SequenceClassification.on_train_batch_start

    def ask(self, batch, batch_idx):
        if self.trainer.fit_loop.total_batch_idx == stop:
            os.kill(os.getpid(), signal.SIGUSR1)
        start(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceClassification, "on_train_batch_start", ask)
        code, out, _ = kronlit("fit", *always)
    assert code == 75
    assert "asked to stop: saved" in out
    monkeypatch.setattr(signals, "_received", [])
    code, out, _ = kronlit("fit", *always, "--ckpt_path", "last")
    assert code == 0
    assert "starting afresh" not in out
    whole, again = tmp_path / "whole/version_0", tmp_path / "runs/small/version_0"
    assert rows_of(again) == rows_of(whole)
    assert all(torch.equal(weights(again)[name], value) for name, value in weights(whole).items())


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--trainer.val_check_interval", "2"],
        NEVER,
        *(pytest.param(more, marks=pytest.mark.matrix) for more in (ACCUMULATING, NO_VALIDATION)),
    ],
)
def test_a_run_that_pauses_after_epochs_goes_on_exactly(kronlit, config, tmp_path, more):
    always = ["--config", config, "--data.batch_size", "8", "--trainer.log_every_n_steps", "1", *more]
    always += ["--trainer.max_epochs", "4", "--model.lr", "0.01", "--model.warmup", "0.1"]
    assert kronlit("fit", *always, "--run_dir", "whole")[0] == 0
    for epochs in (1, 2):
        code, out, _ = kronlit("fit", *always, "--ckpt_path", "last", "--stop_after_epochs", epochs)
        assert code == 75
        assert f"paused after {epochs} epochs" in out
        assert max(int(row["epoch"]) for row in rows_of(tmp_path / "runs/small/version_0")) == epochs - 1
        assert paused_after(tmp_path / "runs/small/version_0") == epochs
    # Asked again for what it has done, it trains nothing.
    before = rows_of(tmp_path / "runs/small/version_0")
    assert kronlit("fit", *always, "--ckpt_path", "last", "--stop_after_epochs", 2)[0] == 75
    assert rows_of(tmp_path / "runs/small/version_0") == before
    assert kronlit("fit", *always, "--ckpt_path", "last", "--stop_after_epochs", 4)[0] == 0  # no pause at the end
    whole, again = tmp_path / "whole/version_0", tmp_path / "runs/small/version_0"
    assert rows_of(again) == rows_of(whole)
    assert all(torch.equal(weights(again)[name], value) for name, value in weights(whole).items())


def test_a_run_cannot_pause_before_its_first_epoch(kronlit, config):
    code, _, err = kronlit("fit", "--config", config, "--stop_after_epochs", "0")
    assert (code, err.splitlines()[-1]) == (2, "kronlit: `stop_after_epochs`=0 must be at least 1.")


def test_nothing_is_saved_while_the_validation_that_belongs_to_it_is_still_to_come(
    kronlit, config, tmp_path, monkeypatch
):
    def ask(self):
        os.kill(os.getpid(), signal.SIGUSR1)

    def killed(self):
        raise OverflowError

    with monkeypatch.context() as patch:
        patch.setattr(SequenceClassification, "on_train_epoch_start", ask)
        patch.setattr(SequenceClassification, "on_validation_start", killed)
        with pytest.raises(OverflowError):
            kronlit("fit", "--config", config, "--data.batch_size", "64", "--trainer.num_sanity_val_steps", "0")
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


def test_a_run_that_is_asked_in_its_last_epochs_validation_ends_as_usual(kronlit, config, monkeypatch):
    patched = SequenceClassification.on_validation_epoch_end

    def ask(self):
        if self.trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        patched(self)

    monkeypatch.setattr(SequenceClassification, "on_validation_epoch_end", ask)
    assert kronlit("fit", "--config", config)[0] == 0


def test_in_a_job_sigterm_is_heeded_too(kronlit, config, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Callback, "on_train_start", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        code, out, _ = kronlit("fit", "--config", config, "--data.batch_size", "8")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 75
    assert "asked to stop: saved" in out


def test_a_signal_while_the_libraries_are_imported_stops_the_run_after_its_first_batch(config, tmp_path):
    code = """
import os, signal, sys
class Import:
    def find_spec(self, name, *rest):
        if name == "torch":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGUSR1)
from kronlit.__main__ import main
sys.meta_path.insert(0, Import())
main()
"""
    words = [sys.executable, "-c", code, "fit", "--config", str(config), "--data.batch_size", "8"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment())
    assert done.returncode == 75, done.stderr
    assert "last.ckpt after step 1." in done.stdout


@pytest.mark.slow
def test_two_processes_stop_together_when_one_is_asked(config, tmp_path):
    code = """
import os, signal, sys
from kronlit.__main__ import main
if len(sys.argv) and sys.argv[1] == "fit":
    from lightning.pytorch.callbacks import RichProgressBar as Bar
    from kronlit.modules import SequenceClassification as Module
    start = Module.on_train_batch_start
    def ask(self, batch, batch_idx):
        if self.global_rank == 1 and self.trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        start(self, batch, batch_idx)
    if os.environ.get("ASK"):
        Module.on_train_batch_start = ask
main()
"""
    script = tmp_path / "main.py"
    script.write_text(code)

    def fit(name, code, **more):
        words = [sys.executable, script, "fit", "--config", config, "--run_dir", name, "--data.batch_size", "4"]
        words += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.log_every_n_steps", "1"]
        words += ["--ckpt_path", "last", "--trainer.max_epochs", "1"]
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=tmp_path, env=environment(**more))
        assert done.returncode == code, done.stderr
        return tmp_path / name / "version_0"

    fit("again", 75, ASK="1")
    again, whole = fit("again", 0), fit("whole", 0)
    assert rows_of(again) == rows_of(whole)
    assert all(torch.equal(weights(again)[name], value) for name, value in weights(whole).items())
