"""What a placement that merges does to its host, as dense matrices."""

import copy
from typing import cast

import torch
from torch import Tensor

from kronlit.adapters.linear import matrix_of
from kronlit.adapters.placement import Placement
from kronlit.structured import Mixture


@torch.no_grad()
def dense_change(placement: Placement) -> tuple[Tensor, Tensor | None]:
    r"""The changes of a host's weight and bias that merging would make, :math:`\Delta W` and :math:`\Delta b`.

    They are taken from a merge of a copy in float64, so that what they are added to rounds nothing away. A mixture
    counts as its mean. Call it only if `merge_blocker` is `None`.

    Returns:
        The change of the weight, `(out_features, in_features)`, and that of the bias, `(out_features,)`, in float64;
        `None` for a bias that stays as it is.
    """
    trial = copy.deepcopy(placement).eval()
    for module in trial.modules():
        if isinstance(module, Mixture):
            module.collapse()
    trial.host.double()
    weight = matrix_of(trial.host).detach().clone()
    bias = None if placement.bias is None else placement.bias.detach().double()
    merged = trial.merge()
    change = matrix_of(merged).detach() - weight
    if bias is None:
        return change, None
    own = cast(Tensor, merged.bias).detach() - bias
    return change, own if own.any() else None
