"""A scheduler's request to stop, which comes as a signal and is kept until a run can heed it."""

import os
import signal
import threading

STOPPED = 75
"""Exit code of a run that stopped because it was asked to, with a checkpoint to go on from (EX_TEMPFAIL)."""

_heard: list[int] = []


def in_job() -> bool:
    """Whether this is a job of Slurm."""
    return "SLURM_JOB_ID" in os.environ


def listen() -> None:
    """Note SIGUSR1, and in a Slurm job SIGTERM, instead of ending.

    It is called before anything slow is imported, so that a signal during the start kills nothing. Elsewhere SIGTERM
    ends a process at once, as people expect. Only the main thread can listen: another takes it that it does.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGUSR1, *((signal.SIGTERM,) if in_job() else ())):
        signal.signal(number, lambda number, frame: _heard.append(number))


def heard() -> bool:
    """Whether one has come."""
    return bool(_heard)
