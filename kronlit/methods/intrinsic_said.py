"""Aghajanyan et al., Intrinsic dimensionality explains the effectiveness of fine-tuning, 2021, arXiv:2012.13255."""

from dataclasses import dataclass

from torch import nn

from kronlit.adapters.random_subspace import restrict
from kronlit.methods.base import Group, Method, group


@dataclass(frozen=True)
class IntrinsicSAID(Method):
    """All weights move in one random subspace, and each tensor has its own scale (SAID, equation 3).

    Training takes even more time and memory than full fine-tuning, but a checkpoint has only a few thousand numbers. It
    can be merged.

    Args:
        intrinsic_dimension: how many numbers are trained, including the scale of each tensor.
        projection_seed: seed of the random projections (Fastfood); a checkpoint is valid only with its own seed.
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
