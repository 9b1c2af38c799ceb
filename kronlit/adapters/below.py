"""Adapters below what is trained: Pfeiffer et al., MAD-X, 2020, arXiv:2005.00052, section 3.

A frozen language adapter stands below a task adapter, which is given its output. As in AdapterHub's code, each adds to
its own input: :math:`l = h + f_1(h)`, :math:`y = l + f_2(l)`. (In the paper's equation 2, as recalled, :math:`f_2` is
added to :math:`h`.)
"""

from collections.abc import Sequence

from torch import nn

from kronlit.adapters.inject import placements, replace
from kronlit.adapters.placement import Bias, ParallelAdapter, Placement
from kronlit.adapters.several import Blend, Several, layer_name
from kronlit.adapters.weight_change import Delta, WeightChange


def take_out(model: nn.Module) -> list[Placement]:
    """Take what was put around modules of `model` out of it, frozen, to stand below others."""
    found = [placement for _, placement in placements(model)]
    for placement in found:
        placement.requires_grad_(False)
        placement.below = True
    replace(model, {id(placement): placement.host for placement in found})
    return found


def put_below(model: nn.Module, adapters: Sequence[Sequence[Placement]], blend: Blend | None = None) -> None:
    """Put adapters, which `take_out` gave, around their hosts again, below what was added to these since.

    Args:
        model: the model.
        adapters: the placements of each adapter.
        blend: what is done with several adapters; without it there is one.

    Raises:
        ValueError: if something was added that cannot stand on what is below it.
    """
    each = [{id(placement.host): placement for placement in adapter} for adapter in adapters]
    lower: dict[int, nn.Module] = {}
    for name, host in model.named_modules():
        own = [adapter.get(id(host), host) for adapter in each]
        below = [one for one in own if isinstance(one, Placement) and one is not host]
        if not below:
            continue
        lower[id(host)] = below[0] if blend is None else Several(own, blend, blend.layer_of(layer_name(name)))
        for above in (one for _, one in placements(model) if one.host is host):
            for one in below:
                if reason := stacking_blocker(above, one):
                    raise ValueError(f"{name.removesuffix('.host')}: {reason}: leave it out of `sites`.")
    replace(model, lower)


def stacking_blocker(above: Placement, below: Placement) -> str | None:
    """Why one placement cannot stand on another that has the same host; `None` if it can."""
    kinds = f"the {type(below).__name__} that is below"
    if isinstance(above, WeightChange) and not isinstance(below, (WeightChange, Bias)):
        return f"a {type(above).__name__} changes a weight, and {kinds} stands behind that weight"
    if isinstance(above, WeightChange) and not isinstance(above, Delta):
        return f"a {type(above).__name__} reads the weight, and {kinds} changes it"
    if isinstance(above, ParallelAdapter) and above.is_half and isinstance(below, ParallelAdapter):
        return f"this is half of a block, to whose residual both a {type(above).__name__} and {kinds} add"
    return None
