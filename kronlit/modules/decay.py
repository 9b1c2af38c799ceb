"""Chooses the parameters that weight decay applies to."""

import re
from typing import Any

from torch import nn

from kronlit.methods.base import is_norm


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The optimiser's parameter groups: biases, layer norms and scalars have no weight decay."""
    norms = {id(p) for module in model.modules() if is_norm(module) for p in module.parameters(False)}
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    spared = {name for name, p in trained if re.search(r"bias(\.\d+)?$", name) or id(p) in norms or p.ndim == 0}
    decayed = [p for name, p in trained if name not in spared]
    plain = [p for name, p in trained if name in spared]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
