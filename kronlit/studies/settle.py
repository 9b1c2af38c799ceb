"""Tidies up a run's folder, which may hold results of these settings, of other settings, or half of one."""

from dataclasses import replace
from pathlib import Path

from kronlit.studies.result import FILE, Result, finished_result, newest_fit, read_result


def current_result(folder: Path, config_hash: str) -> Result | None:
    """The present result of a run, after files of other settings are moved away.

    Files of other settings go to `old-<hash>` in the run's folder, and come back when those settings do.
    """
    result = read_result(folder)
    if result and result.hash != config_hash:
        move_run(folder, folder / f"old-{result.hash}")
    if (aside := folder / f"old-{config_hash}").exists():
        move_run(aside, folder)
        aside.rmdir()
    result = read_result(folder)
    if result and result.status == "running" and newest_fit(folder):  # done, but the study was killed before it saw
        result = replace(finished_result(result, folder), exit_code=0)
        result.write(folder)
    return result


def move_run(source: Path, target: Path) -> None:
    """Move the files of a run, with its result last, so that an interrupted move is completed the next time."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir(), key=lambda path: path.name == FILE):
        if not path.name.startswith("old-") and path.name != "lock":
            path.rename(target / path.name)
