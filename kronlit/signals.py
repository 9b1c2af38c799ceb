"""A scheduler's request to stop, which comes as a signal and is kept until a run can heed it."""

import os
import signal

STOPPED = 75
"""Exit code of a run that stopped because it was asked to, with a checkpoint to go on from (EX_TEMPFAIL)."""

_heard: list[int] = []


def listen() -> None:
    """Note SIGUSR1, and in a Slurm job SIGTERM, instead of ending.

    It is called before anything slow is imported, so that a signal during the start kills nothing. Elsewhere SIGTERM
    ends a process at once, as people expect.
    """
    for number in (signal.SIGUSR1, *((signal.SIGTERM,) if "SLURM_JOB_ID" in os.environ else ())):
        signal.signal(number, lambda number, frame: _heard.append(number))


def heard() -> int | None:
    """The signal that came last, if one did."""
    return _heard[-1] if _heard else None


def exit_code() -> int:
    """That of a run that heeds what it heard: after SIGTERM 143, as nobody is to start again what `scancel` stops."""
    return 128 + signal.SIGTERM if signal.SIGTERM in _heard else STOPPED
