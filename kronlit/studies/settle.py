"""What a run's folder holds when a study begins: results of these settings, of others, or half of one."""

from dataclasses import replace
from pathlib import Path

from kronlit.studies.result import FILE, Result, newest_fit, read_result, with_summary


def settled(folder: Path, config_hash: str) -> Result | None:
    """The result that a run has by now, with what belongs to other settings out of the way.

    What was made with other settings moves to `old-<hash>` in the run's folder, and comes back when they do.
    """
    result = read_result(folder)
    if result and result.hash != config_hash:
        move(folder, folder / f"old-{result.hash}")
    if (aside := folder / f"old-{config_hash}").exists():
        move(aside, folder)
        aside.rmdir()
    result = read_result(folder)
    if result and result.status == "running" and newest_fit(folder):  # the study was killed before it could say so
        result = replace(with_summary(result, folder), exit_code=0)
        result.write(folder)
    return result


def move(source: Path, target: Path) -> None:
    """Move what a run left, its result last, so that a move that is cut short is taken up again."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir(), key=lambda path: path.name == FILE):
        if not path.name.startswith("old-") and path.name != "lock":
            path.rename(target / path.name)
