"""Notes signals that ask a process to stop, until a run can react to them."""

import os
import signal
import threading
import time

STOPPED = 75
"""Exit code of a run that was asked to stop and has saved a checkpoint to resume from (EX_TEMPFAIL)."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that SIGTERM has ended, in the notation of shells."""
INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a process that Ctrl-C has ended."""
AGAIN = 2.0
"""Seconds after which another SIGTERM counts as a second one, not as the same one that arrived twice."""

_received: list[tuple[int, float]] = []


class Terminated(SystemExit):
    """Raised by a SIGTERM that ends a process immediately."""


def in_job() -> bool:
    """Whether this process is in a Slurm job."""
    return "SLURM_JOB_ID" in os.environ


def in_main_thread() -> bool:
    """Whether this is the main thread: only there can Python install signal handlers."""
    return threading.current_thread() is threading.main_thread()


def listen() -> None:
    """Note SIGUSR1 (in a Slurm job also SIGTERM) instead of ending.

    Call it before any slow import, so that a signal during the start kills nothing. Outside of Slurm jobs SIGTERM ends
    a process that is not training at once, as people expect.
    """
    if in_main_thread():
        for number in (signal.SIGUSR1, *((signal.SIGTERM,) if in_job() else ())):
            signal.signal(number, note)


def listen_in_training() -> None:
    """Also note SIGTERM: the first one ends a training between two batches, a second one ends it immediately."""
    listen()
    if in_main_thread() and not in_job():
        signal.signal(signal.SIGTERM, note_or_end)


def end_at_once() -> None:
    """From now on, let SIGTERM end the process immediately."""
    if in_main_thread():
        signal.signal(signal.SIGTERM, end_process)


def note(number: int, frame: object) -> None:
    """A signal handler that only notes the signal."""
    _received.append((number, time.monotonic()))


def note_or_end(number: int, frame: object) -> None:
    """A signal handler that notes the first signal of a kind, and ends the process at a later one."""
    before = [then for known, then in _received if known == number]
    if before and time.monotonic() - before[0] > AGAIN:
        end_process(number, frame)
    note(number, frame)
    if not before:
        # Not `print`: the signal may have interrupted a `print`.
        os.write(2, b"kronlit: SIGTERM: saving and stopping after this batch; a second one ends it at once.\n")


def end_process(number: int, frame: object) -> None:
    """A signal handler that ends the process."""
    raise Terminated(TERMINATED)


def stop_requested() -> bool:
    """Whether a signal has asked this process to stop."""
    return bool(_received)


def exit_code() -> int:
    """The exit code of a run that has saved and stops: `TERMINATED`, or `STOPPED` if a scheduler is to restart it."""
    terminated = any(number == signal.SIGTERM for number, _ in _received)
    return TERMINATED if terminated and not in_job() else STOPPED
