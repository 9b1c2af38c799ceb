"""Folders that are written whole or not at all, and never over another."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_new(output: str | Path) -> Path:
    """`output` as a path.

    Raises:
        ValueError: if something is there already.
    """
    path = Path(output)
    if path.exists() or path.is_symlink():
        raise ValueError(f"`output`={str(output)!r} exists already, and nothing is overwritten: name a new folder.")
    return path


@contextmanager
def new_folder(output: str | Path) -> Iterator[Path]:
    """A folder to write to, which becomes `output` if all went well.

    Raises:
        ValueError: if something is there already, or nothing can be written there.
    """
    path = check_new(output)
    partial = path.absolute().with_name(f".{path.absolute().name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"`output`={str(output)!r} cannot be written: {error.strerror}.") from error
    try:
        yield partial
        for file in partial.rglob("*"):  # safetensors leaves its own to their owner alone
            file.chmod(partial.stat().st_mode & (0o777 if file.is_dir() else 0o666))
        check_new(path)  # a rename would replace an empty folder
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
