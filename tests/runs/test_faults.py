"""What goes wrong on a machine: numbers that are none, damaged checkpoints, a full disk, two runs in one place."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures.runs import environment, rows_of

from kronlit.modules import SequenceClassification
from kronlit.training.checkpoint import AtomicCheckpoint

RUN = Path("runs/small/version_0")
LAST = RUN / "checkpoints/last.ckpt"


def weights(run):
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], value) for name, value in theirs.items())


def the_line(err):
    (line,) = [line for line in err.splitlines() if line.startswith("kronlit: ")]
    assert "Traceback" not in err
    return line


# --- numbers that are none ---


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_stops_with_step_and_rows(kronlit, config, monkeypatch, value):
    rows = []
    real = SequenceClassification.training_pass

    def spoilt(self, batch):
        losses, rest = real(self, batch)
        if self.trainer.global_step == 3:  # the second of the second epoch
            rows.extend(batch["row"].tolist())
            losses = losses * float(value)
        return losses, rest

    monkeypatch.setattr(SequenceClassification, "training_pass", spoilt)
    code, _, err = kronlit("fit", "--config", config)
    assert code == 2
    assert the_line(err).startswith(f"kronlit: the loss is {value} for the training rows {rows} at step 3. Try a lower")
    assert torch.load(LAST, weights_only=True)["global_step"] == 2
    assert all(tensor.isfinite().all() for tensor in weights(RUN).values())


def test_weights_that_are_no_numbers_are_not_saved(kronlit, config, monkeypatch):
    def spoil(self, *_):
        if self.trainer.global_step == 4:
            next(p for p in self.parameters() if p.requires_grad).data.flatten()[0] = float("nan")

    monkeypatch.setattr(SequenceClassification, "on_train_batch_end", spoil)
    monkeypatch.setattr(SequenceClassification, "on_train_epoch_end", lambda self: None)
    code, _, err = kronlit("fit", "--config", config)
    assert code == 2
    assert re.search(r"kronlit: model\.\S+ is no longer finite after step 4: nothing of it is saved", the_line(err))
    assert torch.load(LAST, weights_only=True)["global_step"] == 2


@pytest.mark.slow
def test_two_processes_stop_together_where_one_has_no_number(config, tmp_path):
    (tmp_path / "main.py").write_text("""
import torch
from kronlit.__main__ import main
from kronlit.modules import SequenceClassification as Module
real = Module.training_pass
def spoilt(self, batch):
    losses, rest = real(self, batch)
    if self.global_rank == 1:
        print("the rows are", batch["row"].tolist(), flush=True)
        losses = losses * float("nan")
    return losses, rest
Module.training_pass = spoilt
main()
""")
    words = ["fit", "--config", config, "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    words = [*map(str, [sys.executable, tmp_path / "main.py", *words])]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment())
    assert done.returncode == 2, done.stderr
    rows = re.search(r"the rows are (\[.*\])", done.stdout)[1]
    assert f"kronlit: the loss is nan for the training rows {rows} at step 0." in done.stderr
    assert "Traceback" not in done.stderr


# --- damaged checkpoints ---


@pytest.fixture
def intact(tmp_path):
    path = tmp_path / "one.ckpt"
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(5, 7, generator=generator) for name in ("a", "b")}
    AtomicCheckpoint().save_checkpoint({"state_dict": state, "epoch": 3, "note": "whole"}, path)
    return path


def loads_as(path, original):
    """Whether a file is refused by name, or else is what was saved."""
    try:
        found = AtomicCheckpoint().load_checkpoint(path)
    except ValueError as error:
        return str(path) in str(error)
    rest = {name: value for name, value in found.items() if name != "state_dict"}
    return rest == {"epoch": 3, "note": "whole"} and same(found["state_dict"], original["state_dict"])


def test_a_flipped_bit_is_found_wherever_it_matters(intact):
    content, original = intact.read_bytes(), torch.load(intact, weights_only=True)
    found = 0
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        intact.write_bytes(damaged)
        assert loads_as(intact, original), place
    first = content.index(original["state_dict"]["a"].numpy().tobytes())
    for place in range(first, first + 4 * 35):  # a tensor's own bytes
        damaged = bytearray(content)
        damaged[place] ^= 1
        intact.write_bytes(damaged)
        with pytest.raises(ValueError, match="it is damaged"):
            AtomicCheckpoint().load_checkpoint(intact)
        found += 1
    assert found == 140


def test_a_checkpoint_that_was_cut_short_is_found(intact):
    content = intact.read_bytes()
    for size in range(0, len(content), 7):
        intact.write_bytes(content[:size])
        with pytest.raises(ValueError, match=re.escape(str(intact))):
            AtomicCheckpoint().load_checkpoint(intact)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def test_a_damaged_last_checkpoint_is_named_and_the_best_goes_on(kronlit, config, tmp_path):
    always = ["--config", config, "--trainer.log_every_n_steps", "1", "--trainer.max_epochs", "3"]
    always += ["--best_checkpoint.monitor", "val/loss", "--best_checkpoint.mode", "max"]  # the first epoch's
    assert kronlit("fit", *always, "--run_dir", "whole")[0] == 0
    assert kronlit("fit", *always)[0] == 0
    (best,) = RUN.glob("checkpoints/best*.ckpt")
    LAST.write_bytes(LAST.read_bytes()[:-1000])
    code, _, err = kronlit("fit", *always, "--ckpt_path", "last")
    assert code == 0
    assert f"the checkpoint {str(LAST)!r} cannot be read: it is damaged" in err
    assert f"Going on from {best}." in err
    assert rows_of(RUN) == rows_of(tmp_path / "whole/version_0")
    assert same(weights(RUN), weights(tmp_path / "whole/version_0"))

    (best,) = RUN.glob("checkpoints/best*.ckpt")
    damage(best)
    LAST.write_bytes(b"")
    code, _, err = kronlit("fit", *always, "--ckpt_path", "last")
    assert code == 2
    assert all(str(path) in the_line(err) for path in (LAST, best))
    assert "delete" in the_line(err)
    code, _, err = kronlit("test", *always, "--ckpt_path", "best")
    assert code == 2
    assert f"the checkpoint {str(best)!r} cannot be read" in the_line(err)


# --- a full disk ---


# Its event files are TensorBoard's, which a thread of its own writes.
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "left", [0, 20_000, *(pytest.param(left, marks=pytest.mark.matrix) for left in (5_000, 30_000))]
)
def test_a_full_disk_is_said_and_leaves_the_last_checkpoint_whole(kronlit, config, small_disk, tmp_path, left):
    def fit(folder, epochs):
        words = ["--ckpt_path", "last", "--run_dir", folder, "--trainer.max_epochs", epochs]
        return kronlit("fit", "--config", config, "--trainer.log_every_n_steps", "1", *words)

    assert fit("whole", 1)[0] == fit("whole", 3)[0] == 0
    assert fit(small_disk, 1)[0] == 0
    run = small_disk / "version_0"
    before = (run / "checkpoints/last.ckpt").read_bytes()
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        filler.write(bytes(shutil.disk_usage(small_disk).free - left))

    code, _, err = fit(small_disk, 3)
    assert code == 2
    assert "No space left on device" in the_line(err)
    assert (run / "checkpoints/last.ckpt").read_bytes() == before
    assert not list(run.rglob("*.partial"))
    (small_disk / "filler").unlink()
    assert fit(small_disk, 3)[0] == 0
    assert same(weights(run), weights(tmp_path / "whole/version_0"))


# --- two runs in one place ---


def test_a_run_that_goes_on_elsewhere_is_not_taken_up(kronlit, config):
    assert kronlit("fit", "--config", config, "--trainer.max_epochs", "1")[0] == 0
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    lock = "import fcntl; f = open({!r}, 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    words = [sys.executable, "-c", lock.format(str(RUN / "lock"))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        code, _, err = kronlit("fit", "--config", config, "--ckpt_path", "last")
        assert code == 2
        assert f"the run in {str(RUN)!r} is going on in another process" in the_line(err)
        assert {path: path.read_bytes() for path in before} == before
        assert kronlit("fit", "--config", config, "--trainer.max_epochs", "1")[0] == 0  # in a folder of its own
        other.stdin.close()
    assert (RUN.parent / "version_1/summary.json").exists()
    assert kronlit("fit", "--config", config, "--ckpt_path", "last", "--trainer.max_epochs", "1")[0] == 0
