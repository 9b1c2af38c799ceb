"""One study at a time in a folder, its runs included."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kronlit.config.user_error import UserError


@contextmanager
def study_lock(folder: Path, shared: bool = False) -> Iterator[int]:
    """Hold the lock of a folder of a study or of one of its runs; gives the open file, for the runs to inherit.

    Those who share it keep out one who would have it alone.

    The system frees it when the last process that has the file open is gone: runs that outlive a killed study hold it
    on, so that no other study writes among them.

    Raises:
        ValueError: if it is held, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"`dir`={str(folder)!r} cannot be written: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 200).decode(errors="replace").strip()
            raise UserError(
                f"`dir`={str(folder)!r} is in use by the study of {holder or 'another process'}, or by runs that it "
                "left: wait for them, end them, or give another `dir`."
            ) from error
        if not shared:
            os.truncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield file
    finally:
        os.close(file)
