"""The result of a run: `run.json` in its folder.

Schema 1. All keys are always there:

| key | meaning |
|---|---|
| `schema` | 1 |
| `status` | `running` (now, or when it was killed), `done` or `failed` |
| `hash` | hash of all settings (`Run.config_hash`); with other settings it is another run |
| `task`, `method`, `seed`, `point` | which run it is; `point` has the options that the grid sets |
| `command` | the shell command, for the folder in which the study was started |
| `pid` | of its last process; null just before that starts |
| `attempts` | how many times it was started; each attempt resumes from the last checkpoint |
| `started`, `ended` | times of the last attempt in UTC (ISO 8601); `ended` is null while it runs |
| `exit_code` | of its process, negative for a signal; null while it runs |
| `error` | one line; null unless it failed |
| `revision` | of the git repository where the study was started, with `+` if files were changed; null without one |
| `fit` | its newest `version_N`; null until it is done |
| `side_by_side` | how many runs trained in its process as one batch; its times are those of all of them |
| `summary` | the content of the fit's `summary.json` (`kronlit.training.summary`): scores, counts, costs; or null |
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from kronlit.config.user_error import UserError
from kronlit.studies.study import Options

SCHEMA = 1
FILE = "run.json"
LOG = "log.txt"


@dataclass(frozen=True)
class Result:
    """A `run.json`; the module's docstring explains its keys."""

    status: Literal["running", "done", "failed"]
    hash: str
    task: str
    method: str
    seed: int
    point: Options
    command: str
    pid: int | None
    attempts: int
    started: str
    revision: str | None
    ended: str | None = None
    exit_code: int | None = None
    error: str | None = None
    fit: str | None = None
    summary: dict[str, Any] | None = None
    side_by_side: int = 1
    schema: int = SCHEMA

    @property
    def scores(self) -> dict[str, float]:
        """The scores of validation and test, by name."""
        return self.summary["scores"] if self.summary else {}

    @property
    def seconds(self) -> float:
        """Wall time of the last attempt, including the start of the process if the study saw its end."""
        if self.ended is None:
            return self.summary["seconds"] if self.summary else 0.0
        return (datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)).total_seconds()

    def write(self, folder: Path) -> None:
        """Write it completely or not at all."""
        write_whole(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")


def read_result(folder: Path) -> Result | None:
    """The result in a run's folder; `None` if there is none yet.

    Raises:
        ValueError: if the file has another schema, or is not a result.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema") == SCHEMA:
            return Result(**content)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{str(path)!r} is not a result of a run: {error}. Delete it to run that anew.") from error
    raise UserError(f"{str(path)!r} has schema {content.get('schema')!r}, not {SCHEMA}: another version wrote it.")


def newest_fit(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """The newest `version_N` in a run's folder that was finished, and its summary."""
    summaries = sorted(folder.glob("version_*/summary.json"), key=lambda path: int(path.parent.name.split("_")[1]))
    return (summaries[-1].parent.name, json.loads(summaries[-1].read_text())) if summaries else None


def finished_result(result: Result, folder: Path) -> Result:
    """`result` as `done`, with the summary that the fit left."""
    if (newest := newest_fit(folder)) is None:
        return failed_result(result, "the fit left no summary.json; a study cannot use `trainer.fast_dev_run`.")
    return replace(result, status="done", error=None, fit=newest[0], summary=newest[1])


def failed_result(result: Result, error: str) -> Result:
    """`result` as `failed`."""
    return replace(result, status="failed", error=error)


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or not at all: after a crash there is either the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
