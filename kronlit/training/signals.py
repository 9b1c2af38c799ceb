"""Signals that ask a process to stop, kept until a run can heed them."""

import os
import signal
import threading
import time

STOPPED = 75
"""Exit code of a run that stopped because it was asked to, with a checkpoint to go on from (EX_TEMPFAIL)."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that SIGTERM has ended, as a shell gives it."""
INTERRUPTED = 128 + signal.SIGINT
"""That of one that Ctrl-C has ended."""
AGAIN = 2.0
"""Seconds after which another SIGTERM is a second one, not the same that came by another way."""

_received: list[tuple[int, float]] = []


class Terminated(SystemExit):
    """A SIGTERM that ends a process where it stands."""


def in_job() -> bool:
    """Whether this is a job of Slurm."""
    return "SLURM_JOB_ID" in os.environ


def in_main_thread() -> bool:
    """Whether this thread can listen: another takes it that the main one does."""
    return threading.current_thread() is threading.main_thread()


def listen() -> None:
    """Note SIGUSR1, and in a Slurm job SIGTERM, instead of ending.

    It is called before anything slow is imported, so that a signal during the start kills nothing. Elsewhere SIGTERM
    ends a process that does not train at once, as people expect.
    """
    if in_main_thread():
        for number in (signal.SIGUSR1, *((signal.SIGTERM,) if in_job() else ())):
            signal.signal(number, note)


def listen_in_training() -> None:
    """Note SIGTERM, too, which ends a training between two batches; a second one ends it where it stands."""
    listen()
    if in_main_thread() and not in_job():
        signal.signal(signal.SIGTERM, note_or_end)


def end_at_once() -> None:
    """End at SIGTERM where the process stands."""
    if in_main_thread():
        signal.signal(signal.SIGTERM, end_process)


def note(number: int, frame: object) -> None:
    """Keep a signal."""
    _received.append((number, time.monotonic()))


def note_or_end(number: int, frame: object) -> None:
    """Keep the first of a kind, and end at one that comes later."""
    before = [then for known, then in _received if known == number]
    if before and time.monotonic() - before[0] > AGAIN:
        end_process(number, frame)
    note(number, frame)
    if not before:
        # Not `print`: it may be what the signal has interrupted
        os.write(2, b"kronlit: SIGTERM: saving and stopping after this batch; a second one ends it at once.\n")


def end_process(number: int, frame: object) -> None:
    """End."""
    raise Terminated(TERMINATED)


def stop_requested() -> bool:
    """Whether one has come."""
    return bool(_received)


def exit_code() -> int:
    """Of a run that has saved and stopped at what was heard: it has ended, unless a scheduler is to start it again."""
    terminated = any(number == signal.SIGTERM for number, _ in _received)
    return TERMINATED if terminated and not in_job() else STOPPED
