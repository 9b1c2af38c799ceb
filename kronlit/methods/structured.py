"""Any structured matrix beside any weights: the general form of KronA, LoRA and SURM."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from kronlit.adapters import Delta, Insertion
from kronlit.methods.base import Group, Method
from kronlit.structured import LowRank, StructuredLinear


@dataclass(frozen=True)
class Structured(Method):
    """A structured matrix of your choice beside the weights at some sites; it merges away.

    Args:
        matrix: the structure: one of kronlit.structured by name, such as Kronecker or LDR, or your own class by its
            path, `my_file.MyMatrix`, with its arguments beside the widths.
        scale: the fixed factor; auto, with which the first step of Adam moves the weights as far as LoRA with r = 8 and
            alpha = 16, so that one learning rate serves all structures; or trained, a scalar for each weight that
            starts at 0, with which the matrix must not start as zero (`zero_start: false`).
        dropout: share of the input that the matrix does not see in training.
        sites: the sites to change.
        trains: what is trained beside the matrices: head, layer_norm, bias.
    """

    matrix: Callable[[int, int], StructuredLinear] = LowRank
    scale: float | Literal["auto", "trained"] = 1.0
    dropout: float = field(default=0.0, repr=False)  # a checkpoint means the same with another
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def insertions(self) -> list[Insertion]:
        return [Insertion(self.sites, partial(Delta, matrix=self.matrix, scale=self.scale, dropout=self.dropout))]
