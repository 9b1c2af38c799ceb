"""What is printed into a pipe whose reader has gone, as `| head -1` does."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_on_a_closed_pipe() -> Iterator[None]:
    """End what is printed in silence, with the exit code of a program that the system's SIGPIPE ends."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
        sys.exit(141)
