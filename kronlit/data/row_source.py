"""Where rows of one's own are: a CSV, JSONL or parquet file, a folder of them, or a data set of the hub."""

import re
from pathlib import Path

from datasets import Dataset, load_dataset

from kronlit.config.user_error import UserError
from kronlit.data.row_file import RowFile, read_row_file

SUFFIXES = (".csv", ".jsonl", ".parquet")
NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev", "eval"),
    "test": ("test",),
    "predict": ("predict",),
}
"""By split, what the name of its file begins with in a folder that has files of several splits."""


class Table(RowFile):
    """Rows that stand on no line, such as those of a parquet file."""

    def where(self, row: int) -> str:
        return f"{self.path!r}, row {self.numbers[row]}"


def read_source(source: str, split: str, option: str, needed: str) -> list[RowFile]:
    """The rows of a source, by file.

    Args:
        source: a file; a folder, of which the files of `split` are read or, if none is named after a split, all; or a
            data set of the hub, as `org/name`, `org/name@revision`, `org/name:split` or both.
        split: train, validation, test or predict.
        option: the option that names the source, for a message.
        needed: the columns that it must have, for a message.

    Raises:
        ValueError: if there is nothing to read, or it is damaged.
    """
    path = Path(source)
    if path.is_dir():
        return [read_file(file, needed) for file in files_of(path, split, option)]
    if path.is_file() or path.suffix.lower() in SUFFIXES:
        return [read_file(path, needed)]
    return [read_hub(source, split, option)]


def files_of(folder: Path, split: str, option: str) -> list[Path]:
    """The files of a folder that have the rows of a split."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"`{option}`={str(folder)!r} is a folder without .csv, .jsonl or .parquet files.")
    named = {name: [path for path in files if is_named(path, heads)] for name, heads in NAMES.items()}
    if not any(named.values()):
        return files
    if not named[split]:
        raise UserError(
            f"`{option}`={str(folder)!r} has no file named {' or '.join(NAMES[split])}, as the rows of {split} are "
            f"where others are named after their split; it has {', '.join(path.name for path in files)}."
        )
    return named[split]


def is_named(path: Path, heads: tuple[str, ...]) -> bool:
    """Whether the name of a file begins with one of some words."""
    return re.match(rf"({'|'.join(heads)})([^a-z]|$)", path.stem.lower()) is not None


def read_file(path: Path, needed: str) -> RowFile:
    """The rows of a file."""
    if path.suffix.lower() != ".parquet":
        if path.is_file() and path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{str(path)!r} must be a .csv, .jsonl or .parquet file with {needed}.")
        return read_row_file(path, needed)
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}; give a .csv, .jsonl or .parquet file with {needed}.")
    try:
        rows = Dataset.from_parquet(str(path))
    except Exception as error:  # pyarrow and datasets raise many kinds of errors for a damaged file
        raise UserError(f"{str(path)!r} cannot be read: {error.__cause__ or error}") from error
    return table(rows, str(path))


def read_hub(source: str, split: str, option: str) -> RowFile:
    """The rows of a data set of the hub."""
    whole, _, part = source.partition(":")
    name, _, revision = whole.partition("@")
    try:
        rows = load_dataset(name, split=part or split, revision=revision or None)
    except Exception as error:  # the hub's, the network's, and those of each kind of file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"`{option}`={source!r} is neither a file or folder here nor a data set of the hub that can be reached "
            f"({reason}): give a path, or `org/name:split`."
        ) from error
    return table(rows, source)


def table(rows: Dataset, path: str) -> RowFile:
    """The rows of a data set."""
    if not len(rows):
        raise UserError(f"{path!r} has no rows.")
    numbers = range(1, len(rows) + 1)
    return Table(path, rows.to_dict(), list(numbers), numbers)
