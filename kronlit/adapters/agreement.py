"""Checks a merge numerically: a placement's forward pass against that of its merged host."""

import copy

import torch

from kronlit.adapters.linear import is_linear
from kronlit.adapters.placement import Placement
from kronlit.structured import Mixture

TOLERANCE = 1e-4
"""Largest tolerated difference, as a share of the largest output.

It is above the rounding of float32, and below the error that a wrong `to_dense` makes.
"""


@torch.no_grad()
def disagreement(placement: Placement) -> str | None:
    """Compare the outputs of `placement` with those of its merged host, and say how far they differ.

    It works on a copy, in which each mixture is its mean. `None` if they agree up to rounding, or if the host is a
    block: the input of a block is not known.
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
    """The rounding to tolerate for weights of `dtype`, as a share of the largest output."""
    # Other settings ("high", "medium") let products keep only two or three digits.
    exact = torch.get_float32_matmul_precision() == "highest"
    return max(TOLERANCE if exact else 1e-2, 4 * torch.finfo(dtype).eps)
