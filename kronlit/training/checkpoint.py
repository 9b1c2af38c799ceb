"""Checkpoints of what is trained, and nothing of the frozen model, written so that a kill leaves the last one whole."""

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
    "callbacks?": {...: {"best_model_path?": str}},
    "kronlit?": {"reads?": [str], "settings?": {...: int | float}},
}
"""Those parts of a checkpoint that are read before Lightning restores it."""


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
            raise UserError(f"{str(path)!r} cannot be written: {reason}.{before}") from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The checkpoint in `path`, of tensors and plain values alone: no code in it is run.

        Raises:
            ValueError: if it can't be read, is damaged, no checkpoint, or holds anything else.
        """
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:  # the system's word, not the file's fault
            raise UserError(f"the checkpoint {str(path)!r} cannot be read: {error.strerror}.") from error
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch writes checksums, but does not read them
                    raise zipfile.BadZipFile
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # whatever damage makes of the archive, the pickle in it, or the values in that
            reason = "it is damaged, no checkpoint, or holds more than tensors and plain values, which might run code"
            raise UserError(f"the checkpoint {str(path)!r} cannot be read: {reason}.") from None
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise UserError(f"the checkpoint {str(path)!r} cannot be read: it holds no `state_dict`.")
        check_form(checkpoint, FORM, f"the checkpoint {str(path)!r}")
        return checkpoint
