"""Hu et al., LoRA: low-rank adaptation of large language models, 2021, arXiv:2106.09685."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from kronlit.adapters import Delta, Insertion
from kronlit.adapters.auto_scale import check_scale
from kronlit.methods.base import Group, Method
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
    """

    rank: int = 8
    alpha: float | Literal["auto"] | None = None
    dropout: float = field(default=0.0, repr=False)  # not in `repr`: it does not change what a checkpoint means
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def __post_init__(self) -> None:
        check_scale("alpha", self.alpha, "auto")

    def insertions(self) -> list[Insertion]:
        scale: float | Literal["auto"] = "auto"
        if self.alpha != "auto":
            scale = 1.0 if self.alpha is None else self.alpha / self.rank
        matrix = partial(LowRank, rank=self.rank)
        return [Insertion(self.sites, partial(Delta, matrix=matrix, scale=scale, dropout=self.dropout))]
