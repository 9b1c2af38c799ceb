"""Where rows of one's own are: files, a folder of them, or a data set of the hub."""

import re
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, load_dataset
from datasets.exceptions import DatasetsError

from kronlit.config.user_error import UserError
from kronlit.data.parquet import read_parquet
from kronlit.data.row_file import RowFile, read_row_file

SUFFIXES = (".csv", ".jsonl", ".parquet")
NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev", "eval"),
    "test": ("test",),
    "predict": ("predict", "test"),
}
"""By split, what the name of its file begins with in a folder that has files of several splits."""


def source_files(source: str, split: str, option: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The files of a source: itself, or those of a folder; empty if it is neither, and so a data set of the hub.

    Args:
        source: a file; or a folder, of which the files of `split` are read or, if none is named after a split, all.
        split: train, validation, test or predict.
        option: the option that names the source, for a message.
        suffixes: the kinds of files that are read in a folder.

    Raises:
        ValueError: if there is no such file, or the folder has none.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if not path.is_dir():
        if path.suffix.lower() in suffixes:
            raise UserError(f"`{option}`: there is no file {source!r}; give one of {', '.join(suffixes)}.")
        return []
    files = sorted(path for path in path.iterdir() if path.suffix.lower() in suffixes and path.is_file())
    if not files:
        raise UserError(f"`{option}`={source!r} is a folder without files of the kinds {', '.join(suffixes)}.")
    named = {name: [path for path in files if is_named(path, heads)] for name, heads in NAMES.items()}
    if not any(named.values()):
        return files
    if not named[split]:
        raise UserError(
            f"`{option}`={source!r} has no file named {' or '.join(NAMES[split])}, as the rows of {split} are "
            f"where others are named after their split; it has {', '.join(path.name for path in files)}."
        )
    return named[split]


def is_named(path: Path, heads: tuple[str, ...]) -> bool:
    """Whether the name of a file begins with one of some words."""
    return re.match(rf"({'|'.join(heads)})([^a-z]|$)", path.stem.lower()) is not None


def read_file(path: Path, needed: str) -> RowFile:
    """The rows of a CSV, JSONL or parquet file; `needed` says in messages what it must have."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{str(path)!r} must be a .csv, .jsonl or .parquet file with {needed}.")
    if path.suffix.lower() != ".parquet":
        return read_row_file(path, needed)
    return row_file(str(path), read_parquet([path], repr(str(path))))


def read_hub(source: str, split: str, option: str) -> RowFile:
    """The rows of a data set of the hub.

    Args:
        source: `org/name`, with `/configuration`, `@revision` and `:split` after it where these are meant.
        split: train, validation or test, unless the source names another.
        option: the option that names the source, for a message.

    Raises:
        ValueError: if `source` is no such id, or the hub does not give it.
    """
    whole, _, part = source.partition(":")
    whole, _, revision = whole.partition("@")
    owner, _, rest = whole.partition("/")
    name, _, configuration = rest.partition("/")
    if not (owner and name) or owner in (".", "..", "~"):
        raise UserError(f"`{option}`: there is no file or folder {source!r}; give one, or a data set's `org/name`.")
    try:
        rows = load_dataset(f"{owner}/{name}", configuration or None, split=part or split, revision=revision or None)
    except (OSError, ValueError, DatasetsError) as error:  # the network's, of a name or split, of the files there
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise UserError(
            f"`{option}`={source!r} is neither a file or folder here nor a data set of the hub that can be reached "
            f"({reason}): give a path, or `org/name:split`."
        ) from error
    return row_file(source, rows)


def row_file(path: str, rows: Dataset) -> RowFile:
    """The rows of a data set, with the names of classes in place of their numbers."""
    if not len(rows):
        raise UserError(f"{path!r} has no rows.")
    columns: dict[str, list[Any]] = rows.to_dict()
    classes = {name: found.names for name in columns if (found := class_label(rows.features[name]))}
    for name, names in classes.items():
        columns[name] = [named(cell, names) for cell in columns[name]]
    return RowFile(path, columns, [], range(1, len(rows) + 1), {name: tuple(names) for name, names in classes.items()})


def class_label(feature: Any) -> ClassLabel | None:
    """The classes of a column of classes, or of lists of them."""
    feature = getattr(feature, "feature", feature)
    return feature if isinstance(feature, ClassLabel) else None


def named(cell: Any, names: list[str]) -> Any:
    """A class by its name, and a hidden one, -1, as nothing."""
    if isinstance(cell, list):
        return [named(one, names) for one in cell]
    return names[cell] if cell is not None and cell >= 0 else None
