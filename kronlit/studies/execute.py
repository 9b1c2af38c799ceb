"""Runs a study: finished runs are kept, interrupted ones resume, and failures are recorded."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import yaml

from kronlit.config.user_error import UserError
from kronlit.studies.chosen import tuned_study, without_choice
from kronlit.studies.lock import study_lock
from kronlit.studies.plan import Run, group_runs, plan, select_runs
from kronlit.studies.process import RunProcess, git_revision, run_environment
from kronlit.studies.progress import StudyProgress
from kronlit.studies.result import Result, write_whole
from kronlit.studies.settle import current_result
from kronlit.studies.study import Study
from kronlit.training.signals import in_job, stop_requested

POLL = 0.2
"""Seconds between two checks of the processes."""
PATIENCE = 15.0
"""Seconds that a process gets to end after SIGTERM when the study is stopped; then it is killed."""


def execute(
    study: Study,
    root: Path,
    processes: int = 1,
    gpus: list[int] | None = None,
    retry_failed: bool = False,
    number: int | None = None,
    side_by_side: int = 1,
    only: list[str] | None = None,
) -> list[Result]:
    """Run the unfinished runs of a study, or only its run `number` or its cells `only`, and return all results.

    Up to `side_by_side` runs that differ only in the options of `FREE` and the seed train together in one process.

    Raises:
        ValueError: if another study is using the folder, or a config file cannot be read.
        KeyboardInterrupt: after SIGINT, or after SIGTERM with the signal's number, when all processes have ended.
    """
    runs = plan(tuned_study(study, root))
    if number is not None and not 0 <= number < len(runs):
        raise UserError(f"`run`={number} must be from 0 to {len(runs) - 1}: the study has {len(runs)} runs.")
    with ExitStack() as held, interrupt_on_sigterm():
        locks = [held.enter_context(study_lock(root, shared=number is not None))]
        if number is None:
            write_study(study, root)
            lacking = without_choice(study, root)
            runs = [run for run in select_runs(runs, only) if (run.method, run.task) not in lacking]
        else:
            runs = [runs[number]]
            locks.append(held.enter_context(study_lock(root / runs[0].folder)))
        results = [current_result(root / run.folder, run.config_hash()) for run in runs]
        again = ("running", "failed") if retry_failed else ("running",)
        waiting = [run for run, result in zip(runs, results, strict=True) if not result or result.status in again]
        # A run that failed before now runs alone: next to the same other runs it might fail again.
        failed = {run.folder for run, result in zip(runs, results, strict=True) if result and result.status == "failed"}
        fresh = [run for run in waiting if run.folder not in failed]
        groups = [*group_runs(fresh, side_by_side, processes), *([run] for run in waiting if run.folder in failed)]
        done = [result for result in results if result and result.status not in again]
        print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them done before; {root}", flush=True)
        with StudyProgress(len(runs), processes) as progress:
            run_all(study, root, groups, done, progress, ProcessPool(processes, gpus, tuple(locks)))
    return done


def write_study(study: Study, root: Path) -> None:
    """Write `study.yaml`, which holds all that a report or another process needs to know of the study."""
    write_whole(root / "study.yaml", yaml.safe_dump(json.loads(json.dumps(asdict(study))), sort_keys=False))


class ProcessPool:
    """A fixed number of slots for processes that run at the same time.

    Args:
        processes: number of slots.
        gpus: devices to distribute over the slots.
        locks: open lock files that the processes inherit, so that the locks outlive a killed study.
    """

    def __init__(self, processes: int, gpus: list[int] | None, locks: tuple[int, ...]) -> None:
        self.environments = [run_environment(processes, gpus, slot) for slot in range(processes)]
        self.locks = locks
        self.revision = git_revision()
        self.taken: dict[int, tuple[RunProcess, float]] = {}

    def start(self, runs: list[Run], root: Path) -> None:
        """Start one process for `runs` in the first free slot."""
        slot = next(slot for slot in range(len(self.environments)) if slot not in self.taken)
        started = RunProcess(runs, root, self.environments[slot], self.locks, self.revision)
        self.taken[slot] = (started, time.monotonic())

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        return len(self.taken) == len(self.environments)

    def collect(self) -> Iterator[tuple[Run, Result]]:
        """The runs whose processes have ended since the last call. Their results are written."""
        for slot, (started, _) in list(self.taken.items()):
            if results := started.collect():
                del self.taken[slot]
                yield from zip(started.runs, results, strict=True)

    def ask_to_stop(self) -> None:
        """Ask all processes to save and end at the next good moment."""
        for started, _ in self.taken.values():
            started.process.send_signal(signal.SIGUSR1)

    def stop(self) -> None:
        """End all processes now."""
        for started, _ in self.taken.values():
            started.process.terminate()
        end = time.monotonic() + PATIENCE
        for started, _ in self.taken.values():
            started.stop(max(0.0, end - time.monotonic()))


def run_all(
    study: Study,
    root: Path,
    waiting: list[list[Run]],
    done: list[Result],
    progress: StudyProgress,
    slots: ProcessPool,
    ended: Callable[[Run, Result], list[list[Run]]] = lambda run, result: [],
) -> None:
    """Run all waiting runs, each list in one process.

    Args:
        study: the study.
        root: its folder.
        waiting: the runs.
        done: gets the results of runs as they end.
        progress: shows them.
        slots: the processes.
        ended: gives the runs that can follow one that has ended.
    """
    waiting, asked = list(waiting), False
    try:
        while waiting or slots.taken:
            if stop_requested() and not asked:
                waiting, asked = [], True
                slots.ask_to_stop()
            while waiting and not slots.full:
                slots.start(waiting.pop(0), root)
            for run, result in slots.collect():
                done.append(result)
                progress.say(run, result, study.metric_of(run.task))
                waiting += [] if asked else ended(run, result)
            now = time.monotonic()
            running = [
                (run, (now - since) / len(started.runs))  # its share of the time, as for finished runs
                for started, since in slots.taken.values()
                for run in started.runs
            ]
            progress.update(done, [run for runs in waiting for run in runs], running)
            time.sleep(POLL)
    finally:
        slots.stop()


@contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C. Not in a Slurm job: there `listen` notes SIGTERM, and the runs have time to save."""
    if in_job():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
