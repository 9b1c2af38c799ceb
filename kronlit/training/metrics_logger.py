"""The logger of metrics.csv. It writes each row at once, so that a kill loses none."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsFile(Logger):
    """Writes metrics.csv at once, and can resume: it drops rows from `step` on, because their work was lost.

    Rows are appended. For other changes, on resuming or for a new column, a new file replaces the old one atomically.
    Lightning's `CSVLogger` empties the file first, and a kill then loses everything.

    Args:
        run_dir: folder of the experiment.
        version: number of the run, or the name of its folder.
        step: number of steps that the run has done already.
    """

    def __init__(self, run_dir: Path, version: int | str, step: int) -> None:
        super().__init__()
        self.path = run_dir / (version if isinstance(version, str) else f"version_{version}") / "metrics.csv"
        self.number = version
        self.step = step
        self.columns: list[str] = []
        """The columns of the file, once this process has written it."""

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> int | str:
        return self.number

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row: dict[str, Any] = {"step": step, **metrics}
        if not row.keys() <= set(self.columns):
            rows = metrics_so_far(self.path)
            if not self.columns:
                rows = [kept for kept in rows if (kept.get("step") or "").isdigit() and int(kept["step"]) < self.step]
            names = {name for kept in rows for name, value in kept.items() if value} | row.keys()
            self._replace(sorted(names | set(self.columns)), rows)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def _replace(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(".metrics.csv.partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({name: row.get(name) for name in columns} for row in rows)
        partial.replace(self.path)
        self.columns = columns


def metrics_so_far(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv as text, without a last row that a kill has cut off."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if line.endswith("\n")))
