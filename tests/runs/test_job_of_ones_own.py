"""What kronlit's modules ask of data modules, trainings and methods that are not kronlit's own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from kronlit.adapters import Bottleneck, Insertion, SequentialAdapter
from kronlit.data.tasks import GLUE_TASKS
from kronlit.exchange.saved_run import relocate_paths
from kronlit.methods import KronA, Method
from kronlit.methods.base import Group
from kronlit.methods.written import describe_method
from kronlit.modules import SequenceClassification
from kronlit.structured import Dense


class Plain(LightningDataModule):
    """A data module that knows nothing of kronlit but how rows become batches."""

    def train_dataloader(self):
        module = self.trainer.lightning_module
        words = {name: [f"a cat number {number}" for number in range(6)] for name in module.task.columns}
        encoded = module.encode(words | {"label": [0, 1] * 3})
        rows = [{name: column[i] for name, column in encoded.items()} | {"row": i, "label": i % 2} for i in range(6)]
        return DataLoader(rows, batch_size=2, collate_fn=module.collate)


@dataclass(frozen=True)
class WithAnObject(Method):
    """A method of one's own, one argument of which has no form in a file.

    Args:
        activation: of the adapters.
        trains: what is trained beside them.
    """

    activation: Callable = field(default_factory=nn.GELU)
    trains: tuple[Group, ...] = ("head",)

    def insertions(self):
        body = partial(Bottleneck, width=2, down=Dense, up=partial(Dense, std=0.0))
        return [Insertion(("ffn_output",), partial(SequentialAdapter, body=body))]


class Endless(SequenceClassification):
    """A job at a constant rate, which needs no end."""

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def fit(module, folder, **options):
    options = {"max_steps": 2, "max_epochs": -1} | options
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=folder, enable_progress_bar=False, **options)
    trainer.fit(module, Plain())
    trainer.save_checkpoint(folder / "own.ckpt")
    return torch.load(folder / "own.ckpt", weights_only=True)


def test_a_data_module_of_ones_own_trains(tiny_bert, tmp_path):
    assert fit(SequenceClassification(str(tiny_bert), KronA(), GLUE_TASKS["rte"]), tmp_path)["global_step"] == 2


def test_a_training_without_an_end_is_saved(tiny_bert, tmp_path):
    options = {"max_steps": -1, "max_time": {"seconds": 2}}
    saved = fit(Endless(str(tiny_bert), KronA(), GLUE_TASKS["rte"]), tmp_path, **options)
    assert "steps" not in saved["kronlit"]["settings"]


def test_a_method_with_an_object_among_its_arguments_is_saved(tiny_bert, tmp_path):
    saved = fit(SequenceClassification(str(tiny_bert), WithAnObject(), GLUE_TASKS["rte"]), tmp_path)
    assert saved["kronlit"]["method"] == describe_method(WithAnObject())
    assert " at 0x" not in describe_method(WithAnObject(activation=lambda x: x))


def test_a_text_that_is_too_long_for_a_name_is_no_file():
    text = {"template": "Read this. " * 60}
    assert relocate_paths(text, Path("/nowhere")) == text
