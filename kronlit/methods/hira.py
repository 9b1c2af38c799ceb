"""Huang et al., HiRA: parameter-efficient Hadamard high-rank adaptation for large language models, 2025, ICLR."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from kronlit.adapters import Hadamard, Insertion
from kronlit.methods.base import Group, Method
from kronlit.structured import LowRank, StructuredLinear


@dataclass(frozen=True)
class HiRA(Method):
    """A structured matrix times the frozen weight, elementwise, is added to the weight; it merges away.

    Args:
        rank: the rank of the paper's low-rank matrix.
        matrix: another structure in place of the low-rank one: one of kronlit.structured by name, such as Kronecker, or
            your own class by its path, `my_file.MyMatrix`, with its arguments beside the widths.
        scale: the fixed factor; auto, with which the first step of Adam moves the matrix as far as LoRA with r = 8 and
            alpha = 16; or trained, a scalar for each weight that starts at 0, with which the matrix must not start as
            zero (`zero_start: false`).
        dropout: share of the input that the matrix does not see in training.
        sites: the sites to change.
        trains: what is trained beside the matrices: head, layer_norm, bias.
    """

    rank: int = 32
    matrix: Callable[[int, int], StructuredLinear] | None = None
    scale: float | Literal["auto", "trained"] = 1.0
    dropout: float = field(default=0.0, repr=False)  # a checkpoint means the same with another
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def __post_init__(self) -> None:
        if self.matrix is not None and self.rank != HiRA.rank:
            raise ValueError(
                f"`rank`={self.rank} is that of the paper's matrix, and `matrix` names another: give it as an argument "
                "of that, or leave it out."
            )

    def insertions(self) -> list[Insertion]:
        matrix = partial(LowRank, rank=self.rank) if self.matrix is None else self.matrix
        return [Insertion(self.sites, partial(Hadamard, matrix=matrix, scale=self.scale, dropout=self.dropout))]
