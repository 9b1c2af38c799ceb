"""What a search found: `tuned.json`, which the report and the later runs of a study read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kronlit.config.user_error import UserError
from kronlit.studies.result import write_whole
from kronlit.studies.study import Options

FILE = "tuned.json"
SCHEMA = 1


@dataclass(frozen=True)
class Trial:
    """One point of a search.

    Args:
        point: the options that it sets.
        scores: for each seed the validation score, as far as it has trained.
        epochs: epochs that it has trained, of `of`.
        of: epochs of a whole run.
        status: done, stopped (others were better after as many epochs) or failed.
    """

    point: Options
    scores: dict[int, float]
    epochs: float
    of: float
    status: str

    @property
    def score(self) -> float | None:
        """Mean validation score over the seeds; `None` without any."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None


@dataclass(frozen=True)
class TunedCell:
    """The search for a method on a task.

    Args:
        task: name of the task.
        method: name of the method.
        search: for each option all values that were tried, in order; for a range its two ends.
        select_by: the validation score that selects.
        select_mode: whether its largest or its smallest value is best.
        seeds: the seeds of the search, none of which is a seed of the report.
        trials: the points.
        chosen: the best point.
        edge: the options whose chosen value lies at the end of what was tried, so that a better one may lie outside.
    """

    task: str
    method: str
    search: dict[str, list[Any]]
    select_by: str
    select_mode: str
    seeds: list[int]
    trials: list[Trial]
    chosen: Options
    edge: list[str]


def write_tuned(cells: list[TunedCell], root: Path) -> None:
    """Write what was found to a study's folder."""
    content = {"schema": SCHEMA, "cells": [asdict(cell) for cell in cells]}
    write_whole(root / FILE, json.dumps(content, indent=2) + "\n")


def read_tuned(root: Path) -> list[TunedCell]:
    """What was found; nothing if nothing was searched.

    Raises:
        UserError: if the file is not as kronlit writes it.
    """
    path = root / FILE
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise UserError(f"{str(path)!r} has schema {content['schema']!r}, not {SCHEMA}: another version wrote it.")
        return [
            TunedCell(**cell | {"trials": [read_trial(each) for each in cell["trials"]]}) for cell in content["cells"]
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{str(path)!r} is not the result of a search: {error}. Delete it to search anew.") from error


def read_trial(content: dict[str, Any]) -> Trial:
    """A trial from its form in the file, where seeds are strings."""
    return Trial(**content | {"scores": {int(seed): score for seed, score in content["scores"].items()}})
