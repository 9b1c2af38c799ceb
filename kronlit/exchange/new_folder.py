"""Writes folders and files completely or not at all, and never over existing ones."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kronlit.config.user_error import UserError

RUST = re.compile(r"([A-Z][\w ]+) \(os error (\d+)\)")
"""How Rust libraries report the system's message and error number."""

OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
OF_EITHER = (errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR)
"""Error numbers that only writing can cause, and those that reading can cause too."""


def check_new(output: str | Path) -> Path:
    """Check before the work that `output` can be written, and return it as a path.

    Raises:
        ValueError: if it exists already, or cannot be written.
    """
    path = Path(output)
    with one_line_refusals(output):
        if path.exists() or path.is_symlink():
            raise UserError(f"`output`={str(output)!r} exists already, and nothing is overwritten: give another name.")
        parent = next(parent for parent in path.absolute().parents if parent.exists())
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


@contextmanager
def new_folder(output: str | Path) -> Iterator[Path]:
    """A temporary folder to write to. It becomes `output` if all went well.

    Raises:
        ValueError: if `output` exists already, or cannot be written completely.
    """
    with unfinished_path(output) as (path, partial):
        with one_line_refusals(output):
            partial.mkdir(parents=True)
        with one_line_refusals(output, partial):
            yield partial
        with one_line_refusals(output):
            for file in partial.rglob("*"):  # safetensors makes its files readable for their owner only
                file.chmod(partial.stat().st_mode & (0o777 if file.is_dir() else 0o666))
            check_new(path)  # a rename would replace an empty folder
            partial.rename(path)


@contextmanager
def new_file(output: str | Path) -> Iterator[Path]:
    """A temporary file to write. It becomes `output` if all went well.

    Raises:
        ValueError: as in `new_folder`.
    """
    with unfinished_path(output) as (path, partial):
        with one_line_refusals(output):
            path.parent.mkdir(parents=True, exist_ok=True)
        with one_line_refusals(output, partial):
            yield partial
        with one_line_refusals(output):
            partial.replace(path)


@contextmanager
def unfinished_path(output: str | Path) -> Iterator[tuple[Path, Path]]:
    """`output` as a path, and a temporary path beside it, which is removed in the end."""
    path = check_new(output)
    name = path.absolute().name[:50]  # leaves room for the suffix within the longest name that the system allows
    partial = path.absolute().with_name(f".{name}.{os.getpid()}.partial")
    try:
        yield path, partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if partial.is_file():
            partial.unlink()


@contextmanager
def one_line_refusals(output: str | Path, partial: Path | None = None) -> Iterator[None]:
    """Turn errors of the system into one line; with `partial`, only errors of writing there, not of reading."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        if (reason := refusal(error)) and (partial is None or is_of_writing(error, partial)):
            raise UserError(f"`output`={str(output)!r} cannot be written: {reason}.") from error
        raise


def refusal(error: Exception) -> str | None:
    """The system's message in an error of Python or of a Rust library (safetensors, tokenizers), else `None`."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    found = RUST.search(str(error))
    return found[1] if found else None


def is_of_writing(error: Exception, partial: Path) -> bool:
    """Whether `error` comes from writing to `partial`, judged by its number and its file name."""
    found = RUST.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(found[2]) if found else None
    names = [getattr(error, name, None) for name in ("filename", "filename2")]
    files = [Path(os.fsdecode(name)).absolute() for name in names if isinstance(name, str | bytes | os.PathLike)]
    if any(file.is_relative_to(partial) for file in files):
        return True
    return number in OF_WRITING or (number in OF_EITHER and not files)
