"""Toeplitz matrices: Sehanobish et al., SURM, 2024, arXiv:2406.17740."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import FusedUpdate, StructuredLinear, compute_dtype, normal_then_zero_
from kronlit.structured.circulant import rows_and_columns
from kronlit.structured.convolution import Convolution, apply_chain, convolution_summand, fast_length, toeplitz


class Toeplitz(StructuredLinear):
    r"""A Toeplitz matrix, constant along each diagonal: `in_features + out_features - 1` parameters, any shape.

    The parameters are the first column, and the first row without its first number, which the column has already. The
    product is the FFT of a larger circulant matrix. Only the input is kept for the backward pass.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        std: standard deviation of the normal initialisation.
        zero_start: start as zero.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> matrix = Toeplitz(3, 2)
        >>> matrix.load_state_dict({"column": torch.tensor([1.0, 2.0]), "row": torch.tensor([8.0, 9.0])})
        <All keys matched successfully>
        >>> matrix.to_dense().tolist()
        [[1.0, 8.0, 9.0], [2.0, 1.0, 8.0]]
    """

    dense_below = 256
    """Width under which one dense product is faster than the FFT: see `kronlit.structured.convolution`."""

    def __init__(self, in_features: int, out_features: int, std: float = 0.02, zero_start: bool = True) -> None:
        super().__init__(in_features, out_features)
        self.std = std
        self.zero_start = zero_start
        self.column = nn.Parameter(torch.empty(out_features))
        self.row = nn.Parameter(torch.empty(in_features - 1))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return toeplitz_product(x, self.column, self.row, self.dense_below)

    def to_dense(self) -> Tensor:
        i, j = rows_and_columns(self.out_features, self.in_features, self.column.device)
        return torch.cat((self.row.flip(0), self.column))[i - j + self.in_features - 1]

    def summand(self) -> FusedUpdate:
        return convolution_summand(circulant_column(self.column, self.row), skew=False)

    def reset_parameters(self) -> None:
        for diagonals in (self.column, self.row):
            normal_then_zero_(diagonals, diagonals, self.std, self.zero_start)


class SymmetricToeplitz(StructuredLinear):
    r"""A symmetric Toeplitz matrix, :math:`W_{ij} = t_{|i-j|}`, with n parameters, where n is the larger width.

    A rectangular :math:`W` is the leading block of the square one. With `hadamard`, :math:`t = a \odot b`, as in the
    default adapter of SURM's code; that takes twice the parameters for the same matrices. The product is computed as in
    `Toeplitz`.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        hadamard: generate :math:`t` by the elementwise product of two vectors.
        std: standard deviation of the normal initialisation.
        zero_start: start :math:`t` as zero; with `hadamard`, start :math:`b` as zero.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    dense_below = 256
    """As in `Toeplitz`."""

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
        """The first column :math:`t` of the square matrix, `(n,)`."""
        return self.a if self.b is None else self.a * self.b

    def forward(self, x: Tensor) -> Tensor:
        t = self.column
        return toeplitz_product(x, t[: self.out_features], t[1 : self.in_features], self.dense_below)

    def to_dense(self) -> Tensor:
        i, j = rows_and_columns(self.out_features, self.in_features, self.column.device)
        return self.column[(i - j).abs()]

    def summand(self) -> FusedUpdate:
        t = self.column
        return convolution_summand(circulant_column(t[: self.out_features], t[1 : self.in_features]), skew=False)

    def reset_parameters(self) -> None:
        normal_then_zero_(self.a, self.a if self.b is None else self.b, self.std, self.zero_start)


class ToeplitzProduct(StructuredLinear):
    r"""The product of two symmetric Toeplitz matrices, :math:`W = T_b T_a`: 2n parameters for the larger width n.

    This is SURM's Toeplitz method. A rectangular :math:`W` is the leading block of the product of the square ones. Only
    the input is kept for the backward pass, not the result of the first matrix.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        std: standard deviation of the normal initialisation.
        zero_start: start :math:`T_b` as zero.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    dense_below = 512
    """Width under which one dense product is faster than the FFT: see `kronlit.structured.convolution`."""

    def __init__(self, in_features: int, out_features: int, std: float = 0.02, zero_start: bool = True) -> None:
        super().__init__(in_features, out_features)
        self.std = std
        self.zero_start = zero_start
        n = max(in_features, out_features)
        self.a = nn.Parameter(torch.empty(n))
        self.b = nn.Parameter(torch.empty(n))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        a = circulant_column(self.a, self.a[1 : self.in_features]).unsqueeze(0)
        b = circulant_column(self.b[: self.out_features], self.b[1:]).unsqueeze(0)
        return apply_chain(x, a, b, len(self.a), self.out_features, False, self.dense_below, compute_dtype(x))

    def to_dense(self) -> Tensor:
        i, j = rows_and_columns(len(self.a), len(self.a), self.a.device)
        distance = (i - j).abs()
        return self.b[distance[: self.out_features]] @ self.a[distance[:, : self.in_features]]

    def reset_parameters(self) -> None:
        normal_then_zero_(self.a, self.b, self.std, self.zero_start)


def toeplitz_product(x: Tensor, column: Tensor, row: Tensor, dense_below: int) -> Tensor:
    """`Tx` for the Toeplitz matrix with first column `column` and the rest of its first row, `row`."""
    dtype = compute_dtype(x)
    if max(len(column), len(row) + 1) < dense_below:
        return F.linear(x.to(dtype), form_toeplitz(column, row).to(dtype))
    return Convolution.apply(x.to(dtype), circulant_column(column, row), len(column), False)


def form_toeplitz(column: Tensor, row: Tensor) -> Tensor:
    """The Toeplitz matrix with first column `column` and the rest of its first row, `row`."""
    return toeplitz(torch.cat((row.flip(0), column)), len(row) + 1)


def circulant_column(column: Tensor, row: Tensor) -> Tensor:
    """The first column of a circulant matrix whose leading block is this Toeplitz matrix.

    Zeros in between pad it to a length with a fast FFT.
    """
    n = len(column) + len(row)
    return torch.cat((column, column.new_zeros(fast_length(n) - n), row.flip(0)))
