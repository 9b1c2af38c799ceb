"""Checks the options of a study's runs before any run starts.

A process of its own parses them, `python -m kronlit.cli.fit_options`, so that the study needs no torch.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kronlit.config.user_error import UserError
from kronlit.studies.plan import Run
from kronlit.studies.result import FILE


def check_options(runs: Iterable[Run], root: Path) -> None:
    """Check a run of each method and of each task, of those that were never started.

    Seeds and the other points of a grid have the same options.

    Raises:
        ValueError: if an option is wrong; the message says of which run.
    """
    chosen: dict[Path, Run] = {}
    seen: set[tuple[Any, ...]] = set()
    for run in runs:
        kinds = {("method", run.method, tuple(run.point)), ("task", run.task)}
        if not kinds <= seen and not (root / run.folder / FILE).exists():
            seen |= kinds
            chosen[run.folder] = run
    if not chosen:
        return
    words = json.dumps([run.words for run in chosen.values()])
    made = subprocess.run(
        [sys.executable, "-m", "kronlit.cli.fit_options"], input=words, capture_output=True, text=True
    )
    if made.returncode == 2:  # anything else is no mistake of the user, and is met again by the run
        number = len(made.stdout.splitlines())
        said = made.stderr.strip().splitlines()[-1].removeprefix("kronlit: ")
        raise UserError(f"{list(chosen.values())[number].name}: {said}")


def parse_all() -> None:
    """Parse the words of the fits in stdin, and print a line for each that is right. The first mistake ends it."""
    from kronlit.cli.configs import fit_config

    for words in json.load(sys.stdin):
        fit_config(words)
        print("right", flush=True)


if __name__ == "__main__":
    parse_all()
