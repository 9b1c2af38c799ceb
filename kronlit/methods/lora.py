"""Hu et al., LoRA: low-rank adaptation of large language models, 2021, arXiv:2106.09685."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from kronlit.adapters import Delta, Insertion
from kronlit.adapters.auto_scale import check_scale
from kronlit.methods.base import Group, Method
from kronlit.methods.written import LATER
from kronlit.structured import LowRank


@dataclass(frozen=True)
class LoRA(Method):
    """A low-rank matrix parallel to the query and value projections. It can be merged.

    Args:
        rank: the rank r.
        alpha: the scale is alpha / r; without it, the scale is 1. Or auto: the scale with which the first step of Adam
            moves the weights as far as with r = 8 and alpha = 16, whatever the rank.
        dropout: share of the input that the factors do not see in training; Hu et al. have 0.1 on E2E and WebNLG.
        sites: the sites to change; on T5, query and value include those of cross-attention.
        trains: what is trained besides the factors: head, layer_norm, bias.
        rank_stabilized: rsLoRA (Kalajdzievski 2023, arXiv:2312.03732): the scale is alpha / √r.
    """

    rank: int = 8
    alpha: float | Literal["auto"] | None = None
    dropout: float = field(default=0.0, repr=False)  # not in `repr`: it does not change what a checkpoint means
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)
    rank_stabilized: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        check_scale("alpha", self.alpha, "auto")
        if self.rank_stabilized and not isinstance(self.alpha, int | float):
            raise ValueError(
                f"`rank_stabilized`=True divides alpha by the root of the rank, and `alpha`={self.alpha} is no number: "
                "give one."
            )

    @property
    def scale(self) -> float | Literal["auto"]:
        """What the product of the factors is multiplied by."""
        if self.alpha is None or self.alpha == "auto":
            return self.alpha or 1.0
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)

    def insertions(self) -> list[Insertion]:
        matrix = partial(LowRank, rank=self.rank)
        return [Insertion(self.sites, partial(Delta, matrix=matrix, scale=self.scale, dropout=self.dropout))]
