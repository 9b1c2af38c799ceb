"""How a command ends that was stopped from outside: by Ctrl-C, by SIGTERM, or because nobody reads what it prints."""

import os
import select
import signal
import sys
from typing import TextIO

from kronlit.training.signals import INTERRUPTED, TERMINATED, Terminated


def outside_ending(error: BaseException) -> tuple[int, str] | None:
    """The exit code for what ended a command from outside, and a line on it; `None` for any other end."""
    if isinstance(error, Terminated):
        return TERMINATED, "ended by SIGTERM."
    if isinstance(error, SystemExit) and error.code != 1:
        return None  # it was said already
    if reader_is_gone(error):
        return 128 + signal.SIGPIPE, ""
    chain: BaseException | None = error
    while chain is not None:  # Lightning, and what imports compiled code, make other errors of Ctrl-C
        if isinstance(chain, KeyboardInterrupt):
            return INTERRUPTED, "interrupted."
        chain = chain.__cause__ or chain.__context__
    return None


def reader_is_gone(error: BaseException) -> bool:
    """Whether `error` is that the pipe is closed to which this process prints; it prints to nowhere from then on."""
    if not isinstance(error, BrokenPipeError):
        return False
    closed = [stream for stream in (sys.stdout, sys.stderr) if is_closed_pipe(stream)]
    for stream in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(closed)


def is_closed_pipe(stream: TextIO) -> bool:
    """Whether a stream goes to a pipe whose other end is closed."""
    try:
        poll = select.poll()
        poll.register(stream, select.POLLOUT)
    except (AttributeError, ValueError):  # Windows; a stream of no file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def exit_process(code: int, line: str) -> None:
    """End with an exit code; of several processes the first says why."""
    if line and os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"kronlit: {line}", file=sys.stderr)
    sys.exit(code)
