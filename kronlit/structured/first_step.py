r"""How far the first step of Adam moves a structured matrix, and the scale that makes it as far as LoRA.

Adam's first step moves every parameter by the learning rate :math:`\eta`, whatever the size of its gradient. What that
does to :math:`W` depends on the structure: an entry of :math:`BA` moves by :math:`\eta` times a sum of `rank` entries
of :math:`A`, one of :math:`A \otimes B` by :math:`\eta` times a single entry of :math:`A`, one of a circulant matrix
by :math:`\eta` itself. At one learning rate, structures so differ by a factor of 50.
"""

import functools
import math
import statistics
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

FEWEST, MOST = 8, 256
"""How many starts are drawn, at least (of wide matrices half of it) and at most. Of fewer, the spread is a guess."""
WORK = 3e9
"""Bounds how many are drawn beyond that: the multiply-adds of one product of square matrices a draw, together."""
ERROR = 0.015
"""The relative standard error of the mean square at which drawing stops: small factors differ more between starts."""
STEP = 1e-7
"""The step by which the derivative is taken: in float64 small enough for parameters that start as 1e-4."""


class HasDense(Protocol):
    """A linear module that can tell its matrix."""

    def to_dense(self) -> Tensor:
        """The matrix, `(out_features, in_features)`."""


@dataclass(frozen=True)
class Recipe:
    """What makes a matrix. Two are equal if they make the same kind, though they be different partials."""

    key: Hashable
    make: Callable[[int, int], nn.Module] = field(compare=False)


def scale_like_lora(make: Callable[[int, int], nn.Module], in_features: int, out_features: int) -> float:
    r"""The factor with which Adam's first step moves a structured matrix as far as LoRA with r = 8 and alpha = 16.

    LoRA's :math:`B` starts as zero, so only :math:`B` moves, by :math:`\pm\eta`; :math:`A` is uniform within
    :math:`\pm 1/\sqrt{d}` for an input of width d. So an entry of :math:`W` moves by :math:`2 \eta` (alpha / r = 2)
    times a sum of 8 entries of :math:`A` with signs, whose mean square is :math:`8 / (3 d)`. The signs of two rows of
    :math:`A` that are alike are so, too: of two normal numbers that correlate by :math:`\rho` with mean square
    :math:`1 / d`, they are by :math:`2 \rho / \pi`, and the mean square gets the factor :math:`1 + 14 / (\pi d)`.

    Args:
        make: makes the matrix from `(in_features, out_features)`.
        in_features: width of the input.
        out_features: width of the output.

    Raises:
        ValueError: if the matrix does not move.
    """
    recipe = Recipe(key_of(make), make)
    try:
        rms = cached_rms(recipe, in_features, out_features)
    except TypeError:  # an argument that has no hash; a fault of the matrix itself is raised again
        rms = first_step_rms(make, in_features, out_features)
    if not rms > 0:
        raise ValueError(
            "`scale`='auto' needs a matrix that Adam's first step moves, and this one has no gradient at its start: "
            "give a number as `scale`."
        )
    return 2 * math.sqrt(8 / (3 * in_features) * (1 + 14 / (math.pi * in_features))) / rms


def key_of(value: Any) -> Hashable:
    """What tells one way to make a matrix from another: a partial by its parts, for a method may make one a site."""
    if isinstance(value, functools.partial):
        return key_of(value.func), key_of(value.args), key_of(value.keywords)
    if isinstance(value, dict):
        return frozenset((name, key_of(each)) for name, each in value.items())
    return tuple(map(key_of, value)) if isinstance(value, (list, tuple)) else value


def first_step_rms(make: Callable[[int, int], nn.Module], in_features: int, out_features: int) -> float:
    """The root mean square, over entries and starts, of a matrix's first step by Adam over the learning rate.

    The gradient of the matrix is normal noise. Random numbers of the caller are neither used nor moved.
    """
    most = min(MOST, max(FEWEST // 2, int(WORK / (in_features * out_features) ** 1.5)))
    squares: list[float] = []
    with (
        torch.random.fork_rng(devices=[]),
        torch.device("cpu"),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        torch.default_generator.manual_seed(0)  # `torch.manual_seed` would seed those of GPUs too
        while len(squares) < most and not is_settled(squares):
            squares.append(mean_square_step(make(in_features, out_features).double()))
    return math.sqrt(statistics.fmean(squares))


def is_settled(squares: list[float]) -> bool:
    """Whether the mean of what was drawn is known well enough."""
    if len(squares) < FEWEST:
        return False
    return statistics.stdev(squares) <= ERROR * statistics.fmean(squares) * math.sqrt(len(squares))


@torch.no_grad()
def mean_square_step(matrix: nn.Module) -> float:
    """The mean square of the matrix's derivative in the direction of Adam's first step, for one random gradient."""
    parameters = [parameter for parameter in matrix.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        dense = cast(HasDense, matrix).to_dense()
        if not dense.requires_grad:
            return 0.0
        gradients = torch.autograd.grad((dense * torch.randn_like(dense)).sum(), parameters, allow_unused=True)
    start = dense.detach().clone()  # what `to_dense` returns may be a parameter
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.add_(gradient.sign(), alpha=STEP)
    return ((cast(HasDense, matrix).to_dense() - start) / STEP).square().mean().item()


@functools.lru_cache(maxsize=256)
def cached_rms(recipe: Recipe, in_features: int, out_features: int) -> float:
    """`first_step_rms`, once for all sites of a model."""
    return first_step_rms(recipe.make, in_features, out_features)
