"""Several methods at once, whose changes of a weight are added up."""

from dataclasses import dataclass
from functools import partial

from torch import nn

from kronlit.adapters import Delta, placements
from kronlit.adapters.inject import replace
from kronlit.methods.base import Group, Method
from kronlit.structured import StructuredLinear, WeightedSum


@dataclass(frozen=True)
class Combined(Method):
    r"""The weighted sum of what several methods add to each weight, as `kronlit combine` writes it.

    Each structure is kept, and its factor is in what was trained. All merge into the weight.

    Args:
        parts: the methods. Each must add matrices to weights and nothing else, as KronA, LoRA, SURM and Structured do.
        trains: what is trained beside the matrices: head, layer_norm, bias.
    """

    parts: tuple[Method, ...] = ()
    trains: tuple[Group, ...] = ("head",)

    def add_to(self, model: nn.Module) -> None:
        if not self.parts:
            raise ValueError("`parts`=[] must name one method or more.")
        found: dict[str, list[Delta]] = {}
        for part in self.parts:
            if type(part).apply is not Method.apply:
                raise ValueError(f"`parts`: a {type(part).__name__} does more than to add matrices to weights.")
            part.add_to(model)
            for name, placement in list(placements(model)):
                if not isinstance(placement, Delta):
                    raise ValueError(
                        f"`parts`: a {type(part).__name__} puts a {type(placement).__name__} at {name}, and only a "
                        "matrix that is added to a weight can be in a sum."
                    )
                found.setdefault(name, []).append(placement)
            replace(model, {id(placement): placement.host for _, placement in list(placements(model))})
        replace(model, {id(each[0].host): summed(each) for each in found.values()})


def summed(deltas: list[Delta]) -> Delta:
    """One placement that adds what `deltas`, all on one host, add."""
    first = deltas[0]
    kept = [partial(given, matrix=delta.matrix) for delta in deltas]
    matrix = partial(WeightedSum, matrices=kept, weights=[float(delta.scale) for delta in deltas])
    placement = Delta(first.host, first.in_features, first.out_features, matrix)
    placement.site = first.site
    placement.train(first.training)
    return placement


def given(in_features: int, out_features: int, matrix: StructuredLinear) -> StructuredLinear:
    """`matrix`, which has these widths already."""
    return matrix
