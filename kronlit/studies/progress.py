"""Shows how far a study is, and how long it may still take."""

import datetime
from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from kronlit.studies.plan import Run
from kronlit.studies.result import Result


class StudyProgress:
    """A progress bar with an estimate of the time left, and a line for each run that ends.

    Without a terminal there is no bar, only the lines.

    Args:
        runs: number of runs of the study.
        processes: number of processes at the same time.
    """

    def __init__(self, runs: int, processes: int) -> None:
        self.processes = processes
        columns = (
            MofNCompleteColumn(),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        self.bar = Progress(*columns)
        self.bar.disable = not self.bar.console.is_terminal
        self.line = self.bar.add_task("runs", total=runs, left="")

    def __enter__(self) -> "StudyProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, done: Sequence[Result], waiting: Sequence[Run], running: Sequence[tuple[Run, float]]) -> None:
        """Show how many runs are done, and the estimate.

        Args:
            done: results of finished runs, including earlier ones.
            waiting: runs that have not begun.
            running: runs that are running, each with its seconds so far.
        """
        left = seconds_left(done, waiting, running, self.processes)
        self.show(len(done), left, names_of(running))

    def show(self, done: int, left: float | None, description: str) -> None:
        """Show how much is done, and about how many seconds are left."""
        text = "" if left is None else ends_about(left, datetime.datetime.now())
        self.bar.update(self.line, completed=done, left=text, description=description)

    def say(self, run: Run, result: Result, metric: str) -> None:
        """Print a line on a run that has ended."""
        text = f"{result.status:7}{run.name}"
        if result.status == "failed":
            text += f" · exit code {result.exit_code} · {result.error}"
        elif metric in result.scores:
            text += f" · {metric} {100 * result.scores[metric]:.2f}"
        self.print(text)

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def names_of(running: Sequence[tuple[Run, float]]) -> str:
    """What runs now, in a few words."""
    if not running:
        return ""
    more = f"{len(running)} run: " if len(running) > 1 else ""
    return more + ", ".join(run.name for run, _ in running)


def ends_about(left: float, now: datetime.datetime) -> str:
    """The time left, and when that is over.

    Args:
        left: seconds.
        now: the time of day.
    """
    end = now + datetime.timedelta(seconds=left)
    day = "" if end.date() == now.date() else f"{end:%a} "
    return f"{datetime.timedelta(seconds=round(left))} left, until {day}{end:%H:%M}"


def seconds_left(
    done: Sequence[Result], waiting: Sequence[Run], running: Sequence[tuple[Run, float]], processes: int
) -> float | None:
    """Estimate the time left from the mean time of finished runs; `None` if there are none.

    Runs of the same task count; if there are none yet, all runs do.
    """
    taken: dict[str, list[float]] = {}
    for result in done:
        if result.status == "done":
            taken.setdefault(result.task, []).append(result.seconds / result.side_by_side)
    everything = [seconds for each in taken.values() for seconds in each]
    if not everything:
        return None

    def expected(run: Run) -> float:
        values = taken.get(run.task, everything)
        return sum(values) / len(values)

    work = sum(map(expected, waiting)) + sum(max(0.0, expected(run) - seconds) for run, seconds in running)
    return work / processes
