"""What a training came to, as the small file summary.json in its folder: scores, counts and costs."""

import json
import platform
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
from kronlit.adapters.state import adapter_state
from kronlit.training.metrics_reader import best_scores, metrics_rows

PACKAGES = ("torch", "lightning", "transformers", "datasets", "torchmetrics")


@rank_zero_only
def write_summary(folder: Path, module: LightningModule, best: ModelCheckpoint, seconds: float) -> None:
    """Write `summary.json`, whole or not at all, as the last thing a fit does.

    Its keys: `scores` (see `best_scores`), `trained_parameters`, `parameters` (of the model as it came), `per_cent`,
    `seconds` (of this process, its test included, its start not), `seconds_per_epoch` (the median, of training alone),
    `peak_memory_bytes` and `peak_memory_of` (`cuda`, what torch took of the device, or `process`, the resident set; of
    the first of several processes, null where the system does not tell), `adapter_bytes` (of all that was trained, as
    a file holds it), `versions`.

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
    summary = {
        "scores": best_scores(rows, best.monitor, best.mode),
        "trained_parameters": trained,
        "parameters": total,
        "per_cent": 100 * trained / total,
        "seconds": seconds,
        "seconds_per_epoch": statistics.median(epochs) if epochs else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else resident_bytes(),
        "peak_memory_of": "cuda" if cuda else "process",
        "adapter_bytes": sum(tensor.nbytes for tensor in adapter_state(module).values()),
        "versions": {"kronlit": __version__, "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
    }
    partial = folder / ".summary.json.partial"
    partial.write_text(json.dumps(summary, indent=2) + "\n")
    partial.replace(folder / "summary.json")


def resident_bytes() -> int | None:
    """The largest resident set that this process had; `None` on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
