"""Turns a study into runs: each with its command, its folder, and a hash of its settings."""

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from kronlit.config.aliases import check_aliases
from kronlit.config.explain import nearest
from kronlit.config.files import yaml_content
from kronlit.config.user_error import UserError
from kronlit.studies.retired import current_words
from kronlit.studies.study import Options, Setting, Study


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Args:
        task: name of the task.
        method: name of the method.
        seed: the seed.
        point: the options that the grid sets.
        words: the words of its command after `kronlit fit`.
        folder: its folder, relative to the study's.
        until: the epochs after which it pauses; `None` trains it to the end. It is no setting: the run stays the same.
    """

    task: str
    method: str
    seed: int
    point: Options
    words: tuple[str, ...]
    folder: Path
    until: int | None = None

    @property
    def name(self) -> str:
        """The name for people to read."""
        return " · ".join([self.task, row_name(self.method, self.point), f"seed {self.seed}"])

    def config_hash(self) -> str:
        """A hash of all settings, 16 hexadecimal digits: of the options and of the contents of the config files.

        Raises:
            ValueError: if a file cannot be read.
        """
        parts: list[Any] = []
        files = {i for i, word in enumerate(self.words) if i and self.words[i - 1] == "--config"}
        for i, word in enumerate(self.words):
            parts.append(config_content(word) if i in files else word)
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def config_content(path: str) -> Any:
    """The content of a config file, without its comments."""
    check_aliases(path)
    return yaml_content(path, f"the study's `config`={path!r}")


def plan(study: Study) -> list[Run]:
    """All runs of a study, seed after seed, so that an interrupted study has complete tables for its first seeds.

    Raises:
        ValueError: if two runs would write to the same folder.
    """
    runs = [
        make_run(study, task, method, point, seed)
        for seed in study.seeds
        for task in study.tasks
        for method in study.methods
        for point in points(study.grid_of(method))
    ]
    seen: dict[Path, Run] = {}
    for one in runs:
        if one.folder in seen:
            raise UserError(
                f"{one.name!r} and {seen[one.folder].name!r} would both write to {str(one.folder)!r}: name them apart "
                "by more than punctuation."
            )
        seen[one.folder] = one
    return runs


def make_run(study: Study, task: str, method: str, point: Options, seed: int) -> Run:
    """Put the command of one run together."""
    settings = [
        *study.configs,
        study.options,
        study.tasks[task] if isinstance(study.tasks, dict) else [],
        study.methods[method] if isinstance(study.methods, dict) else [],
        study.cells.get(method, {}).get(task, []),
        point,
        dict.fromkeys(study.seed_sets, seed),
    ]
    names = {"{task}": task, "{method}": method, "{seed}": str(seed)}
    given = tuple(current_words([fill_in(word, names) for setting in settings for word in setting_words(setting)]))
    parts = [slug(task), slug(method), *([slug(point_name(point))] if point else []), f"seed-{seed}"]
    return Run(task, method, seed, point, given, Path(*parts))


def select_runs(runs: list[Run], only: list[str] | None) -> list[Run]:
    """The runs that match one of the patterns `only`, such as `KronA/*` (METHOD/TASK); all runs if it is `None`.

    Raises:
        ValueError: if a pattern matches no run.
    """
    if only is None:
        return runs
    cells = sorted({f"{one.method}/{one.task}" for one in runs})
    for pattern in only:
        if not fnmatch.filter(cells, pattern):
            raise UserError(f"`only`={pattern!r} names no METHOD/TASK of the study{nearest(pattern, cells, True)}")
    return [one for one in runs if any(fnmatch.fnmatchcase(f"{one.method}/{one.task}", pattern) for pattern in only)]


FREE = ("model.lr", "model.weight_decay", "model.warmup")
"""The options, besides seeds, in which runs side by side may differ: they concern only each run's own optimiser."""


def group_runs(runs: list[Run], most: int, processes: int) -> list[list[Run]]:
    """Group runs that can train side by side, at most `most` in a group, in the order of each group's first run.

    Groups stay small enough to give each of the `processes` something to do.
    """
    alike: dict[Any, list[Run]] = {}
    for one in runs:
        fixed = json.dumps({option: value for option, value in one.point.items() if option not in FREE})
        alike.setdefault((one.task, one.method, one.until, fixed), []).append(one)
    groups = []
    for some in alike.values():
        count = max(-(-len(some) // most), min(processes, len(some)))
        size = -(-len(some) // count)
        groups += [some[start : start + size] for start in range(0, len(some), size)]
    order = {one.folder: number for number, one in enumerate(runs)}
    return sorted(groups, key=lambda group: order[group[0].folder])


def points(grid: dict[str, list[Any]]) -> list[Options]:
    """All points of a grid. An empty grid has one point, which sets nothing."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def setting_words(setting: Setting) -> Iterator[str]:
    """The words that a setting adds to a command."""
    if isinstance(setting, str):
        yield from ("--config", setting)
    elif isinstance(setting, dict):
        for option, value in setting.items():
            yield from (f"--{option}", value if isinstance(value, str) else json.dumps(value))
    else:
        for part in setting:
            yield from setting_words(part)


def fill_in(word: str, names: dict[str, str]) -> str:
    """Replace `{task}`, `{method}` and `{seed}` in a word. Other braces stay."""
    for name, value in names.items():
        word = word.replace(name, value)
    return word


def point_name(point: Options) -> str:
    """A short name of a grid's point: the last part of each option's name, and its value."""
    return ", ".join(f"{option.split('.')[-1]}={value}" for option, value in point.items())


def row_name(method: str, point: Options) -> str:
    """The name of a method at a point of its grid."""
    return f"{method} ({point_name(point)})" if point else method


def slug(name: str) -> str:
    """Turn a name into the name of a folder."""
    return re.sub(r"[^\w.=+^-]+", "_", name).strip("._") or "_"
