"""Wang et al., AdaMix: mixtures of adaptations for parameter-efficient model tuning, 2022, arXiv:2205.12410."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from kronlit.adapters import Bottleneck, Delta, Insertion, SequentialAdapter
from kronlit.adapters.bottleneck import Activation
from kronlit.methods.base import Group, Method
from kronlit.methods.krona import Shape, stored_shape
from kronlit.structured import Dense, Kronecker, LowRank, Mixture, StructuredLinear
from kronlit.structured.mixture import Evaluation


@dataclass(frozen=True)
class AdaMix(Method):
    """Bottleneck adapters whose projections are mixtures, after the feed-forward network of every layer.

    In each training forward every mixture draws one of its experts at random, for the whole batch. In evaluation it is
    the mean of the experts, and `kronlit.collapse` turns it into one ordinary adapter. The paper trains with
    `model.consistency`. Its code shares the project-up; its figure has copies of both projections. Weights start normal
    with a standard deviation of 0.02, so the adapter starts near the identity but not exactly there.

    Args:
        bottleneck_width: width of the bottleneck; the paper has 16 for RoBERTa-large, 48 for BERT-base.
        num_experts: number of experts in a mixture; 1 gives a plain adapter.
        share_down: let all experts share one project-down.
        share_up: let all experts share one project-up.
        activation: relu, gelu, gelu_new, silu, mish or tanh.
        evaluation: what is used in evaluation: mean (of the experts), random (an expert drawn for each row) or first
            (the first expert). The latter two are the paper's ablations.
        idle_experts: what a step does to experts that were not drawn: update (weight decay and momentum, as in the
            paper's code) or rest (nothing).
        sites: the sites to change.
        trains: what is trained besides the adapters: head, layer_norm, bias.
    """

    bottleneck_width: int = 16
    num_experts: int = 4
    share_down: bool = False
    share_up: bool = True
    activation: Activation = "gelu"
    evaluation: Evaluation = field(default="mean", repr=False)  # not in `repr`: any value can test a checkpoint
    idle_experts: Literal["update", "rest"] = "update"
    sites: tuple[str, ...] = ("ffn_output",)
    trains: tuple[Group, ...] = ("head",)

    def __post_init__(self) -> None:
        if self.bottleneck_width < 1:
            raise ValueError(f"`bottleneck_width`={self.bottleneck_width} must be at least 1.")

    def insertions(self) -> list[Insertion]:
        body = partial(
            Bottleneck,
            width=self.bottleneck_width,
            down=self._projection(self.share_down),
            up=self._projection(self.share_up),
            activation=self.activation,
        )
        return [Insertion(self.sites, partial(SequentialAdapter, body=body))]

    def _projection(self, shared: bool) -> Callable[[int, int], StructuredLinear]:
        expert = partial(Dense, std=0.02)
        if shared:
            return expert
        return partial(
            Mixture,
            expert=expert,
            num_experts=self.num_experts,
            bias=True,
            evaluation=self.evaluation,
            idle=self.idle_experts,
        )


@dataclass(frozen=True)
class AdaMixLoRA(Method):
    """LoRA whose factors are mixtures, parallel to the query and value projections. It can be merged.

    All experts have the same start, as in the paper's code: A Kaiming-uniform, B zero. Each projection draws its own
    expert; for GPT-2, the paper's code draws one for query and value together.

    Args:
        rank: the rank r; the paper has 4.
        alpha: the scale is alpha / r; the paper has 32.
        dropout: share of the input that the factors do not see in training; the code has 0.1 on E2E and WebNLG.
        num_experts: number of experts in a mixture; 1 gives LoRA.
        share_a: let all experts share A, the factor that is applied first.
        share_b: let all experts share B, as in the paper's code.
        evaluation: what is used in evaluation: mean (of the experts), random (an expert drawn for each row) or first
            (the first expert). The latter two are the paper's ablations.
        idle_experts: what a step does to experts that were not drawn: update (weight decay and momentum, as in the
            paper's code) or rest (nothing).
        sites: the sites to change; on T5, query and value include those of cross-attention.
        trains: what is trained besides the factors: head, layer_norm, bias.
    """

    rank: int = 4
    alpha: float = 32.0
    dropout: float = field(default=0.0, repr=False)
    num_experts: int = 8
    share_a: bool = False
    share_b: bool = True
    evaluation: Evaluation = field(default="mean", repr=False)  # not in `repr`: any value can test a checkpoint
    idle_experts: Literal["update", "rest"] = "update"
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def insertions(self) -> list[Insertion]:
        mixture = partial(
            Mixture,
            expert=partial(LowRank, rank=self.rank),
            num_experts=self.num_experts,
            shared=shared_factors(a=self.share_a, b=self.share_b),
            same_start=True,
            evaluation=self.evaluation,
            idle=self.idle_experts,
        )
        placement = partial(Delta, matrix=mixture, scale=self.alpha / self.rank, dropout=self.dropout)
        return [Insertion(self.sites, placement)]


@dataclass(frozen=True)
class AdaMixKronA(Method):
    """KronA whose factors are mixtures, parallel to the query and value projections. It can be merged.

    It is in no paper: it is AdaMix-LoRA with Kronecker factors. The left factors start at different values, the right
    ones at zero.

    Args:
        a_shape: shape (a1, a2) of the left factor in the KronA paper's order; by default the balanced one, (32, 24)
            for 768.
        scale: the fixed factor s of the product.
        num_experts: number of experts in a mixture; 1 gives KronA.
        share_a: let all experts share the left factor.
        share_b: let all experts share the right factor.
        evaluation: what is used in evaluation: mean (of the experts), random (an expert drawn for each row) or first
            (the first expert).
        idle_experts: what a step does to experts that were not drawn: update (weight decay and momentum, as in
            AdaMix's code) or rest (nothing).
        sites: the sites to change; on T5, query and value include those of cross-attention.
        trains: what is trained besides the factors: head, layer_norm, bias.
    """

    a_shape: Shape | None = None
    scale: float = 1.0
    num_experts: int = 4
    share_a: bool = False
    share_b: bool = True
    evaluation: Evaluation = field(default="mean", repr=False)  # not in `repr`: any value can test a checkpoint
    idle_experts: Literal["update", "rest"] = "update"
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def insertions(self) -> list[Insertion]:
        mixture = partial(
            Mixture,
            expert=partial(Kronecker, a_shape=stored_shape(self.a_shape)),
            num_experts=self.num_experts,
            shared=shared_factors(a=self.share_a, b=self.share_b),
            evaluation=self.evaluation,
            idle=self.idle_experts,
        )
        return [Insertion(self.sites, partial(Delta, matrix=mixture, scale=self.scale))]


def shared_factors(**factors: bool) -> tuple[str, ...]:
    """The names of the factors whose value is true."""
    return tuple(name for name, one in factors.items() if one)
