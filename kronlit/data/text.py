"""Rows of text: checked, or read from a user's file, and tokenised once."""

from typing import Any, cast

from datasets import Dataset

from kronlit.data.base import Features, TaskData
from kronlit.data.demonstrations import DemonstrationSet
from kronlit.data.feature_cache import map_once
from kronlit.data.row_file import read_row_file
from kronlit.data.rows import check_rows, name_columns, read_rows
from kronlit.data.tasks import Task
from kronlit.data.trained_module import DemonstrationReader, TextReader


class TextData(TaskData):
    """Serves the rows of a text task as batches of similar length.

    The trained module turns rows into tokens (its `encode`, `encoding_key` and `collate`), so the same data module
    serves classification and text-to-text. Rows are tokenised once, into a memory-mapped cache.

    To add a data set, subclass and write `load`.

    Args:
        task: what the rows are.
        predict_file: a .csv or .jsonl file with the task's columns; `predict` reads it instead of the test set.
        **kwargs: what `TaskData` takes.
    """

    def __init__(self, task: Task, *, predict_file: str | None = None, **kwargs: Any) -> None:
        super().__init__(task, **kwargs)
        self.predict_file = predict_file

    def check(self, rows: Dataset, where: str) -> None:
        check_rows(rows, self.task, where)

    def rows(self, split: str) -> Dataset:
        """As in `TaskData`; the split `predict` is the rows of `predict_file`."""
        if split == "predict":
            assert self.predict_file is not None
            return read_rows(self.predict_file, self.task)
        return super().rows(split)

    def row_identity(self, split: str) -> dict[str, list[Any]]:
        """As in `TaskData`; for `predict_file`, all its columns."""
        if split != "predict":
            return super().row_identity(split)
        assert self.predict_file is not None
        return read_row_file(self.predict_file, name_columns(self.task)).columns

    def predicted_splits(self) -> tuple[str, ...]:
        return ("predict",) if self.predict_file else self.prediction_splits()

    def splits(self) -> tuple[str, ...]:
        """The splits that the running command needs. Demonstrations need the training rows too."""
        splits = super().splits()
        return splits if "train" in splits or not self._module.demonstrations else ("train", *splits)

    @property
    def draws_each_epoch(self) -> bool:
        return bool(self._module.demonstrations)

    def loader_dataset(self, split: str) -> Features:
        data = self.encode_once(split)
        if not self._module.demonstrations:
            return data
        module = cast(DemonstrationReader, self._module)
        return DemonstrationSet(
            data,
            self.encode_once("train"),
            tuple(module.words),
            own=split == "train",
            sets=module.num_demonstrations,
            seed=self.sample_seed,
            rate=module.demonstration_filter_rate,
        )

    @property
    def _module(self) -> TextReader:
        """The module that is trained."""
        assert self.trainer is not None
        return cast(TextReader, self.trainer.lightning_module)

    def encode(self, split: str) -> Dataset:
        """The rows of a split as the module's features, with `label`, `row` and `length`.

        If the rows have them, also `answers`, and `group`: the number of the group that is scored together.
        """
        module, rows, task = self._module, self.rows(split), self.task

        def encode(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
            features = module.encode(batch)
            features |= {name: batch[name] for name in ("group", "answers") if name in batch}
            labels = batch.get("label", [-1] * len(indices))
            lengths = {"length": [len(f) for f in features["input_ids"]]}  # unless the module says otherwise
            return lengths | features | {"label": labels, "row": indices}

        return map_once(
            rows,
            encode,
            (task, module.encoding_key),
            batched=True,
            desc=f"tokenising {task.name}/{split}",
        )
