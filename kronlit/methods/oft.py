"""Qiu et al., Controlling text-to-image diffusion by orthogonal finetuning (OFT), 2023, arXiv:2306.07280."""

from dataclasses import dataclass
from functools import partial

from kronlit.adapters import Insertion, Product
from kronlit.methods.base import Group, Method
from kronlit.structured import BlockOrthogonal


@dataclass(frozen=True)
class OFT(Method):
    """Rotations of blocks of the input before the query and value projections; they merge away.

    Args:
        block_size: the width of each block, which divides that of the input.
        neumann_terms: number of terms of OFTv2's series (arXiv:2506.19847) in place of the exact inverse of the Cayley
            transform; 5 there.
        sites: the sites to change.
        trains: what is trained beside the rotations: head, layer_norm, bias.
    """

    block_size: int = 32
    neumann_terms: int | None = None
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def insertions(self) -> list[Insertion]:
        matrix = partial(BlockOrthogonal, block_size=self.block_size, neumann_terms=self.neumann_terms)
        return [Insertion(self.sites, partial(Product, matrix=matrix))]
