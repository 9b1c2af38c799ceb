"""Block-diagonal orthogonal matrices: Qiu et al., OFT, 2023, arXiv:2306.07280, section 3."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import StructuredLinear, compute_dtype, without_autocast


class BlockOrthogonal(StructuredLinear):
    r"""Rotations of blocks of the input, :math:`W = \mathrm{diag}(R_1, R_2, \dots)`, `block_size` wide each.

    Each is the Cayley transform of a skew-symmetric matrix, :math:`R = (I + Q)(I - Q)^{-1}`, which is orthogonal, and
    the upper triangle of :math:`Q` is trained: `n * (block_size - 1) / 2` parameters, where n is the larger width. With
    `neumann_terms`, the inverse is the start of its Neumann series, as in OFTv2 (arXiv:2506.19847): faster, and
    orthogonal while :math:`Q` is small. A rectangular :math:`W` is the leading block of the square one.

    It starts as the identity: place it where it multiplies a weight, as `OFT` does.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        block_size: width of each rotation; it divides the larger width.
        neumann_terms: with t, :math:`R = I + 2 Q + \dots + 2 Q^{t-2} + Q^{t-1}`; t is at least 2, and OFTv2 has 5. By
            default the exact transform.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> sum(p.numel() for p in BlockOrthogonal(768, 768).parameters())
        11904
    """

    def __init__(
        self, in_features: int, out_features: int, block_size: int = 32, neumann_terms: int | None = None
    ) -> None:
        super().__init__(in_features, out_features)
        n = max(in_features, out_features)
        if block_size < 2 or n % block_size:
            raise ValueError(f"`block_size`={block_size} must be at least 2 and divide the larger width, {n}.")
        if neumann_terms is not None and neumann_terms < 2:
            raise ValueError(f"`neumann_terms`={neumann_terms} must be at least 2.")
        self.block_size = block_size
        self.neumann_terms = neumann_terms
        self.q = nn.Parameter(torch.empty(n // block_size, block_size * (block_size - 1) // 2))
        self.reset_parameters()

    def rotations(self) -> Tensor:
        """The blocks R, `(n / block_size, block_size, block_size)`, in the parameters' dtype."""
        with without_autocast(self.q.device):
            rows, columns = torch.triu_indices(self.block_size, self.block_size, 1, device=self.q.device)
            upper = self.q.new_zeros(len(self.q), self.block_size, self.block_size)
            upper[:, rows, columns] = self.q
            Q = upper - upper.mT
            eye = torch.eye(self.block_size, dtype=Q.dtype, device=Q.device)
            if self.neumann_terms is None:
                return torch.linalg.solve(eye - Q, eye + Q)  # the two commute
            series = eye.expand_as(Q)
            for _ in range(self.neumann_terms - 2):
                series = eye + Q @ series
            return series + Q @ series

    def forward(self, x: Tensor) -> Tensor:
        dtype, n = compute_dtype(x), max(self.in_features, self.out_features)
        blocks = F.pad(x.to(dtype), (0, n - self.in_features)).reshape(-1, *self.q.shape[:1], self.block_size)
        # Less the identity, so that 16 bits do not round away a small rotation.
        turn = self.rotations()
        turn = (turn - torch.eye(self.block_size, dtype=turn.dtype, device=turn.device)).to(dtype)
        y = blocks + torch.bmm(blocks.transpose(0, 1), turn.mT).transpose(0, 1)  # (t, blocks, block_size)
        return y.reshape(*x.shape[:-1], n)[..., : self.out_features]

    def to_dense(self) -> Tensor:
        return torch.block_diag(*self.rotations())[: self.out_features, : self.in_features]

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.q)

    def extra_repr(self) -> str:
        terms = "" if self.neumann_terms is None else f", neumann_terms={self.neumann_terms}"
        return f"{super().extra_repr()}, block_size={self.block_size}{terms}"
