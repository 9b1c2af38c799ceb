"""Checkpoints of what is trained, and nothing of the frozen model, written so that a kill leaves the last one whole."""

import hashlib
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from kronlit.adapters import placements
from kronlit.data.form import Form, check_form

FORM: Form = {
    "global_step?": int,
    "callbacks?": {...: {"best_model_path?": str}},
    "kronlit?": {"reads?": [str], "settings?": {...: int | float}},
}
"""Those parts of a checkpoint that are read before Lightning restores it."""


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The entries of `model.state_dict()` that a checkpoint needs: what is trained, and all that placements hold.

    A parameter that is tied has one entry, under its first name.
    """
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    others = {name for name, _ in model.named_parameters(remove_duplicate=False)} - {
        name for name, _ in model.named_parameters()
    }
    state = model.state_dict()
    prefixes = tuple(f"{name}." for name, _ in placements(model))
    hosts = tuple(f"{prefix}host." for prefix in prefixes)
    return {
        name: tensor
        for name, tensor in state.items()
        if name in names or (name.startswith(prefixes) and not name.startswith(hosts) and name not in others)
    }


def fingerprint(model: nn.Module) -> str:
    """Twelve digits that tell the frozen weights of `model` from others."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    starts = [parameter.detach().flatten()[:100].float().cpu().numpy().tobytes() for parameter in frozen]
    # Sorted: Transformers reorders modules from one version to the next (ViT, DINOv2).
    return hashlib.sha256(b"".join(sorted(starts))).hexdigest()[:12]


RENAMED = (
    (r"\bencoder\.layer\.(?=\d)", "layers."),
    (r"\battention\.attention\.(q|k|v)(uery|ey|alue)\b", r"attention.\1_proj"),
    (r"\battention\.output\.dense\b", "attention.o_proj"),
    (r"(?<=\d\.)intermediate\.dense\b", "mlp.fc1"),
    (r"(?<=\d\.)output\.dense\b", "mlp.fc2"),
)
"""The names of a ViT's modules that versions of Transformers have renamed, and what they are now."""


def in_names_of(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names that the modules of `model` have in the installed version of Transformers."""

    def canonical(name: str) -> str:
        for older, newer in RENAMED:
            name = re.sub(older, newer, name)
        return name

    own = {canonical(name): name for name in adapter_state(model)}
    return {own.get(canonical(name), name): tensor for name, tensor in state.items()}


def misfit(model: nn.Module, state: dict[str, Tensor]) -> str:
    """Where `state` does not hold exactly what `model` trains, in the same shapes; nothing where it does."""
    own = adapter_state(model)
    faults = [f"lacks {name}" for name in own if name not in state]
    faults += [f"has {name}, which this model does not train" for name in state if name not in own]
    faults += [
        f"has {name} of shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return faults[0] + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "") if faults else ""


def check_adapter_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Raise `ValueError` unless `state` holds exactly what `model` trains, in the same shapes.

    Lightning's `strict_loading=False`, which a checkpoint without the frozen model needs, would pass over all of this.
    """
    if fault := misfit(model, state):
        raise ValueError(
            f"the checkpoint does not fit `model.method` or `model.plm`: it {fault}. "
            "Use the config.yaml of its run's folder."
        )


def write_error(error: BaseException | None) -> str | None:
    """What the system said that made `error`, if it did."""
    while error is not None:
        if isinstance(error, OSError):
            return error.strerror
        error = error.__cause__ or error.__context__
    return None


class AtomicCheckpoint(TorchCheckpointIO):
    """Writes beside the target, then renames, so that whatever happens the target is the old file or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # torch makes the latter of what the system says
            partial.unlink(missing_ok=True)
            if (reason := write_error(error)) is None:
                raise
            before = " The checkpoint of before is whole: `ckpt_path` last goes on from it." if path.is_file() else ""
            raise ValueError(f"{str(path)!r} cannot be written: {reason}.{before}") from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The checkpoint in `path`, of tensors and plain values alone: no code in it is run.

        Raises:
            ValueError: if it can't be read, is damaged, no checkpoint, or holds anything else.
        """
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:  # the system's word, not the file's fault
            raise ValueError(f"the checkpoint {str(path)!r} cannot be read: {error.strerror}.") from error
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch writes checksums, but does not read them
                    raise zipfile.BadZipFile
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # whatever damage makes of the archive, the pickle in it, or the values in that
            reason = "it is damaged, no checkpoint, or holds more than tensors and plain values, which might run code"
            raise ValueError(f"the checkpoint {str(path)!r} cannot be read: {reason}.") from None
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise ValueError(f"the checkpoint {str(path)!r} cannot be read: it holds no `state_dict`.")
        check_form(checkpoint, FORM, f"the checkpoint {str(path)!r}")
        return checkpoint


def best_of(files: list[Path]) -> Path:
    """Of best checkpoints, that of the newest run; of several in one run, the one that its newest says is the best."""
    newest = max(files, key=lambda file: file.stat().st_mtime)
    beside = {file.name: file for file in files if file.parent == newest.parent}
    if len(beside) > 1:
        for state in AtomicCheckpoint().load_checkpoint(newest).get("callbacks", {}).values():
            if (name := Path(str(state.get("best_model_path"))).name) in beside:
                return beside[name]
    return newest
