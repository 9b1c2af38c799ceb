"""One run as a process of its own, from its start to its `run.json`."""

import datetime
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from kronlit.signals import STOPPED
from kronlit.studies.plan import Run
from kronlit.studies.result import LOG, Result, failed, with_summary
from kronlit.studies.settle import settled


def command(run: Run, root: Path) -> list[str]:
    """The words of a run's command; it goes on from the last checkpoint in its folder, if there is one."""
    own = ["--run_dir", str(root / run.folder), "--ckpt_path", "last", "--trainer.enable_progress_bar", "false"]
    return ["kronlit", "fit", *run.words, *own]


class Started:
    """A run whose process is going.

    Args:
        run: what runs.
        root: the study's folder.
        environment: the process's.
        locks: open files that the process holds on to.
        revision: of the source, for the record.
    """

    def __init__(
        self, run: Run, root: Path, environment: dict[str, str], locks: tuple[int, ...], revision: str | None
    ) -> None:
        self.run = run
        self.folder = root / run.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        words = command(run, root)
        config_hash = run.config_hash()
        before = settled(self.folder, config_hash)
        self.result = Result(
            status="running",
            hash=config_hash,
            task=run.task,
            method=run.method,
            seed=run.seed,
            point=run.point,
            command=shlex.join(words),
            pid=None,
            attempts=before.attempts + 1 if before else 1,
            started=now(),
            revision=revision,
        )
        self.result.write(self.folder)  # before the process: what it leaves must have a name
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"--- attempt {self.result.attempts}, {self.result.started}\n")
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=locks,
            )
        self.result = replace(self.result, pid=self.process.pid)
        self.result.write(self.folder)

    def ended(self) -> Result | None:
        """The result, recorded, if the process has ended; one that was asked to stop can go on. It never waits."""
        code = self.process.poll()
        if code is None:
            return None
        if code in (STOPPED, -signal.SIGUSR1):  # asked to, or before it could listen
            return self.result
        result = replace(self.result, exit_code=code, ended=now())
        result = failed(result, why(code, self.folder / LOG)) if code else with_summary(result, self.folder)
        result.write(self.folder)
        return result

    def stop(self, seconds: float) -> None:
        """End the process, gently at first; its run stays one that can go on."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def why(code: int, log: Path) -> str:
    """Why a process failed, in one line: the signal that killed it, or the last line of its log."""
    if code < 0:
        hint = " (the system does that when memory is short)" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")[:500]


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def environment(processes: int, gpus: list[int] | None, slot: int) -> dict[str, str]:
    """That of a run: its share of the cores, unless `OMP_NUM_THREADS` says otherwise, and its device.

    Args:
        processes: runs at once.
        gpus: the devices to share out, one a run; `None` leaves them to the trainer.
        slot: which of the runs at once it is.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = {"OMP_NUM_THREADS": str(max(1, cores // processes))} | dict(os.environ)
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = str(gpus[slot % len(gpus)])
    return own


def revision() -> str | None:
    """The commit of the git repository that is the current folder's, with `+` where it was changed."""
    try:
        describe = ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
