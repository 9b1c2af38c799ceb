"""Ends all processes of a run together, and lets one of them report why."""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from kronlit.training.signals import Terminated, end_at_once

GRACE = 5.0
"""Seconds that a failed process waits for the first one to report, and that the first one waits for others to end."""
LOST = re.compile(
    r"gloo.*(connection (closed|reset) by peer|broken pipe|no route|timed out)"
    r"|remote process exited|failed to (recv|send)|connection was likely closed|connection reset by peer",
    re.IGNORECASE | re.DOTALL,
)
"""Torch's messages when another process has gone."""


class EndTogether(Callback):
    """Ends all processes when one fails, without tracebacks from those that only lost the connection."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            end_at_once()  # Lightning's handler reacts late (in predict never) to SIGTERM, and ends with exit code 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        end_at_once()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        end_at_once()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.world_size == 1:
            return
        launched = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
        if launched and trainer.local_rank == 0:
            first_ends(take_children(trainer), exception)
        elif has_lost_another(exception):
            if not launched:  # if Lightning launched the processes, the first one reports
                print(f"kronlit: process {trainer.global_rank} has lost another, which says why.", file=sys.stderr)
            raise SystemExit(1) from exception
        elif launched and isinstance(exception, Exception):
            time.sleep(GRACE)  # the first process may have the same error; then it reports it and ends this one


def take_children(trainer: Trainer) -> list[subprocess.Popen[Any]]:
    """Take the child processes away from Lightning, which would kill this process too when one of them fails."""
    procs = getattr(trainer.strategy.launcher, "procs", [])
    children = list(procs)
    procs.clear()
    return children


def first_ends(children: Sequence[subprocess.Popen[Any]], exception: BaseException) -> None:
    """End the child processes; at once, if the error is this process's own.

    Raises:
        SystemExit: with the exit code of a child that failed first.
    """
    if has_lost_another(exception):
        wait(children, GRACE)
        for rank, child in enumerate(children, 1):
            if code := child.poll():
                kill(children)
                if code < 0:  # a killed process cannot report anything itself
                    print(f"kronlit: process {rank} was killed by signal {-code}.", file=sys.stderr)
                raise SystemExit(code if code > 0 else 128 - code) from exception
    if isinstance(exception, SystemExit) and not isinstance(exception, Terminated):
        wait(children, 6 * GRACE)  # all processes have agreed to end, and may still be saving
    kill(children)


def wait(children: Sequence[subprocess.Popen[Any]], seconds: float) -> None:
    """Wait until all have ended, for at most this many seconds."""
    end = time.monotonic() + seconds
    while any(child.poll() is None for child in children) and time.monotonic() < end:
        time.sleep(0.05)


def kill(children: Sequence[subprocess.Popen[Any]]) -> None:
    """Kill those that are still running."""
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()


def has_lost_another(error: BaseException | None) -> bool:
    """Whether `error` says that another process has gone."""
    while error is not None:
        if isinstance(error, (RuntimeError, torch.distributed.DistError)) and LOST.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
