"""Circulant and skew-circulant matrices: Sehanobish et al., SURM, 2024, arXiv:2406.17740."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import FusedUpdate, StructuredLinear, compute_dtype, normal_then_zero_
from kronlit.structured.convolution import Convolution, convolution_summand, leading_block


class Circulant(StructuredLinear):
    r"""A circulant matrix: each column is the previous one moved down by one, with its last number on top.

    Its first column :math:`c` has n numbers, where n is the larger width, and :math:`W_{ij} = c_{(i-j) \bmod n}`. A
    rectangular :math:`W` is the leading block of the square one. With `hadamard`, :math:`c = a \odot b`, as in SURM's
    code; that takes twice the parameters for the same matrices. The product is an FFT, which costs n log n. Only the
    input is kept for the backward pass.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        hadamard: generate :math:`c` by the elementwise product of two vectors.
        std: standard deviation of the normal initialisation.
        zero_start: start :math:`c` as zero; with `hadamard`, start :math:`b` as zero.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> matrix = Circulant(3, 3)
        >>> matrix.load_state_dict({"a": torch.tensor([1.0, 2.0, 3.0])})
        <All keys matched successfully>
        >>> matrix.to_dense().tolist()
        [[1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [3.0, 2.0, 1.0]]
    """

    dense_below = 160
    """Below this width one dense product is faster than the FFT; see `kronlit.structured.convolution`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hadamard: bool = False,
        std: float = 0.02,
        zero_start: bool = True,
    ) -> None:
        super().__init__(in_features, out_features)
        self.std = std
        self.zero_start = zero_start
        n = max(in_features, out_features)
        self.a = nn.Parameter(torch.empty(n))
        self.b = nn.Parameter(torch.empty(n)) if hadamard else None
        self.reset_parameters()

    @property
    def column(self) -> Tensor:
        """The first column :math:`c`, `(n,)`."""
        return self.a if self.b is None else self.a * self.b

    def forward(self, x: Tensor) -> Tensor:
        return circular_product(self, x, skew=False)

    def to_dense(self) -> Tensor:
        c = self.column
        i, j = rows_and_columns(self.out_features, self.in_features, c.device)
        return c[(i - j) % len(c)]

    def summand(self) -> FusedUpdate:
        return convolution_summand(self.column, skew=False)

    def reset_parameters(self) -> None:
        normal_then_zero_(self.a, self.a if self.b is None else self.b, self.std, self.zero_start)


class SkewCirculant(StructuredLinear):
    r"""A skew-circulant matrix: as a circulant one, but a number that returns on top of a column is negated.

    Its first column :math:`c` has n numbers, where n is the larger width. :math:`W_{ij}` is :math:`c_{i-j}` on and
    below the diagonal, and :math:`-c_{n+i-j}` above it. A rectangular :math:`W` is the leading block of the square one.
    The product is an FFT, which costs n log n. Only the input is kept for the backward pass.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        std: standard deviation of the normal initialisation.
        zero_start: start as zero.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    dense_below = 192
    """As in `Circulant`; higher, because a skew convolution does a little more work around its FFT."""

    def __init__(self, in_features: int, out_features: int, std: float = 0.02, zero_start: bool = True) -> None:
        super().__init__(in_features, out_features)
        self.std = std
        self.zero_start = zero_start
        self.column = nn.Parameter(torch.empty(max(in_features, out_features)))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return circular_product(self, x, skew=True)

    def to_dense(self) -> Tensor:
        c = self.column
        i, j = rows_and_columns(self.out_features, self.in_features, c.device)
        entries = c[(i - j) % len(c)]
        return torch.where(i < j, -entries, entries)

    def summand(self) -> FusedUpdate:
        return convolution_summand(self.column, skew=True)

    def reset_parameters(self) -> None:
        normal_then_zero_(self.column, self.column, self.std, self.zero_start)


def circular_product(matrix: Circulant | SkewCirculant, x: Tensor, skew: bool) -> Tensor:
    """`Wx`, by one dense product or by FFT, whichever is faster at this width."""
    dtype, c = compute_dtype(x), matrix.column
    if len(c) < matrix.dense_below:
        return F.linear(x.to(dtype), leading_block(c, matrix.out_features, matrix.in_features, skew).to(dtype))
    return Convolution.apply(x.to(dtype), c, matrix.out_features, skew)


def rows_and_columns(rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The row indices, `(rows, 1)`, and the column indices, `(columns,)`."""
    return torch.arange(rows, device=device).unsqueeze(-1), torch.arange(columns, device=device)
