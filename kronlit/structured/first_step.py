r"""How far the first step of Adam moves a structured matrix, and the scale that makes it as far as LoRA.

Adam's first step moves every parameter by the learning rate :math:`\eta`, whatever the size of its gradient. What that
does to :math:`W` depends on the structure: an entry of :math:`BA` moves by :math:`\eta` times a sum of `rank` entries
of :math:`A`, one of :math:`A \otimes B` by :math:`\eta` times a single entry of :math:`A`, one of a circulant matrix
by :math:`\eta` itself. At one learning rate, structures so differ by a factor of 50.
"""

import functools
import math
from collections.abc import Callable, Hashable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

ENTRIES = 2**22
"""Entries of all draws of a start together: of small matrices more are drawn, since each has a size of its own."""


STEP = 1e-5
"""The step, in float64, of which the derivative is taken."""


class HasDense(Protocol):
    """A linear module that can tell its matrix."""

    def to_dense(self) -> Tensor:
        """The matrix, `(out_features, in_features)`."""


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
    found = cached_rms if isinstance(make, Hashable) else first_step_rms
    rms = found(make, in_features, out_features)
    if not rms > 0:
        raise ValueError(
            "`scale`='auto' needs a matrix that Adam's first step moves, and this one has no gradient at its start: "
            "give a number as `scale`."
        )
    return 2 * math.sqrt(8 / (3 * in_features) * (1 + 14 / (math.pi * in_features))) / rms


def first_step_rms(make: Callable[[int, int], nn.Module], in_features: int, out_features: int) -> float:
    """The root mean square, over entries and starts, of a matrix's first step by Adam over the learning rate.

    The gradient of the matrix is normal noise. Random numbers of the caller are neither used nor moved.
    """
    draws = min(256, max(4, ENTRIES // (in_features * out_features)))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.enable_grad():
        torch.manual_seed(0)
        squares = [mean_square_step(make(in_features, out_features).double()) for _ in range(draws)]
    return math.sqrt(sum(squares) / draws)


@torch.no_grad()
def mean_square_step(matrix: nn.Module) -> float:
    """The mean square of the matrix's derivative in the direction of Adam's first step, for one random gradient."""
    parameters = list(matrix.parameters())
    with torch.enable_grad():
        dense = cast(HasDense, matrix).to_dense()
        gradients = torch.autograd.grad((dense * torch.randn_like(dense)).sum(), parameters, allow_unused=True)
    ends = []
    for step in (STEP, -2 * STEP):  # to either side; the entries are polynomials of low degree
        for p, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                p.add_(gradient.sign(), alpha=step)
        ends.append(cast(HasDense, matrix).to_dense().detach().clone())
    return ((ends[0] - ends[1]) / (2 * STEP)).square().mean().item()


cached_rms = functools.lru_cache(maxsize=256)(first_step_rms)
"""`first_step_rms`, once for all sites of a model."""
