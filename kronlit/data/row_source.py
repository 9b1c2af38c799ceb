"""Reads a user's rows from where they are: a CSV, JSONL or parquet file, a folder of these, or the hub."""

from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, load_dataset

from kronlit.config.user_error import UserError
from kronlit.data.row_file import RowFile, read_row_file

SUFFIXES = (".jsonl", ".csv", ".parquet")


def find_file(source: str, split: str, needed: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The files of a split: `source` itself, or those in the folder `source` that have the split's name.

    In a folder this is `<split>.jsonl` or the like, or the pieces `<split>-*.parquet`, as the hub has them. The list is
    empty if `source` is neither a file nor a folder.

    Raises:
        ValueError: if the folder has no such file, or several.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    files = [path / f"{split}{suffix}" for suffix in suffixes if (path / f"{split}{suffix}").is_file()]
    files = files or sorted(path.glob(f"{split}-*.parquet"))
    if not files or (len(files) > 1 and files[0].suffix != ".parquet"):
        names = ", ".join(f"{split}{suffix}" for suffix in suffixes)
        found = "several" if files else "none"
        raise UserError(f"the folder {source!r} must have one of {names}, with {needed}; it has {found}.")
    return files


def read_source(source: str, split: str, needed: str) -> RowFile:
    """The rows of a split.

    Args:
        source: a .csv, .jsonl or .parquet file; a folder with one for each split; or the id of a data set on the hub,
            `org/name` or `org/name/configuration`.
        split: train, validation or test.
        needed: what the rows must have, for messages.

    Raises:
        ValueError: if there is nothing there, or it cannot be read.
    """
    files = find_file(source, split, needed)
    if not files:
        return read_hub(source, split, needed)
    return read_parquet(files) if files[0].suffix.lower() == ".parquet" else read_row_file(files[0], needed)


def read_hub(source: str, split: str, needed: str) -> RowFile:
    """The rows of a split of a data set on the hub; `ValueError` if `source` is no id, or the hub does not give it."""
    owner, _, rest = source.partition("/")
    name, _, config = rest.partition("/")
    if not (owner and name) or Path(source).suffix.lower() in SUFFIXES or owner in (".", "..", "~"):
        raise UserError(f"there is no file or folder {source!r}; give a .csv, .jsonl or .parquet file with {needed}.")
    try:
        return row_file(f"{source}, {split}", load_dataset(f"{owner}/{name}", config or None, split=split))
    except (ConnectionError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source!r} is no file, no folder, and no data set with a split {split!r} that the hub gives ({reason}): "
            f"give a .csv, .jsonl or .parquet file with {needed}."
        ) from error


def read_parquet(files: list[Path]) -> RowFile:
    """The rows of the pieces of a parquet file."""
    try:
        return row_file(str(files[0]), Dataset.from_parquet([str(file) for file in files]))
    except UserError:
        raise
    except Exception as error:  # pyarrow and datasets raise many kinds of errors for a damaged file
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"{str(files[0])!r} cannot be read as parquet: {reason}") from error


def row_file(path: str, rows: Dataset) -> RowFile:
    """The rows of a data set, with the names of classes in place of their numbers."""
    if not len(rows):
        raise UserError(f"{path!r} has no rows.")
    columns = {name: list(rows[name][:]) for name in rows.column_names}
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
