"""What became of a run: `run.json` in its folder.

Schema 1, all keys always there:

| key | what |
|---|---|
| `schema` | 1 |
| `status` | `running` (now, or when it was killed), `done` or `failed` |
| `hash` | of all that is set (`Run.config_hash`); another one makes a run another run |
| `task`, `method`, `seed`, `point` | what it is; `point` has the options that the grid sets |
| `command` | as a shell takes it, from the folder in which the study was started |
| `pid` | of its last process; null for the moment before it starts |
| `attempts` | how many times it was started; each goes on where the last one had its checkpoint |
| `started`, `ended` | of the last attempt, in UTC (ISO 8601); `ended` is null while it runs |
| `exit_code` | of its process, negative for a signal; null while it runs |
| `error` | one line, null unless it failed |
| `revision` | of the git repository in which the study was started, with `+` if it was changed; null if there is none |
| `fit` | its newest `version_N`, null until it is done |
| `side_by_side` | how many runs trained in its process, as one batch; its times are then theirs |
| `summary` | what the fit left in `summary.json` (`kronlit.training.summary`): scores, counts, costs; or null |
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
    """A `run.json`; see the module for what its entries mean."""

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
        """By name, validation's and test's."""
        return self.summary["scores"] if self.summary else {}

    @property
    def seconds(self) -> float:
        """Wall time of the last attempt, start of the process included where its end was seen."""
        if self.ended is None:
            return self.summary["seconds"] if self.summary else 0.0
        return (datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)).total_seconds()

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        write_whole(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")


def read_result(folder: Path) -> Result | None:
    """The result in a run's folder; `None` if there is none yet.

    Raises:
        ValueError: if the file is of another schema or no such file.
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
    """The newest `version_N` in a run's folder that came to its end, and its summary."""
    summaries = sorted(folder.glob("version_*/summary.json"), key=lambda path: int(path.parent.name.split("_")[1]))
    return (summaries[-1].parent.name, json.loads(summaries[-1].read_text())) if summaries else None


def finished_result(result: Result, folder: Path) -> Result:
    """`result` as that of a fit that came to its end, with what that left."""
    if (newest := newest_fit(folder)) is None:
        return failed_result(result, "the fit left no summary.json; a study cannot use `trainer.fast_dev_run`.")
    return replace(result, status="done", error=None, fit=newest[0], summary=newest[1])


def failed_result(result: Result, error: str) -> Result:
    """`result` as that of a run that failed."""
    return replace(result, status="failed", error=error)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that whatever happens it is the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
