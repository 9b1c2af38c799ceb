"""Edalati et al., KronA: parameter-efficient tuning with Kronecker adapter, 2022, arXiv:2212.10650."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from kronlit.adapters import Delta, Insertion, ParallelAdapter
from kronlit.adapters.branches import KroneckerBranches
from kronlit.methods.base import Group, Method
from kronlit.structured import Kronecker

Shape = tuple[int, int]


def stored_shape(a_shape: Shape | None) -> Shape | None:
    """The shape of A as it is stored, which is transposed.

    The paper multiplies from the right, Y = XW, but nn.Linear stores Wᵀ; and (A ⊗ B)ᵀ = Aᵀ ⊗ Bᵀ.
    """
    return None if a_shape is None else (a_shape[1], a_shape[0])


@dataclass(frozen=True)
class KronA(Method):
    """A Kronecker product parallel to the query and value projections (equation 3). It can be merged (equation 4).

    Args:
        a_shape: shape (a1, a2) of the left factor in the paper's order: a1 divides the projection's input width and a2
            its output width. B has the shape that remains. By default the balanced one, (32, 24) for 768.
        scale: the fixed factor s of the product; or auto, with which one learning rate serves this as well as LoRA: the
            first step of Adam moves the weights as far as with r = 8 and alpha = 16.
        sites: the sites to change; on T5, query and value include those of cross-attention.
        trains: what is trained besides the factors: head, layer_norm, bias. The paper, on T5, trains the layer norms.
    """

    a_shape: Shape | None = None
    scale: float | Literal["auto"] = 1.0
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def insertions(self) -> list[Insertion]:
        matrix = partial(Kronecker, a_shape=stored_shape(self.a_shape))
        return [Insertion(self.sites, partial(Delta, matrix=matrix, scale=self.scale))]


@dataclass(frozen=True)
class KronAB(Method):
    """KronA^B: Kronecker products parallel to the feed-forward block (equation 5).

    The paper's equation has one product per block, but its published 0.07 % of T5-base needs two, and its appendix B.2
    says that two modules are added to each block. It does not say where its one or two biases are. By default they are
    counted per block, one on the output of each product, which fits the published count. If they are counted per
    product, the second one is between the two small products.

    Args:
        a_shape: shape (a1, a2) of the left factor in the paper's order; by default the balanced one, (32, 24) for 768.
        scale: the fixed factor s; the paper has 16 or 4. Or auto, as in KronA.
        modules_per_block: number of Kronecker products on each block, which are summed; 1 is exactly equation 5.
        num_biases: number of biases, counted as `bias_per` says; by default one on the output of each product.
        bias_per: whether `num_biases` counts the biases of a block or of a module, which is one product.
        sites: ffn, which reads the input of the feed-forward network (on T5 after the layer norm); or, on T5 and ESM,
            ffn_before_norm, which reads the residual stream.
        trains: what is trained besides them: head, layer_norm, bias. The paper trains the layer norms on T5.
    """

    a_shape: Shape | None = None
    scale: float | Literal["auto"] = 16.0
    modules_per_block: int = 2
    num_biases: int | None = None
    bias_per: Literal["block", "module"] = "block"
    sites: tuple[str, ...] = ("ffn",)
    trains: tuple[Group, ...] = ("head",)

    def __post_init__(self) -> None:
        if self.modules_per_block < 1:
            raise ValueError(f"`modules_per_block`={self.modules_per_block} must be at least 1.")
        most = self.modules_per_block if self.bias_per == "block" else 2
        if self.num_biases is not None and not 0 <= self.num_biases <= most:
            raise ValueError(
                f"`num_biases`={self.num_biases} must lie between 0 and {most} for "
                f"`modules_per_block`={self.modules_per_block} and `bias_per`={self.bias_per!r}."
            )

    def insertions(self) -> list[Insertion]:
        return [Insertion(self.sites, partial(ParallelAdapter, body=self._body(), scale=self.scale))]

    def _body(self) -> partial[KroneckerBranches]:
        modules = self.modules_per_block
        if self.num_biases is None:
            output, inner = modules, 0
        elif self.bias_per == "block":
            output, inner = self.num_biases, 0
        else:
            output, inner = modules * min(self.num_biases, 1), modules * max(self.num_biases - 1, 0)
        return partial(
            KroneckerBranches,
            num_branches=modules,
            output_biases=output,
            inner_biases=inner,
            a_shape=stored_shape(self.a_shape),
        )


@dataclass(frozen=True)
class KronABRes(KronAB):
    """KronA^B_res: KronA^B plus a learnable multiple of the block's input (equation 6).

    With the paper's start of 1 the model is changed before any training: each block's input is added once more.

    Args:
        scale: the fixed factor s; the paper has 16, on QNLI 4. Or auto, as in KronA.
        modules_per_block: Kronecker products on each block, summed; 1 is equation 6 to the letter.
        residual_scale: initial value of the learnable scalar s_res of each block.
    """

    residual_scale: float = 1.0

    def insertions(self) -> list[Insertion]:
        placement = partial(ParallelAdapter, body=self._body(), scale=self.scale, residual_scale=self.residual_scale)
        return [Insertion(self.sites, placement)]
