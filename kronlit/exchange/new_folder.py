"""Folders and files that are written whole or not at all, and never over another."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kronlit.config.user_error import UserError

RUST = re.compile(r"([A-Z][\w ]+) \(os error (\d+)\)")
"""How libraries in Rust tell what the system said, and its number."""

OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
OF_EITHER = (errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR)
"""Numbers of what the system refuses to a writer alone, and to a reader too."""


def check_new(output: str | Path) -> Path:
    """`output` as a path, before any work for it.

    Raises:
        ValueError: if something is there already, or nothing can be written there.
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
    """A folder to write to, which becomes `output` if all went well.

    Raises:
        ValueError: if something is there already, or nothing, or not all, can be written there.
    """
    with unfinished_path(output) as (path, partial):
        with one_line_refusals(output):
            partial.mkdir(parents=True)
        with one_line_refusals(output, partial):
            yield partial
        with one_line_refusals(output):
            for file in partial.rglob("*"):  # safetensors leaves its own to their owner alone
                file.chmod(partial.stat().st_mode & (0o777 if file.is_dir() else 0o666))
            check_new(path)  # a rename would replace an empty folder
            partial.rename(path)


@contextmanager
def new_file(output: str | Path) -> Iterator[Path]:
    """A file to write, which becomes `output` if all went well.

    Raises:
        ValueError: as `new_folder`.
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
    """`output` as a path, and one beside it for what is not whole yet, of which nothing stays."""
    path = check_new(output)
    name = path.absolute().name[:50]  # room for what is added, in a name of the longest that there may be
    partial = path.absolute().with_name(f".{name}.{os.getpid()}.partial")
    try:
        yield path, partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if partial.is_file():
            partial.unlink()


@contextmanager
def one_line_refusals(output: str | Path, partial: Path | None = None) -> Iterator[None]:
    """Make one line of what the system refuses; with `partial`, of what it refuses to write there, not to read."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        if (reason := refusal(error)) and (partial is None or is_of_writing(error, partial)):
            raise UserError(f"`output`={str(output)!r} cannot be written: {reason}.") from error
        raise


def refusal(error: Exception) -> str | None:
    """What the system said that made `error`, as Python or a library in Rust (safetensors, tokenizers) tells it."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    found = RUST.search(str(error))
    return found[1] if found else None


def is_of_writing(error: Exception, partial: Path) -> bool:
    """Whether `error` came of writing to `partial`, as far as its number and the name of its file tell."""
    found = RUST.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(found[2]) if found else None
    names = [getattr(error, name, None) for name in ("filename", "filename2")]
    files = [Path(os.fsdecode(name)).absolute() for name in names if isinstance(name, str | bytes | os.PathLike)]
    if any(file.is_relative_to(partial) for file in files):
        return True
    return number in OF_WRITING or (number in OF_EITHER and not files)
