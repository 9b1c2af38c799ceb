"""What a training came to, as the small file summary.json in its folder: scores, counts and costs."""

import csv
import json
import platform
import resource
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from kronlit import __version__
from kronlit.adapters import parameter_counts
from kronlit.checkpoint import adapter_state

PACKAGES = ("torch", "lightning", "transformers", "datasets", "torchmetrics")


@rank_zero_only
def write_summary(folder: Path, module: LightningModule, best: ModelCheckpoint, seconds: float) -> None:
    """Write `summary.json`, whole or not at all, as the last thing a fit does.

    Its keys: `scores` (see `scores`), `trained_parameters`, `parameters` (of the model as it came), `per_cent`,
    `seconds` (of this process, from its first step to its last), `seconds_per_epoch` (the median, of training alone),
    `peak_memory_bytes` and `peak_memory_of` (`cuda`, what torch took of the first device, or `process`, the resident
    set), `adapter_bytes` (of all that was trained, as a file holds it), `versions`.

    Args:
        folder: the run's.
        module: what was trained.
        best: says by which score the best checkpoint was chosen.
        seconds: that the fit took, with its test.
    """
    rows = metrics_rows(folder / "metrics.csv")
    trained, total = parameter_counts(cast(Any, module).model)
    epochs = [row["train/epoch_seconds"] for row in rows if "train/epoch_seconds" in row]
    cuda = torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    summary = {
        "scores": scores(rows, best.monitor, best.mode),
        "trained_parameters": trained,
        "parameters": total,
        "per_cent": 100 * trained / total,
        "seconds": seconds,
        "seconds_per_epoch": statistics.median(epochs) if epochs else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else resident,
        "peak_memory_of": "cuda" if cuda else "process",
        "adapter_bytes": sum(tensor.nbytes for tensor in adapter_state(module).values()),
        "versions": {"kronlit": __version__, "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
    }
    partial = folder / ".summary.json.partial"
    partial.write_text(json.dumps(summary, indent=2) + "\n")
    partial.replace(folder / "summary.json")


def metrics_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv, without empty cells; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def scores(rows: list[dict[str, float]], monitor: str | None, mode: str) -> dict[str, float]:
    """All `val` metrics of the best checkpoint, and all `test` metrics of the last test.

    The best is the first of those with the best `monitor`, as `ModelCheckpoint` keeps it; where nothing is monitored,
    the last.
    """
    validations = [row for row in rows if any(name.startswith("val") for name in row)]
    if validations and monitor in validations[0]:
        best = (max if mode == "max" else min)(validations, key=lambda row: row[cast(str, monitor)])
    else:
        best = validations[-1] if validations else {}
    tests = [row for row in rows if any(name.startswith("test/") for name in row)]
    values = best | (tests[-1] if tests else {})
    return {name: value for name, value in values.items() if name.startswith(("val", "test/"))}
