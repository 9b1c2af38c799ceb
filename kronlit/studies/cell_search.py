"""The search for a method on a task: which point trains next, and for how many epochs."""

import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kronlit.studies.edge import at_end, next_value
from kronlit.studies.tune import Options, Tune, grid_points, is_number
from kronlit.studies.tuned import Trial, TunedCell
from kronlit.training.ranking import rank

Scores = dict[str, float]
Rank = tuple[float, ...]
WORST: Rank = (-math.inf, -math.inf)


@dataclass(frozen=True)
class Step:
    """A training of a point up to a rung.

    Args:
        point: the options that it sets.
        epochs: how many epochs it has then trained, with those of earlier rungs.
    """

    point: Options
    epochs: int


def key(point: Options) -> str:
    """A point as text, to look it up by."""
    return json.dumps(point, sort_keys=True)


def rungs(epochs: int, halving: int, points: int) -> list[int]:
    """The epochs after which points are compared, ending with those of a whole run.

    There are no more rungs than leave two points or so for the last one, and none is shorter than an epoch.
    """
    if halving < 2:
        return [epochs]
    most = min(math.log(max(points, 1), halving), math.log(epochs, halving)) + 1e-9
    return [epochs // halving**back for back in range(int(most), -1, -1)]


@dataclass
class CellSearch:
    """The state of a search, and what comes next in it.

    It depends on nothing but the scores of runs. So, after a kill, the same search with the scores that there are
    goes on where it was.

    Args:
        tune: what is searched, and how.
        task: name of the task.
        method: name of the method.
        epochs: epochs of a whole run.
        own: the value that the config has for each option, if known. Its point is always tried, and never stopped.
    """

    tune: Tune
    task: str
    method: str
    epochs: int
    own: Options = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.given = self.tune.values_of(self.method)
        """For each option what is to be tried, as it was given."""
        self.values = {option: with_own(values, option, self.own) for option, values in self.given.items()}
        """For each option what is tried, or its range."""
        self.points: list[Options] = []
        self.found: dict[tuple[str, int], dict[int, Scores]] = {}
        self.failed: set[str] = set()
        self.over = False

    def steps(self) -> Iterator[list[Step]]:
        """Steps that may be taken at the same time; after each list all of its scores must have been recorded."""
        if self.tune.sampler == "optuna":
            from kronlit.studies.optuna_sampler import optuna_steps

            yield from optuna_steps(self)
        else:
            first = grid_points(self.values)
            self.tune.check_trials(self.method, len(first))
            yield from self.halve(first, rungs(self.epochs, self.tune.halving, len(first)))
            yield from self.grow()
        self.over = True

    def record(self, point: Options, seed: int, epochs: int, scores: Scores | None) -> None:
        """Note the scores of a step with a seed; `None`, or no number to select by, is a failure."""
        if scores is None or not math.isfinite(scores.get(self.tune.select_by, math.nan)):
            self.failed.add(key(point))
        else:
            self.found.setdefault((key(point), epochs), {})[seed] = scores

    def halve(self, points: list[Options], epochs: list[int]) -> Iterator[list[Step]]:
        """Train points; after each rung the best go on."""
        self.points += points
        for number, rung in enumerate(epochs):
            if points:
                yield [Step(point, rung) for point in points]
            points = [point for point in points if key(point) not in self.failed]
            if number < len(epochs) - 1:
                best = sorted(points, key=lambda point: self.rank(point, rung), reverse=True)
                kept = best[: math.ceil(len(best) / self.tune.halving)]
                points = [point for point in points if point in kept or point == self.own]

    def grow(self) -> Iterator[list[Step]]:
        """Try values beyond those of the grid while the best point lies at its edge."""
        left = dict.fromkeys(self.values, self.tune.extend)
        while (best := self.best()) and len(self.points) < (self.tune.trials or math.inf):
            beyond = self._beyond(best, left)
            if beyond is None:
                return
            option, value = beyond
            left[option] -= 1
            self.values[option] = sorted([*self.values[option], value])
            yield from self.halve([best | {option: value}], [self.epochs])

    def _beyond(self, best: Options, left: dict[str, int]) -> tuple[str, Any] | None:
        for option, values in self.values.items():
            end = at_end(best[option], values)
            value = next_value(self.given[option], values, end) if end and left[option] else None
            if value is not None:
                return option, value
        return None

    def rank(self, point: Options, epochs: int) -> Rank:
        """A sort key of a point after so many epochs, the mean over the seeds; greater is better."""
        scores = self.found.get((key(point), epochs), {}).values()
        ranks = [rank(each, self.tune.select_by, self.tune.select_mode) for each in scores]
        if len(ranks) < len(self.tune.seeds) or key(point) in self.failed:
            return WORST
        return tuple(statistics.fmean(values) for values in zip(*ranks, strict=True))

    def best(self) -> Options:
        """The best point of those that trained to the end; empty without any."""
        whole = [point for point in self.points if self.rank(point, self.epochs) > WORST]
        return max(whole, key=lambda point: self.rank(point, self.epochs), default={})

    def edge(self, point: Options) -> list[str]:
        """The options whose value in a point lies at the end of what was tried."""
        return [option for option, values in self.values.items() if at_end(point[option], values)] if point else []

    def new_epochs(self, step: Step) -> int:
        """The epochs that a step adds to those of the rung before."""
        name = key(step.point)
        return step.epochs - max((e for other, e in self.found if other == name and e < step.epochs), default=0)

    def trial(self, point: Options) -> Trial:
        """What is known of a point."""
        epochs = max((e for name, e in self.found if name == key(point)), default=0)
        scores = {seed: each[self.tune.select_by] for seed, each in self.found.get((key(point), epochs), {}).items()}
        if key(point) in self.failed:
            return Trial(point, {}, epochs, self.epochs, "failed")
        whole = epochs >= self.epochs and len(scores) == len(self.tune.seeds)
        status = "done" if whole else "stopped" if self.over else "running"
        return Trial(point, scores, epochs, self.epochs, status)

    def cell(self) -> TunedCell:
        """What is known, for `tuned.json`. While the search goes on, nothing is chosen."""
        chosen = self.best() if self.over else {}
        tried = {
            option: [values["low"], values["high"]] if isinstance(values, dict) else values
            for option, values in self.values.items()
        }
        return TunedCell(
            task=self.task,
            method=self.method,
            search=tried,
            select_by=self.tune.select_by,
            select_mode=self.tune.select_mode,
            seeds=list(self.tune.seeds),
            trials=[self.trial(point) for point in self.points],
            chosen=chosen,
            edge=self.edge(chosen),
        )


def with_own(values: Any, option: str, own: Options) -> Any:
    """The values to try, or the range, with the config's own among them, in order."""
    if option not in own:
        return values
    if isinstance(values, dict):
        ends = (values["low"], values["high"], *([own[option]] if is_number(own[option]) else []))
        return values | {"low": min(ends), "high": max(ends)}
    if own[option] in values:
        return values
    both = [own[option], *values]
    return sorted(both) if all(isinstance(value, (int, float)) for value in both) else both
