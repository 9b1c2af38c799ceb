"""Mahabadi et al., Compacter: efficient low-rank hypercomplex adapter layers, 2021, arXiv:2106.04647."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kronlit.methods.houlsby import Houlsby
from kronlit.structured import PHM, LowRank, StructuredLinear


@dataclass(frozen=True)
class Compacter(Houlsby):
    """Bottleneck adapters of low-rank hypercomplex matrices, with one rule for the whole model (section 4).

    They are after self-attention and after the feed-forward network of every layer; on T5 never after cross-attention.

    Args:
        phm_dim: the number n of Kronecker products in a matrix; it must divide the model's width and the bottleneck.
        rank: the rank of the right factor of each Kronecker product.
        sites: the sites to change.
        trains: what is trained besides the adapters: head, layer_norm, bias. The paper, on T5, trains the layer norms.
    """

    phm_dim: int = 4
    rank: int = 1

    def matrix(self) -> Callable[[int, int], StructuredLinear]:
        return partial(PHM, phm_dim=self.phm_dim, rank=self.rank, shared_rule=True)


@dataclass(frozen=True)
class CompacterPP(Compacter):
    """Compacter++: Compacter only after the feed-forward network."""

    sites: tuple[str, ...] = ("ffn_output",)


@dataclass(frozen=True)
class PHMAdapter(Houlsby):
    """Bottleneck adapters of full-rank hypercomplex matrices, each with its own rule (section 3).

    Args:
        phm_dim: the number n of Kronecker products in a matrix; it must divide the model's width and the bottleneck.
        trains: what is trained besides the adapters: head, layer_norm, bias. The paper, on T5, trains the layer norms.
    """

    phm_dim: int = 12

    def matrix(self) -> Callable[[int, int], StructuredLinear]:
        return partial(PHM, phm_dim=self.phm_dim)


@dataclass(frozen=True)
class LowRankAdapter(Houlsby):
    """Bottleneck adapters of low-rank matrices, a baseline of the paper.

    Both factors start Glorot-uniform with gain √2. The authors' code multiplies the factors elementwise, which equals
    their product only for rank 1; here it is the product for every rank.

    Args:
        rank: the rank of each matrix.
        trains: what is trained besides the adapters: head, layer_norm, bias. The paper, on T5, trains the layer norms.
    """

    rank: int = 1

    def matrix(self) -> Callable[[int, int], StructuredLinear]:
        return partial(LowRank, rank=self.rank, init="glorot")
