"""Whether folding a placement leaves the map as it was: its own forward pass against that of its merged host."""

import copy

import torch

from kronlit.adapters.linear import is_linear
from kronlit.adapters.placement import Placement
from kronlit.structured import Mixture

TOLERANCE = 1e-4
"""Of the largest output, how far another one may be: more than float32 rounds away, less than any slip costs."""


@torch.no_grad()
def disagreement(placement: Placement) -> str | None:
    """How far the outputs of `placement`, a mixture being its mean, are from those of its host once it is merged.

    It works on a copy. `None` where they are equal but for rounding, or the host is a block, whose input is not known.
    """
    if not is_linear(placement.host):
        return None
    trial = copy.deepcopy(placement).eval()
    for module in trial.modules():
        if isinstance(module, Mixture):
            module.collapse()
    weight = trial.weight
    rows = torch.randn(8, trial.in_features, generator=torch.Generator().manual_seed(0)).to(weight)
    with torch.autocast(weight.device.type, enabled=False):
        before = trial(rows).float()
        after = trial.merge()(rows).float()
    difference, reach = (after - before).abs().max().item(), before.abs().max().item()
    if difference <= tolerance(weight.dtype) * reach:
        return None
    return f"an output differs by {difference:.2e} (outputs reach {reach:.2e})"


def tolerance(dtype: torch.dtype) -> float:
    """The share of the largest output that weights of `dtype`, and products in it, may round away."""
    exact = torch.get_float32_matmul_precision() == "highest"
    return max(TOLERANCE if exact else 1e-2, 4 * torch.finfo(dtype).eps)
