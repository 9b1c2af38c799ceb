"""Of equally good checkpoints, the one of lower loss is the best."""

import csv
import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from kronlit.cli.earlier_run import MovedRun
from kronlit.modules import SequenceClassification
from kronlit.training.best_checkpoint import BestCheckpoint
from kronlit.training.checkpoint_lookup import best_of_run, find_checkpoint
from kronlit.training.metrics_reader import best_scores

NAN = float("nan")


class Scored(LightningModule):
    """A training whose validations score what they are told to."""

    def __init__(self, scores):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.scores = scores

    def training_step(self, batch, batch_idx):
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        score, loss = self.scores[self.current_epoch]
        self.log("val/score", score, batch_size=1)
        if loss is not None:
            self.log("val/loss", loss, batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self):
        return [0]

    val_dataloader = train_dataloader


def kept(folder, scores, kind=BestCheckpoint, ckpt_path=None, epochs=None, **arguments):
    """The callback after a training, and the epochs of which it has kept the weights."""
    callback = kind(folder, monitor="val/score", **{"mode": "max", "filename": "{epoch}"} | arguments)
    options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    options |= {"accelerator": "cpu", "devices": 1}
    trainer = Trainer(max_epochs=epochs or len(scores), num_sanity_val_steps=0, callbacks=[callback], **options)
    trainer.fit(Scored(scores), ckpt_path=ckpt_path)
    return callback, {int(file.stem.split("epoch=")[1]) for file in folder.glob("*.ckpt")}


@pytest.mark.parametrize(
    ("scores", "arguments", "best", "files"),
    [
        ([(0.8, 0.436), (0.8, 0.176), (0.8, 0.2)], {}, 1, {1}),
        ([(0.8, 0.3), (0.8, 0.3)], {}, 0, {0}),  # the first, where nothing tells them apart
        ([(0.8, 0.3), (0.9, 0.5), (0.8, 0.1)], {}, 1, {1}),
        ([(0.2, 0.5), (0.2, 0.4), (0.3, 0.1)], {"mode": "min"}, 1, {1}),
        ([(0.8, NAN), (0.8, 0.9), (0.8, NAN)], {}, 1, {1}),
        ([(0.8, None), (0.8, None)], {}, 0, {0}),
        ([(0.8, 0.4), (0.8, 0.3), (0.8, 0.2), (0.7, 0.1)], {"save_top_k": 2}, 2, {1, 2}),
        ([(0.8, 0.2), (0.8, 0.4), (0.8, 0.3), (0.9, 9.0)], {"save_top_k": 2}, 3, {0, 3}),
        ([(0.8, 0.4), (0.8, 0.2), (0.8, 0.3)], {"save_top_k": -1}, 1, {0, 1, 2}),
    ],
)  # fmt: skip
def test_a_tie_is_broken_by_the_loss(tmp_path, scores, arguments, best, files):
    callback, epochs = kept(tmp_path, scores, **arguments)
    assert callback.best_model_path == str(tmp_path / f"epoch={best}.ckpt")
    assert epochs == files
    rows = [{"val/score": score, "val/loss": loss, "val/epoch": n} for n, (score, loss) in enumerate(scores)]
    rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    chosen = best_scores(rows, "val/score", arguments.get("mode", "max"))
    assert chosen["val/epoch"] == best


def test_without_ties_it_is_lightnings(tmp_path):
    generator = torch.Generator().manual_seed(0)
    scores = [tuple(pair) for pair in torch.rand(12, 2, generator=generator).tolist()]
    ours, files = kept(tmp_path / "ours", scores, save_top_k=3)
    theirs, their_files = kept(tmp_path / "theirs", scores, ModelCheckpoint, save_top_k=3)
    assert files == their_files
    assert ours.state_key == theirs.state_key
    names = [sorted(path.rsplit("/", 1)[1] for path in one.best_k_models) for one in (ours, theirs)]
    assert names[0] == names[1]
    assert ours.kth_best_model_path.rsplit("/", 1)[1] == theirs.kth_best_model_path.rsplit("/", 1)[1]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_training_that_goes_on_breaks_ties_as_if_it_had_not_stopped(tmp_path, stop):
    scores = [(0.8, 0.4), (0.8, 0.2), (0.8, 0.3), (0.8, 0.1)]
    whole, _ = kept(tmp_path / "whole", scores)
    kept(tmp_path / "cut", scores, epochs=stop)
    (last,) = (tmp_path / "cut").glob("*.ckpt")
    again, files = kept(tmp_path / "cut", scores, ckpt_path=last)
    assert again.best_model_path.rsplit("/", 1)[1] == whole.best_model_path.rsplit("/", 1)[1] == "epoch=3.ckpt"
    assert 3 in files


def test_what_is_known_of_losses_moves_with_a_run(tmp_path):
    callback, _ = kept(tmp_path / "before", [(0.5, 0.9)])
    state = callback.state_dict()
    moved = BestCheckpoint(tmp_path / "after", monitor="val/score", mode="max")
    trainer = SimpleNamespace(checkpoint_callbacks=[moved])
    MovedRun().on_load_checkpoint(trainer, None, {"callbacks": {moved.state_key: state}})
    assert list(state["best_k_losses"]) == list(state["best_k_models"])
    assert all(path.startswith(str(tmp_path / "after")) for path in state["best_k_losses"])
    assert list(state["best_k_losses"].values()) == pytest.approx([0.9])


def test_a_run_that_starts_from_anothers_checkpoint_has_no_best_yet(tmp_path):
    callback, _ = kept(tmp_path / "one", [(0.5, 0.9)])
    other = BestCheckpoint(tmp_path / "other", monitor="val/score", mode="max")
    other.load_state_dict(callback.state_dict())
    assert other.best_model_path == ""


def test_a_checkpoint_of_lightnings_callback_is_gone_on_from(tmp_path):
    scores = [(0.8, 0.4), (0.8, 0.2), (0.9, 0.3)]
    kept(tmp_path, scores, ModelCheckpoint, epochs=1)
    callback, _ = kept(tmp_path, scores, ckpt_path=tmp_path / "epoch=0.ckpt", epochs=2)
    assert callback.best_model_path.endswith("epoch=0.ckpt")  # its loss is not known
    callback, _ = kept(tmp_path, scores, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert callback.best_model_path.endswith("epoch=2.ckpt")


def test_a_fit_keeps_tests_and_reports_the_one_of_lower_loss(kronlit, config, tmp_path, monkeypatch):
    losses = itertools.cycle([0.4, 0.2, 0.3])

    def report(self):
        self.log_dict({"val/score": torch.tensor(0.5), "val/loss": torch.tensor(next(losses))})

    monkeypatch.setattr(SequenceClassification, "on_validation_epoch_end", report)
    words = ["--trainer.max_epochs", "3", "--trainer.num_sanity_val_steps", "0"]
    assert kronlit("fit", "--config", config, *words)[0] == 0
    run = tmp_path / "runs/small/version_0"
    (best,) = (run / "checkpoints").glob("best*.ckpt")
    assert "epoch=1" in best.name
    assert json.loads((run / "summary.json").read_text())["scores"]["val/loss"] == pytest.approx(0.2)
    with (run / "metrics.csv").open(newline="") as file:
        assert [row["val/loss"] for row in csv.DictReader(file) if row["val/loss"]][1].startswith("0.2")


def test_of_several_that_are_kept_the_best_is_taken(tmp_path):
    scores = [(0.5, 0.4), (0.9, 0.2), (0.8, 0.3), (0.7, 0.1)]
    (tmp_path / "version_0/checkpoints").mkdir(parents=True)
    kept(tmp_path / "version_0/checkpoints", scores, save_top_k=3, filename="best-{epoch}")
    best = tmp_path / "version_0/checkpoints/best-epoch=1.ckpt"
    assert find_checkpoint("best", tmp_path, "test") == str(best)
    assert best_of_run(tmp_path) == best_of_run(tmp_path / "version_0") == best
