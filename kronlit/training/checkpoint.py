"""Checkpoints without the frozen model, written so that a kill leaves the previous one intact."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from kronlit.config.user_error import UserError
from kronlit.data.form import Form, check_form

FORM: Form = {
    "global_step?": int,
    "callbacks?": {...: object},
    "kronlit?": {"reads?": [str], "settings?": {...: int | float | str | dict | None}},
}
"""The form of the parts of a checkpoint that are read before Lightning restores it."""


def write_error(error: BaseException | None) -> str | None:
    """The system's message if a system error caused `error`, else `None`."""
    while error is not None:
        if isinstance(error, OSError):
            return error.strerror
        error = error.__cause__ or error.__context__
    return None


class AtomicCheckpoint(TorchCheckpointIO):
    """Writes a partial file beside the target and renames it, so the target is always the old or the new file."""

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
        except (OSError, RuntimeError) as error:  # torch turns system errors into the latter
            partial.unlink(missing_ok=True)
            if (reason := write_error(error)) is None:
                raise
            before = " The checkpoint of before is whole: `ckpt_path` last goes on from it." if path.is_file() else ""
            raise UserError(f"{str(path)!r} cannot be written: {reason}.{before}") from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint of tensors and plain values only, so that no code in the file can run.

        Raises:
            ValueError: if it cannot be read, is damaged, is no checkpoint, or holds anything else.
        """
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:  # the system's error, not a damaged file
            raise UserError(f"the checkpoint {str(path)!r} cannot be read: {error.strerror}.") from error
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch writes checksums but never checks them
                    raise zipfile.BadZipFile
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # a damaged archive, pickle or value raises many kinds of errors
            reason = "it is damaged, no checkpoint, or holds more than tensors and plain values, which might run code"
            raise UserError(f"the checkpoint {str(path)!r} cannot be read: {reason}.") from None
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise UserError(f"the checkpoint {str(path)!r} cannot be read: it holds no `state_dict`.")
        check_form(checkpoint, FORM, f"the checkpoint {str(path)!r}")
        for key, state in checkpoint.get("callbacks", {}).items():
            if str(key).startswith("ModelCheckpoint"):  # a user's own callback may keep anything
                check_form(state, {"best_model_path?": str}, f"the checkpoint {str(path)!r}['callbacks'][{key!r}]")
        return checkpoint
