"""What data modules of a user's own rows share: where they are read, and what of them is held out."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from datasets import Dataset

from kronlit.data.held_out import HeldOutRows
from kronlit.data.row_file import RowFile
from kronlit.data.row_source import SUFFIXES, read_file, read_hub, source_files
from kronlit.data.tasks import Task


class OwnFiles(HeldOutRows):
    """Your own rows: from .jsonl, .csv or .parquet files, a folder of them, or the hub.

    To add a kind of rows, subclass it and write `parse`.

    Args:
        task: what the rows are.
        train: what to train on: a file; a folder, whose files named train, validation and test are these splits' (if
            none is so named, all its files are read); or a data set of the hub, as `org/name`, with `/configuration`,
            `@revision` and `:split` after it where these are meant.
        validation: what to validate on, or the share of the training rows to hold out for it.
        test: what to test on, or such a share; by default there are no test rows.
        split_seed: seed of the held-out rows.
        predict_file: a file with the task's columns; `predict` reads it instead of the test rows.
        **kwargs: what `TextData` takes.
    """

    needed = "rows"
    """What a file must have, for messages."""
    suffixes: tuple[str, ...] = SUFFIXES
    """The kinds of files that are read in a folder."""

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
        self.files = {"train": train, "validation": validation, "test": test}
        self.split_seed = split_seed
        self._tables: dict[tuple[str, str, int, int], Dataset] = {}
        self._selected = {}
        self.check_shares()
        super().__init__(task, predict_file=predict_file, **kwargs)

    @abstractmethod
    def parse(self, file: RowFile, labelled: bool) -> dict[str, list[Any]]:
        """The columns of the task of a file's rows, and what is learned if they are `labelled`.

        Raises:
            ValueError: if a row is wrong; the message names it.
        """

    def read_file(self, path: Path) -> RowFile:
        """The rows of a file as they are there."""
        return read_file(path, self.needed)

    def read_files(self, source: str, split: str) -> list[RowFile]:
        """The rows of a source as they are there, by file."""
        option = f"data.{split}_file" if split == "predict" else f"data.{split}"
        paths = source_files(source, split, option, self.suffixes)
        return [self.read_file(path) for path in paths] or [read_hub(source, split, option)]

    def table(self, source: str, split: str, labelled: bool) -> Dataset:
        """The rows of a source, parsed."""
        parts = [self.parse(file, labelled) for file in self.read_files(source, split)]
        return Dataset.from_dict({name: [cell for part in parts for cell in part[name]] for name in parts[0]})

    def check(self, rows: Dataset, where: str) -> None:
        """Pass all rows: `parse` has checked them."""

    def check_labels(self, split: str) -> None:
        """Read the rows: `parse` refuses those without an answer."""
        self.rows(split)

    def rows(self, split: str) -> Dataset:
        if split == "predict":
            assert self.predict_file is not None
            return self.table(self.predict_file, split, labelled=False)
        return super().rows(split)

    def row_identity(self, split: str) -> dict[str, list[Any]]:
        if split != "predict":
            return super().row_identity(split)
        assert self.predict_file is not None
        files = self.read_files(self.predict_file, split)
        names = [name for name in files[0].columns if all(name in file.columns for file in files)]
        return {name: [cell for file in files for cell in file.columns[name]] for name in names}

    def read(self, source: str, split: str) -> Dataset:
        """The rows of a source, which is read once, and again if it is a file that changes."""
        state = Path(source).stat() if Path(source).is_file() else None
        key = (source, split, state.st_mtime_ns, state.st_size) if state else (source, split, 0, 0)
        if key not in self._tables:
            self._tables[key] = self.table(source, split, labelled=True)
        return self._tables[key]
