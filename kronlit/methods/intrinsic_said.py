"""Aghajanyan et al., Intrinsic dimensionality explains the effectiveness of fine-tuning, 2021, arXiv:2012.13255."""

from dataclasses import dataclass

from torch import nn

from kronlit.adapters.random_subspace import restrict
from kronlit.methods.base import Group, Method, group


@dataclass(frozen=True)
class IntrinsicSAID(Method):
    """All weights move in one random subspace, each tensor with a scale of its own (SAID, equation 3).

    As slow and as large as full fine-tuning, and more, for a checkpoint of a few thousand numbers; it merges away.

    Args:
        intrinsic_dimension: numbers that are trained, the scale of each tensor included.
        projection_seed: of the random projections (Fastfood); a checkpoint means nothing under another.
        trains: what is trained directly: head, layer_norm, bias.
    """

    intrinsic_dimension: int = 20_000
    projection_seed: int = 0
    trains: tuple[Group, ...] = ("head",)

    def apply(self, model: nn.Module) -> None:
        own = {id(parameter) for name in self.trains for parameter in group(model, name)}
        moves = [parameter for parameter in model.parameters() if id(parameter) not in own]
        super().apply(model)
        restrict(model, moves, self.intrinsic_dimension, self.projection_seed)
