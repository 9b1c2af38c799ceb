"""The LightningDataModule that all tasks share. It makes batches of rows, and can resume at any batch."""

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
"""A `datasets.Dataset`, or any other sequence of rows of features."""


class TaskData(LightningDataModule, ABC):
    """Serves the rows of a task as batches. The trained module's `collate` makes a batch of rows.

    To add a data set, subclass `TextData` or another subclass of this, and write `load`.

    Args:
        task: the task of the rows.
        batch_size: rows per training step and device.
        eval_batch_size: rows per step and device in validation, test and prediction.
        max_train_samples: train on at most this many rows, drawn with `sample_seed`.
        sample_seed: seed of that draw.
        num_workers: number of processes that make batches.
        max_tokens: tokens per training step and device, including padding; replaces `batch_size`.
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
            ValueError: if there are none; the message says what to do.
        """

    @abstractmethod
    def check(self, rows: Dataset, where: str) -> None:
        """Raise `ValueError`, which names `where`, unless `rows` has what the task needs. A label of -1 is hidden."""

    @abstractmethod
    def encode(self, split: str) -> Features:
        """Turn a split into the module's features, with `label`, `row` and, if lengths differ, `length`."""

    def row_identity(self, split: str) -> dict[str, list[Any]]:
        """Columns that identify each predicted row of a split, by the name under which they are written."""
        rows = self.rows(split)
        return {column: list(rows[column]) for column in self.task.columns}

    def validation_splits(self) -> tuple[str, ...]:
        """The splits to validate on; the first one selects the checkpoint."""
        return ("validation",)

    def prediction_splits(self) -> tuple[str, ...]:
        """The splits of the data set that `predict` reads by default."""
        return ("test",)

    def rows(self, split: str) -> Dataset:
        """The rows of a split after `check`; for `train`, at most `max_train_samples`."""
        rows = self.load(split)
        self.check(rows, f"{self.task.name}/{split}")
        if split == "train" and self.max_train_samples is not None and self.max_train_samples < len(rows):
            generator = torch.Generator().manual_seed(self.sample_seed)
            rows = rows.select(torch.randperm(len(rows), generator=generator)[: self.max_train_samples].tolist())
        return rows

    @property
    def _command(self) -> str:
        """The running command."""
        assert self.trainer is not None
        return self.trainer.state.fn.value if self.trainer.state.fn else "fit"

    def splits(self) -> tuple[str, ...]:
        """The splits that the running command needs."""
        if self._command == "predict":
            return self.predicted_splits()
        return {
            "fit": ("train", *self.validation_splits()),
            "validate": self.validation_splits(),
            "test": ("test",),
        }[self._command]

    def predicted_splits(self) -> tuple[str, ...]:
        """The splits that `predict` reads now."""
        return self.prediction_splits()

    def prepare_data(self) -> None:
        # Lightning calls this on one process of a node. It fills the cache, which `setup` then reads on all of them.
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
        """The result of `encode` for a split, computed only once."""
        if split not in self._encoded:
            self._encoded[split] = self.encode(split)
        return self._encoded[split]

    def row_counts(self) -> dict[str, int]:
        """The number of rows of each split that was read so far."""
        return {split: len(rows) for split, rows in self._encoded.items()}

    def read_labels(self, split: str) -> list[float]:
        """The labels of a split, if it was read and has them; else none."""
        rows: Any = self._encoded.get(split)
        return list(rows["label"]) if "label" in getattr(rows, "column_names", ()) else []

    @property
    def draws_each_epoch(self) -> bool:
        """Whether each epoch draws something new for each training row."""
        return False

    def loader_dataset(self, split: str) -> Features:
        """The data set that a loader reads: the encoded rows, or rows made from them at each access."""
        return self.encode_once(split)

    def train_dataloader(self) -> ResumableLoader:
        assert self.trainer is not None
        data, served, trainer = self.encode_once("train"), self.loader_dataset("train"), self.trainer
        # All processes use the first one's seed: the order of rows depends only on seed and epoch.
        seed = trainer.strategy.broadcast(torch.initial_seed() % 2**31)
        batches = self.train_batches(data, seed)
        options = self._loader_options()
        self._train_loader = ResumableLoader(served, batches, lambda: trainer.num_training_batches, **options)
        self._resume()
        return self._train_loader

    def train_batches(self, rows: Features, seed: int) -> LengthGroupedBatches:
        """The training batches of encoded rows."""
        return self._batches(rows, self.batch_size, shuffle=True, seed=seed, max_tokens=self.max_tokens)

    def held_out(self, split: str) -> bool:
        """Whether a seed holds out the rows of this split from those for training or selection."""
        return False

    def draws(self) -> dict[str, Any]:
        """The arguments that say which rows are held out of which, by name."""
        constructors = [vars(kind)["__init__"] for kind in type(self).__mro__ if "__init__" in vars(kind)]
        arguments = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
        return {name: vars(self)[name] for name in DRAWS if name in arguments and name in vars(self)}

    @cached_property
    def trained_rows(self) -> dict[str, Any]:
        """A record of the training rows for checkpoints, by which other rows are told apart."""
        return row_record(self)

    def check_trained_rows(self, state: dict[str, Any], command: str) -> None:
        """Raise `ValueError` if `command` would mix the rows that a checkpoint was trained on with others.

        Args:
            state: what the checkpoint keeps of its data.
            command: the command that runs.
        """
        check_form(state, FORM, "the checkpoint's record of its rows")
        if (theirs := state.get("rows")) is None:  # an older checkpoint, without this record
            return
        evaluated = {"validate": self.validation_splits(), "test": ("test",), "predict": self.predicted_splits()}
        if command == "fit":
            check_resumed(self.trained_rows, theirs)
        elif any(self.held_out(split) for split in evaluated[command]):
            check_held_out(self, theirs)

    def state_dict(self) -> dict[str, Any]:
        """The position in the training data, and the record of its rows."""
        if self._train_loader is None:
            return {}
        return {"train": self._train_loader.state_dict(), "rows": self.trained_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.check_trained_rows(state_dict, self._command)
        # Lightning restores a loader's state only if it makes the loader after reading the checkpoint. Ours is made
        # before, to count the steps of the learning-rate schedule.
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
