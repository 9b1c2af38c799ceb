"""A process of one run, or of several side by side, from its start to the `run.json` that it leaves."""

import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kronlit.studies.plan import Run
from kronlit.studies.result import LOG, Result, failed_result, finished_result
from kronlit.studies.settle import current_result
from kronlit.training.signals import STOPPED


def run_command(run: Run, root: Path) -> list[str]:
    """The words of a run's command. It resumes from the last checkpoint in its folder, if there is one."""
    own = ["--run_dir", str(root / run.folder), "--ckpt_path", "last", "--trainer.enable_progress_bar", "false"]
    pause = [] if run.until is None else ["--stop_after_epochs", str(run.until)]
    return ["kronlit", "fit", *run.words, *own, *pause]


CODE = "exit_code.txt"
"""The file for a run's own exit code, if its process has several runs."""


class RunProcess:
    """A running process of one run, or of several side by side (`kronlit.experimental.side_by_side`).

    Args:
        runs: the runs.
        root: the study's folder.
        environment: environment variables of the process.
        locks: open lock files that the process inherits.
        revision: the git revision to record.
    """

    def __init__(
        self, runs: list[Run], root: Path, environment: dict[str, str], locks: tuple[int, ...], revision: str | None
    ) -> None:
        self.runs = runs
        self.root = root
        self.results = [self._record_start(run, revision) for run in runs]
        several = len(runs) > 1
        with (root / runs[0].folder / LOG).open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    *(["kronlit.experimental.side_by_side"] if several else run_command(runs[0], root)),
                ],
                stdin=subprocess.PIPE if several else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=locks,
                text=True,
            )
        if self.process.stdin is not None:
            with suppress(BrokenPipeError), self.process.stdin as file:  # in case the process is dead already
                folders = [(run, root / run.folder) for run in runs]
                json.dump([(run_command(run, root)[1:], str(f / LOG), str(f / CODE)) for run, f in folders], file)
        self.results = [replace(result, pid=self.process.pid) for result in self.results]
        for run, result in zip(self.runs, self.results, strict=True):
            result.write(root / run.folder)

    def _record_start(self, run: Run, revision: str | None) -> Result:
        """Write the result of a run before it starts, so that whatever the process leaves belongs to an attempt."""
        folder, config_hash = self.root / run.folder, run.config_hash()
        folder.mkdir(parents=True, exist_ok=True)
        before = current_result(folder, config_hash)
        result = Result(
            status="running",
            hash=config_hash,
            task=run.task,
            method=run.method,
            seed=run.seed,
            point=run.point,
            command=shlex.join(run_command(run, self.root)),
            pid=None,
            attempts=before.attempts + 1 if before else 1,
            started=utc_now(),
            revision=revision,
            side_by_side=max(len(self.runs), before.side_by_side if before else 1),
        )
        result.write(folder)
        (folder / CODE).unlink(missing_ok=True)
        with (folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"--- attempt {result.attempts}, {result.started}\n")
        return result

    def collect(self) -> list[Result]:
        """Write and return the results if the process has ended, else return none. It never waits.

        A run that was asked to stop stays `running`, so that it can resume.
        """
        code = self.process.poll()
        if code is None:
            return []
        return [self._record_end(*each, code) for each in zip(self.runs, self.results, strict=True)]

    def _record_end(self, run: Run, result: Result, code: int) -> Result:
        folder = self.root / run.folder
        with suppress(OSError, ValueError):  # its own exit code, if it shares the process and has ended before it
            code = int((folder / CODE).read_text())
        if code in (STOPPED, -signal.SIGUSR1):  # asked to stop; the latter if it could not listen yet
            return result
        result = replace(result, exit_code=code, ended=utc_now())
        result = failed_result(result, failure_reason(code, folder / LOG)) if code else finished_result(result, folder)
        result.write(folder)
        return result

    def stop(self, seconds: float) -> None:
        """Wait for the process to end, then kill it. Its runs can resume."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def failure_reason(code: int, log: Path) -> str:
    """Why a process failed, in one line: the signal that killed it, or the last line of its log."""
    if code > 128 and code - 128 in signal.valid_signals():  # the notation of shells, and of kronlit itself
        code = 128 - code
    if code < 0:
        hint = " (the system does that when memory is short)" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")[:500]


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def run_environment(processes: int, gpus: list[int] | None, slot: int) -> dict[str, str]:
    """The environment of a run: its share of the cores (unless `OMP_NUM_THREADS` is set) and its device.

    Args:
        processes: number of processes at the same time.
        gpus: devices to distribute, one for each process; `None` leaves the choice to the trainer.
        slot: the number of this process among them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = {"OMP_NUM_THREADS": str(max(1, cores // processes))} | dict(os.environ)
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = str(gpus[slot % len(gpus)])
    return own


def git_revision() -> str | None:
    """The commit of the current folder's git repository, with `+` if files were changed; `None` outside of one."""
    try:
        describe = ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
