"""Circuits of tensors on pairs of axes: Chen et al., QuanTA, 2024, arXiv:2406.00132."""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from kronlit.structured.base import FusedUpdate, StructuredLinear, compute_dtype, without_autocast
from kronlit.structured.formed import FormedProduct


class TensorCircuit(StructuredLinear):
    r"""A circuit of small matrices on pairs of axes, less its own start, :math:`W = T - T_0`, as in QuanTA.

    The input is read as a tensor with the given axes, and each pair of axes, from the last ones on, gets a matrix of
    its own, :math:`(d_i d_j, d_i d_j)`. Their product :math:`T` is that of all of these, one after the other. The
    start :math:`T_0` is kept and not trained, so the map starts as zero. Almost every such :math:`W` has full rank. It
    is formed once a pass where there are more tokens than the input is wide, and is not kept. A rectangular :math:`W`
    is the leading block of the square one.

    The matrices start Kaiming-uniform with :math:`a = \sqrt 5`.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        axes: the sizes of the axes, two at least, whose product is the larger width; by default those of four axes
            with the fewest parameters, the larger ones first. For 4,096 the paper has 16, 8, 8 and 4.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> TensorCircuit(768, 768).axes
        (8, 6, 4, 4)
        >>> sum(p.numel() for p in TensorCircuit(4096, 4096, axes=(16, 8, 8, 4)).parameters())
        43008
    """

    def __init__(self, in_features: int, out_features: int, axes: tuple[int, ...] | None = None) -> None:
        super().__init__(in_features, out_features)
        n = max(in_features, out_features)
        self.axes = cheapest_axes(n) if axes is None else tuple(axes)
        if len(self.axes) < 2 or min(self.axes) < 1 or math.prod(self.axes) != n:
            raise ValueError(f"`axes`={self.axes} must be two or more whose product is the larger width, {n}.")
        for i, j in pairs(self.axes):
            size = self.axes[i] * self.axes[j]
            self.register_parameter(f"gate{i}_{j}", nn.Parameter(torch.empty(size, size)))
            self.register_buffer(f"start{i}_{j}", torch.empty(size, size))
        self.reset_parameters()

    def gates(self) -> tuple[Tensor, ...]:
        """The matrices, in the order in which they are applied."""
        return tuple(self.get_parameter(f"gate{i}_{j}") for i, j in pairs(self.axes))

    def starts(self) -> tuple[Tensor, ...]:
        """What they started as."""
        return tuple(self.get_buffer(f"start{i}_{j}") for i, j in pairs(self.axes))

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        if x.numel() < self.in_features**2:
            rows = x.to(torch.promote_types(x.dtype, torch.float32))  # the difference of two products needs the digits
            with without_autocast(x.device):
                y = apply(rows, self.axes, self.gates()) - apply(rows, self.axes, self.starts())
            return y[..., : self.out_features].to(dtype)
        form = partial(difference, self.axes, self.out_features, self.in_features, self.starts())
        return FormedProduct.apply(x.to(dtype), form, partial(pullback, self.axes), *self.gates())

    def to_dense(self) -> Tensor:
        change = circuit(self.axes, self.gates()) - circuit(self.axes, self.starts())
        return change[: self.out_features, : self.in_features]

    def summand(self) -> FusedUpdate:
        added = partial(add_circuit, self.axes, self.starts())
        return FusedUpdate(self.gates(), added, partial(pullback, self.axes))

    def reset_parameters(self) -> None:
        for gate, start in zip(self.gates(), self.starts(), strict=True):
            nn.init.kaiming_uniform_(gate, a=math.sqrt(5))
            start.copy_(gate.detach())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, axes={self.axes}"


def pairs(axes: Sequence[int]) -> list[tuple[int, int]]:
    """All pairs of axes, the first before the second, in the order of their matrices: the last ones come first."""
    backwards = itertools.combinations(reversed(range(len(axes))), 2)
    return [(i, j) for j, i in backwards]


def apply(x: Tensor, axes: Sequence[int], gates: Sequence[Tensor]) -> Tensor:
    """The square product of a circuit with `x`, whose missing entries are zero: `(..., n)`."""
    n = math.prod(axes)
    tensor = nn.functional.pad(x, (0, n - x.shape[-1])).reshape(-1, *axes)
    for (i, j), gate in zip(pairs(axes), gates, strict=True):
        moved = tensor.movedim((i + 1, j + 1), (-2, -1))
        turned = moved.flatten(-2) @ gate.to(x.dtype).mT
        tensor = turned.unflatten(-1, moved.shape[-2:]).movedim((-2, -1), (i + 1, j + 1))
    return tensor.reshape(*x.shape[:-1], n)


def circuit(axes: Sequence[int], gates: Sequence[Tensor]) -> Tensor:
    """The square matrix of a circuit, from its definition: each matrix beside the identity on the other axes."""
    n, whole = math.prod(axes), None
    for (i, j), gate in zip(pairs(axes), gates, strict=True):
        others = [axis for axis in range(len(axes)) if axis not in (i, j)]
        order = torch.arange(n, device=gate.device).reshape(*axes).permute(i, j, *others).flatten()
        beside = torch.kron(gate, torch.eye(n // len(gate), dtype=gate.dtype, device=gate.device))
        placed = torch.zeros_like(beside)
        placed[order.unsqueeze(1), order] = beside
        whole = placed if whole is None else placed @ whole
    assert whole is not None
    return whole


def form(axes: Sequence[int], rows: int, columns: int, gates: Sequence[Tensor]) -> Tensor:
    """The leading block of a circuit's matrix, by its product with the identity."""
    identity = torch.eye(columns, math.prod(axes), dtype=gates[0].dtype, device=gates[0].device)
    with without_autocast(identity.device):
        return apply(identity, axes, gates)[:, :rows].mT


def difference(axes: Sequence[int], rows: int, columns: int, starts: Sequence[Tensor], *gates: Tensor) -> Tensor:
    """`(rows, columns)` of W."""
    return form(axes, rows, columns, gates) - form(axes, rows, columns, starts)


def add_circuit(axes: Sequence[int], starts: Sequence[Tensor], weight: Tensor, scale: float, *gates: Tensor) -> Tensor:
    """`weight + scale · W`."""
    rows, columns = weight.shape
    return torch.add(weight, difference(axes, rows, columns, starts, *gates), alpha=scale)


def pullback(axes: Sequence[int], x: Tensor, dy: Tensor, *gates: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the matrices from `dy`, the gradient of `y = Wx`; that of W is formed."""
    whole = (dy.flatten(0, -2).mT @ x.flatten(0, -2)).to(gates[0].dtype)
    with torch.enable_grad():
        own = [gate.detach().requires_grad_() for gate in gates]
        rows, columns = whole.shape
        return torch.autograd.grad(form(axes, rows, columns, own), own, whole)


def cheapest_axes(n: int, count: int = 4) -> tuple[int, ...]:
    """The axes whose pairs have the fewest parameters, the larger ones first."""

    def falling(rest: int, left: int, most: int) -> Iterator[tuple[int, ...]]:
        if left == 1:
            if rest <= most:
                yield (rest,)
            return
        for first in range(1, min(rest, most) + 1):
            if rest % first == 0:
                for others in falling(rest // first, left - 1, first):
                    yield (first, *others)

    return min(falling(n, count, n), key=lambda axes: sum((axes[i] * axes[j]) ** 2 for i, j in pairs(axes)))
