"""What a run's folder holds when a study begins: results of these settings, of others, or half of one."""

from dataclasses import replace
from pathlib import Path

from kronlit.studies.result import FILE, Result, finished_result, newest_fit, read_result


def current_result(folder: Path, config_hash: str) -> Result | None:
    """The result that a run has by now, with what belongs to other settings out of the way.

    What was made with other settings moves to `old-<hash>` in the run's folder, and comes back when they do.
    """
    result = read_result(folder)
    if result and result.hash != config_hash:
        move_run(folder, folder / f"old-{result.hash}")
    if (aside := folder / f"old-{config_hash}").exists():
        move_run(aside, folder)
        aside.rmdir()
    result = read_result(folder)
    if result and result.status == "running" and newest_fit(folder):  # the study was killed before it could say so
        result = replace(finished_result(result, folder), exit_code=0)
        result.write(folder)
    return result


def move_run(source: Path, target: Path) -> None:
    """Move what a run left, its result last, so that a move that is cut short is taken up again."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir(), key=lambda path: path.name == FILE):
        if not path.name.startswith("old-") and path.name != "lock":
            path.rename(target / path.name)
