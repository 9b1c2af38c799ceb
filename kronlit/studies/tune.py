"""What a study searches for each method before it compares them: `tune` in its YAML, and `kronlit tune`."""

import math
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from kronlit.config.user_error import UserError

Options = dict[str, Any]

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""The learning rates that are tried by default."""
RANGE = {"low", "high", "log"}
OPTUNA_TRIALS = 20
"""The points that Optuna tries by default."""


@dataclass(frozen=True)
class Tune:
    """A search for each method on each task, by validation scores alone; the test rows are not read.

    Args:
        search: for each option of `kronlit fit` a list of values, or a range `{low: 1e-4, high: 3e-2}`, which is
            logarithmic unless it has `log: false`. In a grid, a range stands for values half a decade apart.
        method_search: for a method, a search that extends or overrides `search`.
        extend: how many more values a grid may get, one by one, where the best lies at its edge. Only log-spaced
            values grow. In a grid of several options, the others stay as they are at the best point.
        trials: the most points that are tried for a method on a task, the same for each. By default all points of the
            grid and those that `extend` adds; 20 with Optuna.
        halving: at each rung only the best one in so many points trains on. The last rung is a whole run, the rung
            before it one of so many times fewer epochs, and so on. 1 trains all points to the end.
        seeds: the seeds of the search. None may be one of the study's own seeds.
        select_by: the validation score that selects; among equal scores, the lower loss wins.
        select_mode: whether the largest or the smallest score is best.
        options: options of the runs of the search alone.
        sampler: `grid` tries all combinations; `optuna` draws points by TPE, for ranges or more than two options, and
            needs the extra `tune`.
    """

    search: dict[str, Any] = field(default_factory=lambda: {"model.lr": list(RATES)})
    method_search: dict[str, dict[str, Any]] = field(default_factory=dict)
    extend: int = 3
    trials: int | None = None
    halving: int = 2
    seeds: list[int] = field(default_factory=lambda: [0])
    select_by: str = "val/score"
    select_mode: Literal["max", "min"] = "max"
    options: Options = field(default_factory=dict)
    sampler: Literal["grid", "optuna"] = "grid"

    def __post_init__(self) -> None:
        for name, least in (("extend", 0), ("halving", 1), ("trials", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"`tune.{name}`={value} must be at least {least}.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"`tune.seeds`={self.seeds} must hold one or more, each once.")
        if not self.select_by.startswith("val"):
            raise UserError(f"`tune.select_by`={self.select_by!r} must be a score of validation, such as val/score.")
        if "test_after_fit" in self.options | self.search:
            raise UserError("`tune`: 'test_after_fit' cannot be set: a search never reads the test rows.")
        if not self.search:
            raise UserError("`tune.search`={} must name an option to search, such as model.lr.")
        for searched in (self.search, *self.method_search.values()):
            for option, values in searched.items():
                searched[option] = check_values(option, values)

    def check(self, methods: list[str], seeds: list[int]) -> None:
        """Check what concerns the study.

        Args:
            methods: the methods of the study.
            seeds: the seeds of the study.

        Raises:
            ValueError: if a seed is used twice, or there are more points than `trials`.
        """
        if both := sorted(set(self.seeds) & set(seeds)):
            raise UserError(
                f"`tune.seeds`={self.seeds} and `seeds`={seeds} share {both[0]}: what is reported must not be what "
                "selected; give the search other seeds."
            )
        for method in methods if self.sampler == "grid" else []:
            self.check_trials(method, len(grid_points(self.values_of(method))))

    def check_trials(self, method: str, points: int) -> None:
        """Raise `ValueError` if a grid has more points than `trials`."""
        if self.trials is not None and self.trials < points:
            raise UserError(
                f"`tune.trials`={self.trials} must be at least {points}, the points of the grid of {method}: "
                "give more, or search fewer values."
            )

    def values_of(self, method: str) -> dict[str, Any]:
        """For each option the values to try with a method; with Optuna a range stays one."""
        searched = self.search | self.method_search.get(method, {})
        if self.sampler == "optuna":
            return searched
        return {option: spread(values) if isinstance(values, dict) else values for option, values in searched.items()}


def check_values(option: str, values: Any) -> Any:
    """The values to try for an option, with numbers that YAML read as words, such as 1e-4, turned into numbers.

    Raises:
        ValueError: if there are none, or they cannot be tried.
    """
    name = f"`tune.search`: {option!r}"
    if isinstance(values, dict):
        return check_range(name, {key: number(value) for key, value in values.items()})
    if not isinstance(values, list) or not values:
        raise UserError(f"{name} has {values!r}, not a list of one or more values or a range {{low: ..., high: ...}}.")
    values = [number(value) for value in values]
    if option.split(".")[-1] == "lr" and (bad := [v for v in values if not is_number(v) or v <= 0]):
        raise UserError(f"{name} has {bad[0]!r}, but a learning rate must be a number greater than 0.")
    if any(values.count(value) > 1 for value in values):
        raise UserError(f"{name}={values} must hold each value once.")
    return sorted(values) if all(map(is_number, values)) else values


def check_range(name: str, ends: Options) -> Options:
    """Check a range, and return it."""
    if not {"low", "high"} <= ends.keys() <= RANGE or not all(is_number(ends[key]) for key in ("low", "high")):
        raise UserError(f"{name}={ends} must be a range {{low: number, high: number}}, with `log: false` if linear.")
    if not ends["low"] < ends["high"] or (ends.get("log", True) and ends["low"] <= 0):
        raise UserError(f"{name}={ends}: `low` must be less than `high`, and greater than 0 unless `log: false`.")
    return ends


def number(value: Any) -> Any:
    """`value`, or the number that a word such as 1e-4 stands for."""
    try:
        found = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return value
    return found if math.isfinite(found) else value


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def spread(ends: Options) -> list[Any]:
    """Values of a range: about half a decade apart, or five if it is linear."""
    low, high = ends["low"], ends["high"]
    if ends.get("log", True):
        steps = max(1, round(2 * math.log10(high / low)))
        values = [low * (high / low) ** (step / steps) for step in range(steps + 1)]
    else:
        values = [low + (high - low) * step / 4 for step in range(5)]
    if isinstance(low, int) and isinstance(high, int):
        return sorted({round(value) for value in values})
    return [round_off(value) for value in values]


def round_off(value: float) -> float:
    """A value to four digits, so that its name stays short."""
    return float(f"{value:.4g}")


def grid_points(values: dict[str, list[Any]]) -> list[Options]:
    """All combinations of values."""
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]
