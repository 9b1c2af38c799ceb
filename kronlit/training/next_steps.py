"""Says where a run lies, and which commands come next."""

import shlex
from inspect import signature
from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from kronlit.adapters import Placement, QuantisedLinear, WeightChange, placements
from kronlit.data.base import TaskData


def after_fit(folder: Path, best: ModelCheckpoint, model: nn.Module | None, data: TaskData) -> str:
    """Where a finished run lies, and the commands that use it, a line each.

    Args:
        folder: the run's folder.
        best: the callback that keeps the best checkpoint.
        model: the trained model; what cannot be merged is exported.
        data: its data; a file to predict is named where it can be given.
    """
    run = shlex.quote(str(folder))
    own = any("predict_file" in signature(kind).parameters for kind in type(data).__mro__)
    commands = {
        f"kronlit predict --ckpt_path {run}" + (" --data.predict_file FILE" if own else ""): "its predictions",
        f"kronlit export --ckpt_path {run} --output adapter": "what was trained, as a small folder",
    }
    if model is not None and all(merges(placement) for _, placement in placements(model)):
        commands |= {f"kronlit merge --ckpt_path {run} --output merged": "a plain Transformers folder"}
    kept = f"best checkpoint: {Path(best.best_model_path).name}" if best.best_model_path else ""
    if kept and best.best_model_score is not None:
        kept += f" · {best.monitor} {float(best.best_model_score):.3f}"
    lines = [f"run directory: {folder}", *([kept] if kept else []), "next:"]
    return "\n".join([*lines, *(f"  {word}  # {why}" for word, why in commands.items())])


def merges(placement: Placement) -> bool:
    """Whether `kronlit merge` folds this into the weight; a quantised one it dequantises first."""
    quantised = isinstance(placement.host, QuantisedLinear) and isinstance(placement, WeightChange)
    return not placement.below and (quantised or placement.merge_blocker is None)


def go_on(folder: Path) -> str:
    """How a stopped run goes on, or that it has saved nothing yet."""
    if not any((folder / "checkpoints").glob("*.ckpt")):
        return f"run directory: {folder}; nothing was saved yet."
    command = f"kronlit fit --config {shlex.quote(str(folder / 'config.yaml'))} --ckpt_path last"
    return f"run directory: {folder}\nit goes on with: {command}"
