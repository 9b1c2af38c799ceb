"""A lock that lets only one study at a time, with its runs, use a folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kronlit.config.files import is_at
from kronlit.config.user_error import UserError


@contextmanager
def study_lock(folder: Path, shared: bool = False) -> Iterator[int]:
    """Hold the lock of a study's folder or of one of its runs; yields the open file, which the runs inherit.

    Several holders may share it, which keeps out anyone who wants it alone.

    It is a `flock`, which the system frees only when the last process with the open file is gone. So runs that outlive
    a killed study still hold it, and no other study writes between them.

    Raises:
        ValueError: if someone else holds it, or the folder cannot be written.
    """
    held = False
    while not held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"`dir`={str(folder)!r} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 200).decode(errors="replace").strip()
            os.close(file)
            raise UserError(
                f"`dir`={str(folder)!r} is in use by the study of {holder or 'another process'}, or by runs that it "
                "left: wait for them, end them, or give another `dir`."
            ) from error
        if not (held := is_at(folder / "lock", file)):
            os.close(file)
    try:
        if not shared:
            os.truncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield file
        if not shared:  # its runs have ended; after an error they may not have
            (folder / "lock").unlink(missing_ok=True)
    finally:
        os.close(file)
