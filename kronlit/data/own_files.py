"""What data modules of a user's own rows share: files to train, validate and test on, or shares that are held out."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from datasets import Dataset

from kronlit.config.user_error import UserError
from kronlit.data.row_file import RowFile
from kronlit.data.row_source import read_source
from kronlit.data.shares import check_shares, parts, shares
from kronlit.data.tasks import Task
from kronlit.data.text import TextData


class OwnFiles(TextData):
    """Your own rows: from .jsonl, .csv or .parquet files, a folder of them, or the hub.

    To add a kind of rows, subclass it and write `parse`.

    Args:
        task: what the rows are.
        train: what to train on: a file, a folder with a file for each split, such as train.jsonl and validation.jsonl,
            or the hub's id of a data set (`org/name`, or `org/name/configuration`).
        validation: what to validate on, or the share of the training rows to hold out for it.
        test: what to test on, or such a share; by default there are no test rows.
        split_seed: seed of the held-out rows.
        predict_file: a file with the task's columns; `predict` reads it instead of the test rows.
        **kwargs: what `TextData` takes.
    """

    needed = "rows"
    """What a file must have, for messages."""

    def __init__(
        self,
        task: Task,
        train: str,
        validation: float | str = 0.1,
        test: float | str | None = None,
        split_seed: int = 42,
        *,
        predict_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.files: dict[str, float | str | None] = {"train": train, "validation": validation, "test": test}
        self.split_seed = split_seed
        self._tables: dict[tuple[str, str, int, int], Dataset] = {}
        self._selected: dict[tuple[str, str], Dataset] = {}
        check_shares(self.files)
        super().__init__(task, predict_file=predict_file, **kwargs)

    @abstractmethod
    def parse(self, file: RowFile, labelled: bool) -> dict[str, list[Any]]:
        """The columns of the task of a file's rows, and what is learned if they are `labelled`.

        Raises:
            ValueError: if a row is wrong; the message names it.
        """

    def read_file(self, source: str, split: str) -> RowFile:
        """The rows of a split as they are in their file."""
        return read_source(source, split, self.needed)

    def check(self, rows: Dataset, where: str) -> None:
        """Pass all rows: `parse` has checked them."""

    def check_labels(self, split: str) -> None:
        """Pass all rows: `parse` has refused those without an answer."""

    def draws(self) -> dict[str, Any]:
        return super().draws() | shares(self.files)

    def held_out(self, split: str) -> bool:
        return isinstance(self.files.get(split), float)

    def load(self, split: str) -> Dataset:
        source = self.files[split]
        if source is None:
            raise UserError(
                f"there are no {split} rows: give a file or a share of the training rows as `data.{split}`."
            )
        if isinstance(source, str) and split != "train":
            return self._read(source, split)
        rows = self._read(str(self.files["train"]), "train")
        part = (rows._fingerprint, split)
        if part not in self._selected:
            self._selected[part] = rows.select(parts(self.files, len(rows), self.split_seed)[split])
        return self._selected[part]

    def rows(self, split: str) -> Dataset:
        if split == "predict":
            assert self.predict_file is not None
            return Dataset.from_dict(self.parse(self.read_file(self.predict_file, "test"), labelled=False))
        return super().rows(split)

    def row_identity(self, split: str) -> dict[str, list[Any]]:
        if split != "predict":
            return super().row_identity(split)
        assert self.predict_file is not None
        return self.read_file(self.predict_file, "test").columns

    def _read(self, source: str, split: str) -> Dataset:
        """The rows of a file, which is read once, and again if it changes."""
        state = Path(source).stat() if Path(source).is_file() else None
        key = (source, split, state.st_mtime_ns, state.st_size) if state else (source, split, 0, 0)
        if key not in self._tables:
            self._tables[key] = Dataset.from_dict(self.parse(self.read_file(source, split), labelled=True))
        return self._tables[key]
