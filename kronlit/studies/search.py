"""Runs the searches of a study, a cell beside the other: each step of a point is a `kronlit fit`, which may pause."""

import datetime
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from kronlit.studies.cell_search import CellSearch, Scores, Step, rungs
from kronlit.studies.chosen import laid_over
from kronlit.studies.execute import ProcessPool, interrupt_on_sigterm, run_all
from kronlit.studies.given import given_value
from kronlit.studies.lock import study_lock
from kronlit.studies.optuna_sampler import check_optuna
from kronlit.studies.plan import Run, group_runs, make_run, plan, point_name, select_runs, slug
from kronlit.studies.progress import StudyProgress, names_of
from kronlit.studies.result import Result
from kronlit.studies.settle import current_result
from kronlit.studies.study import Options, Study
from kronlit.studies.tune import OPTUNA_TRIALS, Tune
from kronlit.studies.tuned import TunedCell, read_tuned, write_tuned
from kronlit.training.metrics_reader import best_scores, metrics_rows
from kronlit.training.paused import PAUSED, paused_after

FOLDER = "tune"
"""The folder of the search's runs in that of a study."""


class StudySearch:
    """The searches of a study's cells.

    Args:
        study: the study, which has `tune`.
        root: its folder.
        only: patterns of the cells to search, METHOD/TASK; `None` searches all.
        processes: how many processes run at once.
        side_by_side: how many runs may share a process.
        retry_failed: whether runs that failed before run again.
        own: the config's own values of what is searched, if known.
    """

    def __init__(
        self,
        study: Study,
        root: Path,
        only: list[str] | None = None,
        processes: int = 1,
        side_by_side: int = 1,
        retry_failed: bool = False,
        own: Options | None = None,
    ) -> None:
        assert study.tune is not None
        self.study, self.tune, self.root, self.own = study, study.tune, root, own or {}
        self.processes, self.side_by_side, self.retry_failed = processes, side_by_side, retry_failed
        if self.tune.sampler == "optuna":
            check_optuna()
        names = dict.fromkeys((run.method, run.task) for run in select_runs(plan(study), only))
        self.cells = [self._cell(method, task) for method, task in names]
        self.coming = [cell.steps() for cell in self.cells]
        self.waiting: list[set[Path]] = [set() for _ in self.cells]
        """For each cell the folders of runs that its next step waits for."""
        self.whose: dict[Path, tuple[int, Step]] = {}
        """For each run's folder its cell and the step that it takes now."""
        self.errors: dict[int, str] = {}
        """For each cell why one of its runs failed."""
        self.taken: list[tuple[float, int]] = []
        """Seconds and epochs of the steps that have ended."""

    def _cell(self, method: str, task: str) -> CellSearch:
        words = make_run(self._laid(method, task), task, method, {}, 0).words
        epochs = given_value(words, "trainer.max_epochs")
        return CellSearch(self.tune, task, method, epochs if isinstance(epochs, int) and epochs > 0 else 1, self.own)

    def _laid(self, method: str, task: str) -> Study:
        return laid_over(self.study, method, task, self.tune.options)

    def run(self, cell: CellSearch, step: Step, seed: int) -> Run:
        """The run of a step. It never reads the test rows."""
        made = make_run(self._laid(cell.method, cell.task), cell.task, cell.method, step.point, seed)
        folder = self.folder(cell) / slug(point_name(step.point)) / f"seed-{seed}"
        until = step.epochs if step.epochs < cell.epochs else None
        return replace(made, words=(*made.words, "--test_after_fit", "false"), folder=folder, until=until)

    def folder(self, cell: CellSearch) -> Path:
        """The folder of a cell's points."""
        return Path(FOLDER, slug(cell.task), slug(cell.method))

    def first(self) -> list[Run]:
        """The runs that the search would begin with if nothing were done."""
        steps = ((cell, step) for cell in self.cells for step in next(cell.steps(), []))
        return [self.run(cell, step, seed) for cell, step in steps for seed in self.tune.seeds]

    def begin(self) -> Iterator[Run]:
        """The first runs of all cells."""
        for number, _ in enumerate(self.cells):
            yield from self.advance(number)
        self.write()

    def advance(self, number: int) -> list[Run]:
        """The next runs of a cell, of which none is done; none at the end of its search."""
        cell = self.cells[number]
        for steps in self.coming[number]:
            runs = []
            for step in steps:
                for seed in self.tune.seeds:
                    run = self.run(cell, step, seed)
                    self.whose[run.folder] = number, step
                    if not self.settle(run, current_result(self.root / run.folder, run.config_hash()), before=True):
                        runs.append(run)
            self.waiting[number] = {run.folder for run in runs}
            if runs:
                return runs
        return []

    def settle(self, run: Run, result: Result | None, before: bool = False) -> bool:
        """Record what a run has come to; whether it has done its step.

        Args:
            run: the run.
            result: its result.
            before: whether that is from before this search began, so that a failure may be tried again.
        """
        number, step = self.whose[run.folder]
        cell, scores = self.cells[number], None
        if result is None or (result.status == "failed" and before and self.retry_failed):
            return False
        if result.status == "failed":
            self.errors[number] = f"{result.error} ({self.root / run.folder})"
        elif (scores := scores_after(self.root / run.folder, result, run.until, self.tune)) is None:
            if result.status == "running":
                return False
            self.errors[number] = f"no validation, so no {self.tune.select_by} ({self.root / run.folder})"
        cell.record(step.point, run.seed, step.epochs, scores)
        return True

    def ended(self, run: Run, result: Result) -> list[list[Run]]:
        """Note a run that has ended, and give the groups of runs that can follow."""
        number, step = self.whose[run.folder]
        if not self.settle(run, result):
            return []  # it was asked to stop
        began = datetime.datetime.fromisoformat(result.started)
        seconds = (datetime.datetime.now(datetime.timezone.utc) - began).total_seconds() / result.side_by_side
        self.taken.append((seconds, self.cells[number].new_epochs(step)))
        self.waiting[number].discard(run.folder)
        follow = [] if self.waiting[number] else self.advance(number)
        self.write()
        return group_runs(follow, self.side_by_side, self.processes)

    def write(self) -> None:
        """Write `tuned.json`, in which cells that are not searched now stay as they are."""
        now = {(cell.method, cell.task): cell.cell() for cell in self.cells}
        before = {(cell.method, cell.task): cell for cell in read_tuned(self.root)}
        cells = before | now
        order = [(method, task) for method in self.study.methods for task in self.study.tasks]
        write_tuned([cells[name] for name in order if name in cells], self.root)

    @property
    def epochs_left(self) -> int:
        """About how many epochs are still to be trained, if no grid grows."""
        planned = sum(planned_epochs(cell) for cell in self.cells if not cell.over)
        done = sum(sum(cell.trial(point).epochs for point in cell.points) for cell in self.cells if not cell.over)
        return max(0, planned - round(done))

    def seconds_left(self, running: Sequence[tuple[Run, float]]) -> float | None:
        """Estimate the time left; `None` as long as nothing has ended."""
        epochs = sum(epochs for _, epochs in self.taken)
        if not epochs:
            return None
        work = self.epochs_left * sum(seconds for seconds, _ in self.taken) / epochs
        return max(0.0, work - sum(seconds for _, seconds in running)) / self.processes


class FitSearch(StudySearch):
    """The search of a single fit, whose points lie in the folder itself."""

    def folder(self, cell: CellSearch) -> Path:
        return Path()

    def set_epochs(self, epochs: Any) -> None:
        """Set the epochs of a whole run, where the whole config is known."""
        if isinstance(epochs, int) and epochs > 0:
            self.cells[0].epochs = epochs


class SearchProgress(StudyProgress):
    """The progress of searches: epochs rather than runs, since a run may pause.

    Args:
        search: the searches.
    """

    def __init__(self, search: StudySearch) -> None:
        super().__init__(0, search.processes)
        self.search = search

    def update(self, done: Sequence[Result], waiting: Sequence[Run], running: Sequence[tuple[Run, float]]) -> None:
        ended = sum(epochs for _, epochs in self.search.taken)
        self.bar.update(self.line, total=ended + self.search.epochs_left)
        self.show(ended, self.search.seconds_left(running), f"epochs of the search · {names_of(running)}")

    def say(self, run: Run, result: Result, metric: str) -> None:
        if result.status != "running":
            super().say(run, result, self.search.tune.select_by)
        elif scores := scores_after(self.search.root / run.folder, result, run.until, self.search.tune):
            name = self.search.tune.select_by
            self.print(f"paused {run.name} · after {run.until} epochs · {name} {100 * scores[name]:.2f}")


def search(searches: StudySearch, gpus: list[int] | None = None) -> list[TunedCell]:
    """Search all cells, and return what was found. Cells of which a run was asked to stop have no choice yet.

    Raises:
        ValueError: if another study is using the folder, or a config file cannot be read.
        KeyboardInterrupt: as `execute` does.
    """
    root, processes = searches.root, searches.processes
    with ExitStack() as held, interrupt_on_sigterm():
        lock = held.enter_context(study_lock(root))
        first = group_runs(list(searches.begin()), searches.side_by_side, processes)
        points = sum(len(cell.points) for cell in searches.cells)
        print(f"{points} points to try, {sum(map(len, first))} of them now; {root}", flush=True)
        with SearchProgress(searches) as progress:
            slots = ProcessPool(processes, gpus, (lock,))
            run_all(searches.study, root, first, [], progress, slots, searches.ended)
    return [cell.cell() for cell in searches.cells]


def scores_after(folder: Path, result: Result, until: int | None, tune: Tune) -> Scores | None:
    """The scores of a run after so many epochs, or of a whole run; `None` if it has not come so far, or has none.

    Args:
        folder: the run's folder.
        result: its result.
        until: the epochs; `None` for all.
        tune: what selects.
    """
    if result.status == "done" and until is None:
        return result.scores or None
    paused = sorted(folder.glob(f"version_*/{PAUSED}"), key=lambda path: int(path.parent.name.split("_")[1]))
    version = folder / result.fit if result.fit else paused[-1].parent if paused else None
    if until is None or version is None or (result.status != "done" and paused_after(version) < until):
        return None
    # A run that went on has later epochs, too; the choice after a kill must be the one of before.
    rows = [row for row in metrics_rows(version / "metrics.csv") if row.get("epoch", 0) < until]
    return best_scores(rows, tune.select_by, tune.select_mode) or result.scores or None


def planned_epochs(cell: CellSearch) -> int:
    """The epochs of a cell's search, in which at each rung one in `halving` of the points goes on."""
    drawn = (cell.tune.trials or OPTUNA_TRIALS) if cell.tune.sampler == "optuna" else 0
    count, total, before = max(len(cell.points), drawn), 0, 0
    for epochs in rungs(cell.epochs, cell.tune.halving, count):
        total += count * (epochs - before)
        count, before = -(-count // cell.tune.halving), epochs
    return total
