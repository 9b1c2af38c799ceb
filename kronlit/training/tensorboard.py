"""The logger of TensorBoard, which shows a run's settings beside its scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

LEFT_OUT = ("config", "run_dir", "ckpt_path", "slurm", "best_checkpoint", "last_checkpoint", "predictions")
"""Options that say where files are, not how a run trains."""


class TensorBoard(TensorBoardLogger):
    """Lightning's logger without its `hparams.yaml`, which is empty: config.yaml has the settings."""

    @rank_zero_only
    def save(self) -> None:
        """Write what is logged."""
        self.experiment.flush()


@rank_zero_only
def log_outcome(trainer: Trainer, config: Mapping[str, Any], folder: Path) -> None:
    """Log the settings and the final scores of a run for TensorBoard's page HPARAMS.

    Args:
        trainer: the trainer at its end.
        config: the run's config.
        folder: its folder, whose `summary.json` has the scores. They are logged as `final/val/score` and so on.
    """
    scores = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["scores"]
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoard):
            named = {f"final/{name}": score for name, score in scores.items()}
            logger.log_hyperparams(flat_settings(config), named, trainer.global_step)
            logger.finalize("success")


def flat_settings(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The settings of a config by the names of their options, such as `model.method.rank`; a class by its name.

    What is not set is left out, and a list is a text.
    """
    settings: dict[str, Any] = {}
    for name, value in config.items():
        if value is None or (not above and name in LEFT_OUT):
            continue
        key = above if name == "init_args" else f"{above}.{name}".lstrip(".")
        if name == "class_path":
            settings[above] = value.rsplit(".", 1)[-1]
        elif isinstance(value, Mapping):
            settings |= flat_settings(value, key)
        else:
            settings[key] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return settings
