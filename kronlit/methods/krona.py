"""Edalati et al., KronA: parameter-efficient tuning with Kronecker adapter, 2022, arXiv:2212.10650."""

from dataclasses import dataclass
from functools import partial

from kronlit.adapters import Delta, Insertion
from kronlit.methods.base import Group, Method
from kronlit.structured import Kronecker


@dataclass(frozen=True)
class KronA(Method):
    """A Kronecker product beside the query and value projections (equation 3); it merges away (equation 4).

    Args:
        a_shape: shape (a1, a2) of the left factor in the paper's order, a1 dividing the projection's input and a2 its
            output; B has the shape that is left. By default the balanced one, (32, 24) for 768.
        scale: the fixed factor s of the product.
        sites: where; on T5, query and value mean those of self- and cross-attention alike.
        trains: what is trained beside the factors: head, layer_norm, bias. The paper, on T5, trains the layer norms.
    """

    a_shape: tuple[int, int] | None = None
    scale: float = 1.0
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def insertions(self) -> list[Insertion]:
        # The paper multiplies rows, Y = XW; nn.Linear stores the transpose, and (A ⊗ B)ᵀ = Aᵀ ⊗ Bᵀ.
        a_shape = None if self.a_shape is None else (self.a_shape[1], self.a_shape[0])
        return [Insertion(self.sites, partial(Delta, matrix=partial(Kronecker, a_shape=a_shape), scale=self.scale))]
