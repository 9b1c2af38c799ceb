"""Parameterised hypercomplex multiplication: Mahabadi et al., Compacter, 2021, arXiv:2106.04647, section 3."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import StructuredLinear, compute_dtype, glorot_uniform_, without_autocast


class PHM(StructuredLinear):
    r"""A sum of Kronecker products, :math:`W = \sum_{i=1}^n A_i \otimes B_i` (equation 4).

    The :math:`A_i`, `(phm_dim, phm_dim)` each, are the `rule`. The :math:`B_i` have the shape that remains. With a
    `rank`, :math:`B_i = s_i t_i` is the product of two thin matrices (section 4). With `shared_rule`, all such matrices
    of a model share one rule once they are tied (`kronlit.adapters.tie`); until then each has its own.

    The initialisation is that of the authors' code. Each slice of :math:`B`, or of both its factors, is Glorot-uniform
    with gain :math:`\sqrt 2`. The rule is normal with a standard deviation of 0.01, or 0.0001 if it is shared. So the
    map starts small, not at zero. The paper multiplies rows from the left, so its :math:`A_i` and :math:`B_i` are the
    transposes of these.

    :math:`W` is small compared with the host's weight. So each forward pass forms it in float32 and applies it by one
    product. Of the tokens, only the input is kept for the backward pass.

    Args:
        in_features: width of the input; a multiple of `phm_dim`.
        out_features: width of the output; a multiple of `phm_dim`.
        phm_dim: the number n of products, and the width of each :math:`A_i`.
        rank: the rank of each :math:`B_i`; by default they are full matrices.
        shared_rule: whether all such matrices of the model share one rule.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> PHM(768, 24, phm_dim=4).b.shape, PHM(768, 24, phm_dim=4, rank=1).s.shape
        (torch.Size([4, 6, 192]), torch.Size([4, 6, 1]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        phm_dim: int = 4,
        rank: int | None = None,
        shared_rule: bool = False,
    ) -> None:
        super().__init__(in_features, out_features)
        if phm_dim < 1 or in_features % phm_dim or out_features % phm_dim:
            raise ValueError(f"`phm_dim`={phm_dim} must divide the map's shape {(out_features, in_features)}.")
        rows, columns = out_features // phm_dim, in_features // phm_dim
        if rank is not None and rank < 1:
            raise ValueError(f"`rank`={rank} must be at least 1.")
        self.phm_dim = phm_dim
        self.rank = rank
        self.tied = ("rule",) if shared_rule else ()
        self.rule = nn.Parameter(torch.empty(phm_dim, phm_dim, phm_dim))
        if rank is None:
            self.b = nn.Parameter(torch.empty(phm_dim, rows, columns))
        else:
            self.s = nn.Parameter(torch.empty(phm_dim, rows, rank))
            self.t = nn.Parameter(torch.empty(phm_dim, rank, columns))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        with without_autocast(x.device):  # with autocast, W would be rounded twice
            w = self._form()
        return F.linear(x.to(dtype), w.to(dtype))

    def _form(self) -> Tensor:
        b = self.b if self.rank is None else self.s @ self.t
        n, rows, columns = b.shape
        blocks = self.rule.view(n, n * n).mT @ b.view(
            n, rows * columns
        )  # block (p, q) of W is the sum of A_i[p, q] B_i
        return blocks.view(n, n, rows, columns).transpose(1, 2).reshape(n * rows, n * columns)

    def to_dense(self) -> Tensor:
        products = []
        for i in range(self.phm_dim):
            b = self.b[i] if self.rank is None else self.s[i] @ self.t[i]
            products.append(torch.kron(self.rule[i], b))
        return torch.stack(products).sum(0)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.rule, std=1e-4 if self.tied else 0.01)
        for factor in (self.b,) if self.rank is None else (self.s, self.t):
            for slice_ in factor:
                glorot_uniform_(slice_)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, phm_dim={self.phm_dim}, rank={self.rank}"
