"""Tells the user about a mistake in one line, which names the argument, the value, the rule and the cure."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from kronlit.config.user_error import UserError


def fail(message: str) -> NoReturn:
    """End with one line and exit code 2."""
    print("kronlit: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


@contextmanager
def one_line() -> Iterator[None]:
    """Report a mistake of the user in one line with exit code 2. A fault of the code keeps its traceback."""
    try:
        yield
    except UserError as error:
        # A worker of a data loader sends its traceback as text, and the message is the end of that.
        worker, _, message = str(error).partition("UserError: ")
        fail(message if worker.startswith("Caught UserError in DataLoader worker") else str(error))
    except Exception as error:
        if line := system_message(error):
            fail(line)
        raise


def system_message(error: Exception) -> str | None:
    """The message of an error that the system raised for a file."""
    chain: BaseException | None = error
    while chain is not None:  # a full disk is met again where a library closes its files
        if isinstance(chain, OSError) and full_disk(chain):
            return f"{chain.filename or 'a file'} cannot be written: {chain.strerror}."
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{str(error.filename)!r} cannot be read or written: {error.strerror}."
    return None


def full_disk(error: BaseException | None) -> bool:
    """Whether `error` says that the disk, or the user's quota, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
