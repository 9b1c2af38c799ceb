"""Every fit that ends leaves its end in last.ckpt, and goes on from there as one that did not end."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, Timer
from torch.optim.lr_scheduler import LambdaLR

from kronlit.exchange.saved_run import saved_run


@pytest.fixture(autouse=True)
def _constant_rate(monkeypatch):
    """The decay to zero at the last step would tell a run of more steps from one of fewer."""
    monkeypatch.setattr(
        "kronlit.modules.optimized.new_schedule", lambda name, optimizer, *_: LambdaLR(optimizer, lambda _: 1.0)
    )


@pytest.fixture(scope="module")
def undisturbed():
    """What runs without an end in between came to, by whether they accumulate gradients."""
    return {}


def last(run_dir):
    return torch.load(Path(run_dir, "version_0/checkpoints/last.ckpt"), weights_only=True)


def same(one, other):
    names = one["state_dict"].keys()
    assert names == other["state_dict"].keys()
    assert (one["epoch"], one["global_step"]) == (other["epoch"], other["global_step"])
    assert all(torch.equal(one["state_dict"][name], other["state_dict"][name]) for name in names)
    moments, others = (each["optimizer_states"][0]["state"] for each in (one, other))
    assert all(torch.equal(moments[key]["exp_avg_sq"], others[key]["exp_avg_sq"]) for key in moments)


def stop_at(monkeypatch, batches):
    """Makes `max_time` end after so many batches."""

    def check(self, trainer):
        trainer.should_stop |= trainer.fit_loop.total_batch_idx + 1 >= batches

    monkeypatch.setattr(Timer, "_check_time_remaining", check)
    return ["--trainer.max_time", "00:00:01:00"]


NEVER = ["--trainer.check_val_every_n_epoch", "10"]
RARELY = ["--trainer.check_val_every_n_epoch", "2"]
TWICE = ["--trainer.val_check_interval", "0.5"]
WITHOUT = ["--trainer.limit_val_batches", "0"]
OVER_EPOCHS = ["--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "4"]
SELDOM_SAVED = ["--last_checkpoint.every_n_train_steps", "1000"]
ACCUMULATING = ["--trainer.accumulate_grad_batches", "4"]


# 41 rows in batches of 8: six batches an epoch, three epochs; the number is that of the batch after which it ends.
@pytest.mark.parametrize(
    ("how", "more"),
    [
        (("epochs", 1), NEVER),
        (("epochs", 1), RARELY),
        (("epochs", 1), OVER_EPOCHS),
        (("epochs", 1), SELDOM_SAVED),
        (("steps", 4), []),
        pytest.param(("steps", 4), NEVER, marks=pytest.mark.matrix),
        pytest.param(("steps", 8), OVER_EPOCHS, marks=pytest.mark.matrix),
        (("time", 4), []),
        pytest.param(("time", 8), NEVER, marks=pytest.mark.matrix),
        (("time", 9), TWICE),
        (("time", 4), WITHOUT),
        (("time", 7), ACCUMULATING),  # among accumulated gradients
    ],
)
def test_a_fit_goes_on_from_its_end_as_if_it_had_not_ended(kronlit, config, monkeypatch, undisturbed, how, more):
    always = ["--config", config, "--data.batch_size", "8", "--model.lr", "0.01", *more]
    whole = [*always, "--trainer.max_epochs", "3"]
    if (accumulating := more == ACCUMULATING) not in undisturbed:  # to validate changes nothing of what is trained
        code, _, err = kronlit("fit", *whole, "--run_dir", "whole")
        assert code == 0, err
        undisturbed[accumulating] = last("whole")
    kind, number = how
    with monkeypatch.context() as patch:
        ends = {"epochs": ["--trainer.max_epochs", number], "steps": ["--trainer.max_steps", number]}
        words = ends[kind] if kind in ends else stop_at(patch, number)
        code, _, err = kronlit("fit", *always, *words, "--run_dir", "again")
        assert code == 0, err
    steps = 6 * number if kind == "epochs" else number
    # Seven batches are a step of four, one of the epoch's last two, and one among four that are waited for
    assert last("again")["global_step"] == (3 if how == ("time", 7) else steps)
    code, out, err = kronlit("fit", *whole, "--run_dir", "again", "--ckpt_path", "last")
    assert code == 0, err
    assert "starting afresh" not in out
    same(last("again"), undisturbed[accumulating])


def test_a_fit_that_is_stopped_early_is_saved(kronlit, config, monkeypatch):
    monkeypatch.setattr(EarlyStopping, "_evaluate_stopping_criteria", lambda self, current: (True, "enough"))
    stopping = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss"]
    always = ["--config", config, "--data.batch_size", "8"]
    code, _, err = kronlit("fit", *always, *stopping, "--trainer.val_check_interval", "3", "--run_dir", "again")
    assert code == 0, err
    assert last("again")["global_step"] == 3
    assert kronlit("fit", *always, "--run_dir", "again", "--ckpt_path", "last")[0] == 0
    assert kronlit("fit", *always, "--run_dir", "whole")[0] == 0
    same(last("again"), last("whole"))


def test_a_run_that_was_never_validated_is_merged_from_its_end(kronlit, config):
    assert kronlit("fit", "--config", config, *NEVER)[0] == 0
    assert saved_run("runs/small").checkpoint.name == "last.ckpt"


def test_a_run_with_nothing_left_to_train_has_a_last_checkpoint_too(kronlit, config):
    assert kronlit("fit", "--config", config, "--run_dir", "first")[0] == 0
    path = "first/version_0/checkpoints/last.ckpt"
    assert kronlit("fit", "--config", config, "--run_dir", "second", "--ckpt_path", path)[0] == 0
    same(last("first"), last("second"))
    assert kronlit("fit", "--config", config, "--run_dir", "none", "--trainer.max_epochs", "0")[0] == 0
    assert last("none")["global_step"] == 0
