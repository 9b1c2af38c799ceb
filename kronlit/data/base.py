"""The LightningDataModule that all tasks share: rows in, batches out, and a position in them that can be resumed."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import torch
from datasets import Dataset
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from kronlit.config.user_error import UserError
from kronlit.data.batches import LengthGroupedBatches, ResumableLoader, SeededBatches
from kronlit.data.form import check_form
from kronlit.data.tasks import Task
from kronlit.data.trained_module import BatchMaker
from kronlit.data.trained_rows import DRAWS, FORM, check_held_out, check_resumed, row_record

Features = Any
"""A `datasets.Dataset`, or whatever else has a length and gives rows of features."""


class TaskData(LightningDataModule, ABC):
    """Rows of a task as batches. The module that is trained makes a batch of them (its `collate`).

    To add a data set, subclass `TextData` or another kind of rows, and write `load`.

    Args:
        task: what the rows are.
        batch_size: rows a step, per device.
        eval_batch_size: rows a step in validation, test and prediction, per device.
        max_train_samples: train on no more rows than this, drawn with `sample_seed`.
        sample_seed: of that draw.
        num_workers: processes that make batches.
        max_tokens: tokens a training step, padding included, per device, in place of `batch_size`.
    """

    def __init__(
        self,
        task: Task,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        max_train_samples: int | None = None,
        sample_seed: int = 42,
        num_workers: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise UserError(f"`data.{name}`={value} must be at least 1.")
        if num_workers < 0:
            raise UserError(f"`data.num_workers`={num_workers} must be at least 0.")
        if max_train_samples is not None and max_train_samples < 1:
            raise UserError(
                f"`data.max_train_samples`={max_train_samples} must be at least 1; leave it out for all rows."
            )
        self.task = task
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.max_train_samples = max_train_samples
        self.sample_seed = sample_seed
        self.num_workers = num_workers
        self.max_tokens = max_tokens
        self._encoded: dict[str, Features] = {}
        self._train_loader: ResumableLoader | None = None
        self._train_state: dict[str, int] | None = None

    @abstractmethod
    def load(self, split: str) -> Dataset:
        """The rows of `train`, `validation`, `validation_<name>` for each of `task.validation`, or `test`.

        Raises:
            ValueError: if there are none, with what to do about it.
        """

    @abstractmethod
    def check(self, rows: Dataset, where: str) -> None:
        """Raise `ValueError`, with `where` in it, unless `rows` has what the task needs (a label of -1 is hidden)."""

    @abstractmethod
    def encode(self, split: str) -> Features:
        """The rows of a split as the module's features, with `label`, `row` and, if rows differ in it, `length`."""

    def row_identity(self, split: str) -> dict[str, list[Any]]:
        """What tells a predicted row of a split from others, by name of the column that it is written to."""
        rows = self.rows(split)
        return {column: list(rows[column]) for column in self.task.columns}

    def validation_splits(self) -> tuple[str, ...]:
        """The splits to validate on; the first one selects the checkpoint."""
        return ("validation",)

    def prediction_splits(self) -> tuple[str, ...]:
        """The splits to predict."""
        return ("test",)

    def rows(self, split: str) -> Dataset:
        """The rows of a split, checked, and drawn from where a limit is set."""
        rows = self.load(split)
        self.check(rows, f"{self.task.name}/{split}")
        if split == "train" and self.max_train_samples is not None and self.max_train_samples < len(rows):
            generator = torch.Generator().manual_seed(self.sample_seed)
            rows = rows.select(torch.randperm(len(rows), generator=generator)[: self.max_train_samples].tolist())
        return rows

    def splits(self) -> tuple[str, ...]:
        """What the running command needs."""
        assert self.trainer is not None
        command = self.trainer.state.fn.value if self.trainer.state.fn else "fit"
        if command == "predict":
            return self.predicted_splits()
        return {
            "fit": ("train", *self.validation_splits()),
            "validate": self.validation_splits(),
            "test": ("test",),
        }[command]

    def predicted_splits(self) -> tuple[str, ...]:
        """The splits that `predict` reads."""
        return self.prediction_splits()

    def prepare_data(self) -> None:
        # On one process of a node: fills the cache that setup then reads everywhere.
        for split in self.splits():
            self.encode_once(split)

    def setup(self, stage: str) -> None:
        for split in self.splits():
            self.encode_once(split)
            if stage != "predict":
                self.check_labels(split)

    def check_labels(self, split: str) -> None:
        """Raise `ValueError` if the labels of a split are hidden."""
        rows = self.rows(split)
        hidden = not all(rows["answers"][:]) if self.task.free_text else -1 in rows["label"][:]
        if hidden:
            raise UserError(
                f"the labels of {self.task.name}/{split} are hidden (-1), so it cannot be scored: use `validate`, "
                "`predict`, or splits that hold out labelled rows (GLUE: `--data.splits mahabadi`)."
            )

    def encode_once(self, split: str) -> Features:
        """What `encode` makes of a split, made once."""
        if split not in self._encoded:
            self._encoded[split] = self.encode(split)
        return self._encoded[split]

    @property
    def draws_each_epoch(self) -> bool:
        """Whether something is drawn anew for each training row in each epoch."""
        return False

    def loader_dataset(self, split: str) -> Features:
        """What a loader reads of a split: its encoded rows, or what is made of them each time they are read."""
        return self.encode_once(split)

    def train_dataloader(self) -> ResumableLoader:
        assert self.trainer is not None
        data, served, trainer = self.encode_once("train"), self.loader_dataset("train"), self.trainer
        # The first process's seed on all: the order of rows is a function of seed and epoch alone.
        seed = trainer.strategy.broadcast(torch.initial_seed() % 2**31)
        batches = self._batches(data, self.batch_size, shuffle=True, seed=seed, max_tokens=self.max_tokens)
        options = self._loader_options()
        self._train_loader = ResumableLoader(served, batches, lambda: trainer.num_training_batches, **options)
        self._resume()
        return self._train_loader

    def held_out(self, split: str) -> bool:
        """Whether the rows of a split are held out, by a seed, of rows that others are trained or selected on."""
        return False

    def draws(self) -> dict[str, Any]:
        """The arguments that say which rows are held out of which, by name."""
        constructors = [vars(kind)["__init__"] for kind in type(self).__mro__ if "__init__" in vars(kind)]
        arguments = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
        return {name: vars(self)[name] for name in DRAWS if name in arguments and name in vars(self)}

    @cached_property
    def trained_rows(self) -> dict[str, Any]:
        """What tells the training rows from others."""
        return row_record(self)

    def check_trained_rows(self, state: dict[str, Any], command: str) -> None:
        """Raise `ValueError` where a command would mix rows that a checkpoint, of `state`, trained on with others."""
        check_form(state, FORM, "the checkpoint's record of its rows")
        if (theirs := state.get("rows")) is None:  # written before checkpoints said so
            return
        evaluated = {"validate": self.validation_splits(), "test": ("test",), "predict": self.predicted_splits()}
        if command == "fit":
            check_resumed(self.trained_rows, theirs)
        elif any(self.held_out(split) for split in evaluated[command]):
            check_held_out(self, theirs)

    def state_dict(self) -> dict[str, Any]:
        """Where the training data stands."""
        if self._train_loader is None:
            return {}
        return {"train": self._train_loader.state_dict(), "rows": self.trained_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.trainer is not None
        self.check_trained_rows(state_dict, self.trainer.state.fn.value if self.trainer.state.fn else "fit")
        # Lightning restores a loader's own state only if it made the loader after reading the checkpoint; counting the
        # steps of the learning-rate schedule makes it before.
        self._train_state = state_dict.get("train")
        self._resume()

    def _resume(self) -> None:
        if self._train_loader is not None and self._train_state is not None:
            self._train_loader.load_state_dict(self._train_state)
            self._train_state = None

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return list(self._eval_loaders(self.validation_splits()))

    def test_dataloader(self) -> list[DataLoader[Any]]:
        return list(self._eval_loaders(("test",)))

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        return list(self._eval_loaders(self.predicted_splits()))

    def _eval_loaders(self, splits: tuple[str, ...]) -> Iterator[DataLoader[Any]]:
        for split in splits:
            data = self.encode_once(split)
            batches = self._batches(data, self.eval_batch_size, shuffle=False)
            served = self.loader_dataset(split)
            yield DataLoader(served, batch_sampler=batches, generator=torch.Generator(), **self._loader_options())

    def _batches(
        self, data: Features, batch_size: int, shuffle: bool, seed: int = 0, max_tokens: int | None = None
    ) -> LengthGroupedBatches:
        assert self.trainer is not None
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        lengths = list(data["length"]) if "length" in getattr(data, "column_names", ()) else [0] * len(data)
        kind = SeededBatches if shuffle and self.draws_each_epoch else LengthGroupedBatches
        return kind(lengths, batch_size, shuffle, seed, rank, world_size, max_tokens)

    def _loader_options(self) -> dict[str, Any]:
        assert self.trainer is not None
        return {
            "collate_fn": cast(BatchMaker, self.trainer.lightning_module).collate,
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }
