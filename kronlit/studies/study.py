"""The description of a study: tasks x methods x a grid x seeds, each a run of `kronlit fit`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kronlit.config.explain import nearest
from kronlit.config.user_error import UserError
from kronlit.studies.tune import Tune

Options = dict[str, Any]
Setting = str | Options | list[str | Options]
"""A config file, options by name, or a list of both, in which later entries win."""

Selection = Literal["none", "per_seed", "per_method"]


@dataclass(frozen=True)
class Published:
    """A paper's numbers, to compare with the measured ones.

    Args:
        source: paper and table, as the report prints them.
        scores: for each method and task: per cent, or `[mean, standard deviation]`.
    """

    source: str
    scores: dict[str, dict[str, float | tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Many runs of `kronlit fit`, and which of them count.

    A run's command is put together in this order, and later parts win: `configs`, `options`, its task, its method,
    their cell, its point of the grid, its seed. In all of them `{task}`, `{method}` and `{seed}` are replaced by the
    run's own.

    Args:
        methods: names; or a config file, options of `kronlit fit` or a list of both for each name.
        tasks: names; or a config file, options or a list of both for each name.
        configs: config files of every run.
        options: options of every run.
        cells: further settings for a method on a task, by method and then task.
        seeds: the seeds; each gives one run.
        seed_sets: the options that get the seed.
        grid: for each option the values to try, in all combinations.
        method_grid: for a method, a grid that extends or overrides `grid`.
        select: which point of the grid counts. none: each point is a row of its own; per_seed: the best for each seed
            (LM-BFF); per_method: the best on average over the seeds. Among equal scores, the lower loss wins.
        select_by: the validation score that selects.
        select_mode: whether the largest or the smallest score is best.
        metric: the score to report; or one for each task, with `test/score` for tasks that are left out.
        published: a paper's numbers for the same methods and tasks.
        tune: what is searched for each method on each task before its best point runs with the seeds; `{}` searches
            the learning rate. Without it nothing is searched.
    """

    methods: dict[str, Setting] | list[str]
    tasks: dict[str, Setting] | list[str]
    configs: list[str] = field(default_factory=list)
    options: Options = field(default_factory=dict)
    cells: dict[str, dict[str, Setting]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    seed_sets: list[str] = field(default_factory=lambda: ["seed_everything"])
    grid: dict[str, list[Any]] = field(default_factory=dict)
    method_grid: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    select: Selection = "none"
    select_by: str = "val/score"
    select_mode: Literal["max", "min"] = "max"
    metric: str | dict[str, str] = "test/score"
    published: Published | None = None
    tune: Tune | None = None

    def __post_init__(self) -> None:
        for name in ("methods", "tasks", "seeds"):
            values = list(getattr(self, name))
            if not values or len(set(values)) < len(values):
                raise UserError(f"`{name}`={values} must hold one or more, each once.")
        for grid in (self.grid, *self.method_grid.values()):
            for option, values in grid.items():
                if not values:
                    raise UserError(f"`grid`: {option!r} has no values; give one or more, or leave it out.")
        if self.select != "none" and not self.select_by.startswith("val"):
            raise UserError(f"`select_by`={self.select_by!r} must be a score of validation, such as val/score.")
        check_known("method_grid", self.method_grid, self.methods)
        if isinstance(self.metric, dict):
            check_known("metric", self.metric, self.tasks)
        self._check_table("cells", self.cells)
        if self.published:
            self._check_table("published.scores", self.published.scores)
        if self.tune:
            self._check_tune(self.tune)

    def _check_table(self, name: str, rows: Mapping[str, Mapping[str, object]]) -> None:
        check_known(name, rows, self.methods)
        for row in rows.values():
            check_known(name, row, self.tasks)

    def _check_tune(self, tune: Tune) -> None:
        if self.grid or self.method_grid:
            raise UserError("`grid` and `tune` exclude each other: name under `tune.search` what is to be searched.")
        check_known("tune.method_search", tune.method_search, self.methods)
        tune.check(list(self.methods), self.seeds)

    def metric_of(self, task: str) -> str:
        """The score that is reported for a task."""
        return self.metric if isinstance(self.metric, str) else self.metric.get(task, "test/score")

    def grid_of(self, method: str) -> dict[str, list[Any]]:
        """For each option the values to try with a method."""
        return self.grid | self.method_grid.get(method, {})


def check_known(argument: str, names: Iterable[str], there: Iterable[str]) -> None:
    """Raise `ValueError` unless all `names` are in `there`."""
    for name in names:
        if name not in there:
            raise UserError(f"`{argument}`: {name!r} is not in the study{nearest(name, there, everything=True)}")
