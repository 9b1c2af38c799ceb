"""Where each number comes from: the runs behind a cell, with their configs and commands."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kronlit.studies.report.table import AVERAGE, Row


@dataclass(frozen=True)
class Origin:
    """A run behind a cell.

    Args:
        seed: its seed.
        score: its score.
        command: its command.
        config: the address of its config, relative to the report.
    """

    seed: int
    score: float
    command: str
    config: str


@dataclass(frozen=True)
class Origins:
    """The runs behind a cell; `anchor` is its name in the page."""

    row: str
    task: str
    anchor: str
    runs: list[Origin]


def origins(rows: list[Row]) -> list[Origins]:
    """The runs behind each cell that has any. The average has those of all tasks."""
    found = []
    for i, row in enumerate(rows):
        for j, (task, cell) in enumerate(row.cells.items()):
            if task != AVERAGE and cell.results:
                runs = [
                    Origin(
                        seed,
                        cell.scores[seed],
                        result.command,
                        quote(str(Path("..", cell.runs[seed].folder, str(result.fit), "config.yaml"))),
                    )
                    for seed, result in cell.results.items()
                ]
                found.append(Origins(row.name, task, f"runs-{i}-{j}", runs))
    return found
