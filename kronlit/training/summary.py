"""Writes the outcome of a training to summary.json in its folder: scores, counts and costs."""

import json
import platform
import statistics
import sys
from datetime import datetime, timezone
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
from kronlit.data.base import TaskData
from kronlit.training.chance import chance_level
from kronlit.training.machine import machine
from kronlit.training.metrics_reader import best_scores, metrics_rows

PACKAGES = ("torch", "lightning", "transformers", "datasets", "torchmetrics")


@rank_zero_only
def write_summary(folder: Path, module: LightningModule, best: ModelCheckpoint, seconds: float) -> None:
    """Write `summary.json` as the last thing that a fit does, completely or not at all.

    Its keys: `scores` (see `best_scores`), `trained_parameters`, `parameters` (of the original model), `per_cent`,
    `seconds` (of this process, with its test but without its start), `seconds_per_epoch` (the median, training only),
    `peak_memory_bytes` and `peak_memory_of` (`cuda`: torch's memory on the device; `process`: the resident set; of the
    first process only, and null if the system does not tell), `adapter_bytes` (size of all that was trained),
    `versions`, `date` (its end, in UTC), `machine` (see there), `processes`, `rows` (of each split that was read) and
    `chance` (see `chance_level`; by the names of the scores, such as test/accuracy).

    Args:
        folder: the run's folder.
        module: the trained module.
        best: the callback that knows by which score the best checkpoint was selected.
        seconds: duration of the fit, with its test.
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
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(module.trainer.strategy.root_device),
        "processes": module.trainer.world_size,
        **data_facts(cast(Any, module.trainer).datamodule),
    }
    partial = folder / ".summary.json.partial"
    partial.write_text(json.dumps(summary, indent=2) + "\n")
    partial.replace(folder / "summary.json")


def data_facts(data: TaskData) -> dict[str, Any]:
    """The number of rows of each split that a run has read, and the chance level of those that it scored."""
    chance: dict[str, float] = {}
    for split, short in {"validation": "val", "test": "test"}.items():
        levels = chance_level(data.task, data.read_labels(split))
        chance |= {f"{short}/{name}": level for name, level in levels.items()}
    return {"rows": data.row_counts(), "chance": chance}


def resident_bytes() -> int | None:
    """The largest resident set of this process so far, in bytes; `None` on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
