"""Predicts with merged weights, which write the same texts in less time."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from kronlit.adapters import merge, placements
from kronlit.modules.causal_lm import CausalLM
from kronlit.structured import Mixture


class MergedPrediction(Callback):
    """Merges what was trained into a causal language model before it predicts. The module is then at its end."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, CausalLM) and pl_module.model is not None:
            merge_for_prediction(pl_module.model)


def merge_for_prediction(model: nn.Module) -> bool:
    """Merge what was added to `model` if that changes none of its texts; returns whether it was done.

    It is not where a method cannot be merged, where an evaluation draws experts, and where weights are of 16 bits or
    quantised, which would round small changes away.
    """
    hosts = [parameter for _, placement in placements(model) for parameter in placement.host.parameters()]
    drawn = any(isinstance(module, Mixture) and module.evaluation != "mean" for module in model.modules())
    if drawn or not hosts or any(parameter.dtype not in (torch.float32, torch.float64) for parameter in hosts):
        return False
    try:
        merge(model)
    except (TypeError, ValueError):
        return False
    return True
