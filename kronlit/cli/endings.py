"""How a command ends that is stopped from outside: by Ctrl-C, by SIGTERM, or by a closed pipe after it."""

import os
import select
import signal
import sys
from typing import TextIO

from kronlit.training.signals import INTERRUPTED, TERMINATED, Terminated


def outside_ending(error: BaseException) -> tuple[int, str] | None:
    """The exit code and a message if a command was ended from outside; `None` for any other error."""
    if isinstance(error, Terminated):
        return TERMINATED, "ended by SIGTERM."
    if isinstance(error, SystemExit) and error.code != 1:
        return None  # its message is printed already
    if reader_is_gone(error):
        return 128 + signal.SIGPIPE, ""
    chain: BaseException | None = error
    while chain is not None:  # Lightning, and imports of compiled code, turn Ctrl-C into other errors
        if isinstance(chain, KeyboardInterrupt):
            return INTERRUPTED, "interrupted."
        chain = chain.__cause__ or chain.__context__
    return None


def reader_is_gone(error: BaseException) -> bool:
    """Whether `error` says that nobody reads the output any more. If so, later output goes to /dev/null."""
    if not isinstance(error, BrokenPipeError):
        return False
    closed = [stream for stream in (sys.stdout, sys.stderr) if is_closed_pipe(stream)]
    for stream in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(closed)


def is_closed_pipe(stream: TextIO) -> bool:
    """Whether `stream` is a pipe whose other end is closed."""
    try:
        poll = select.poll()
        poll.register(stream, select.POLLOUT)
    except (AttributeError, ValueError):  # no `poll` on Windows; or a stream without a file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def exit_process(code: int, line: str) -> None:
    """End with an exit code. Of several processes, only the first prints the reason."""
    if line and os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"kronlit: {line}", file=sys.stderr)
    sys.exit(code)
