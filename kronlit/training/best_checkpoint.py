"""Keeps the checkpoint of the best validation, even if several have the same score."""

import math
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from kronlit.training.ranking import loss_of, worst_if_nan


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, but among equal scores the one with lower loss on the same rows wins.

    With few validation rows a score has few different values, and the first checkpoint that reaches the best one may
    be far from the best weights.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.best_k_losses: dict[str, float] = {}
        """The loss of each kept checkpoint, by its path. A checkpoint without a known loss wins its ties."""

    @property
    def state_key(self) -> str:
        """The key of `ModelCheckpoint`, so that runs that began with that class can resume."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        if super().check_monitor_top_k(trainer, current):
            return True
        if current is None:
            return False
        worst = self.kth_best_model_path
        tie = bool(current == self.best_k_models[worst])
        better = tie and self._loss(trainer) < self.best_k_losses.get(worst, -math.inf)
        return bool(trainer.strategy.reduce_boolean_decision(better))

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if filepath in self.best_k_models:  # before the file is written, because it holds this state
            losses = self.best_k_losses | {filepath: self._loss(trainer)}
            self.best_k_losses = {path: losses[path] for path in self.best_k_models if path in losses}
            self.best_model_path = max(self.best_k_models, key=self._rank)
            if len(self.best_k_models) == self.save_top_k:
                self.kth_best_model_path = min(self.best_k_models, key=self._rank)
        super()._save_checkpoint(trainer, filepath)

    def _loss(self, trainer: Trainer) -> float:
        loss = trainer.callback_metrics.get(loss_of(str(self.monitor)))
        return -math.inf if loss is None else -worst_if_nan(-float(loss))

    def _rank(self, path: str) -> tuple[float, float]:
        score = float(self.best_k_models[path])
        return score if self.mode == "max" else -score, -self.best_k_losses.get(path, -math.inf)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best_k_losses": self.best_k_losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.dirpath == state_dict.get("dirpath", self.dirpath):
            self.best_k_losses = state_dict.get("best_k_losses", {})
        else:  # this run started from another run's checkpoint, whose best one is not ours to test or report
            self.best_model_path = ""
