"""Sums of Kronecker products: Component Designed Kronecker Adapters (CDKA), 2026, arXiv:2602.01267."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import StructuredLinear, compute_dtype


class KroneckerSum(StructuredLinear):
    r"""A sum of Kronecker products, :math:`W = \frac{\alpha}{\sqrt{r r_2}} \sum_{i=1}^r B_i \otimes A_i`, as in CDKA.

    :math:`B_i` is `(out_features / r1, r2)` and :math:`A_i` is `(r1, in_features / r2)`. :math:`r_1` and :math:`r_2`
    design the components; with both 1 this is a low-rank matrix. :math:`W` is never formed: with the input reshaped to
    :math:`X`, `(r2, in_features / r2)`, the product is the sum of the :math:`B_i X A_i^T`, and all components take part
    in two products.

    The :math:`A_i` start Kaiming-uniform with :math:`a = \sqrt 5` and the :math:`B_i` as zero.

    Args:
        in_features: width of the input; a multiple of `r2`.
        out_features: width of the output; a multiple of `r1`.
        num_components: the number r of Kronecker products.
        r1: number of rows of each :math:`A_i`.
        r2: number of columns of each :math:`B_i`.
        alpha: the scale is `alpha / sqrt(num_components * r2)`.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> sum(p.numel() for p in KroneckerSum(768, 768).parameters())
        12288
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_components: int = 8,
        r1: int = 2,
        r2: int = 2,
        alpha: float = 64.0,
    ) -> None:
        super().__init__(in_features, out_features)
        if num_components < 1:
            raise ValueError(f"`num_components`={num_components} must be at least 1.")
        for name, part, width, whole in (("r1", r1, out_features, "output"), ("r2", r2, in_features, "input")):
            if part < 1 or width % part:
                raise ValueError(f"`{name}`={part} must divide the {whole}'s width, {width}.")
        self.num_components = num_components
        self.r1 = r1
        self.r2 = r2
        self.alpha = alpha
        self.a = nn.Parameter(torch.empty(num_components, r1, in_features // r2))
        self.b = nn.Parameter(torch.empty(num_components, out_features // r1, r2))
        self.reset_parameters()

    @property
    def factor(self) -> float:
        """What the sum is multiplied by."""
        return self.alpha / math.sqrt(self.num_components * self.r2)

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        a = self.a.flatten(0, 1).to(dtype)  # (r r1, in/r2)
        b = (self.factor * self.b).transpose(0, 1).flatten(1).to(dtype)  # (out/r1, r r2)
        h = F.linear(x.to(dtype).unflatten(-1, (self.r2, -1)), a)  # (..., r2, r r1)
        h = h.unflatten(-1, (self.num_components, self.r1)).movedim(-1, -3).movedim(-1, -2)  # (..., r1, r, r2)
        return F.linear(h.flatten(-2), b).mT.flatten(-2)  # (..., r1, out/r1), and back

    def to_dense(self) -> Tensor:
        products = [torch.kron(b, a) for a, b in zip(self.a, self.b, strict=True)]
        return self.factor * torch.stack(products).sum(0)

    def thin_factors(self) -> tuple[Tensor, Tensor]:
        # B ⊗ A = (B ⊗ I)(I ⊗ A), once a component
        eye = torch.eye(max(self.r1, self.r2), dtype=self.a.dtype, device=self.a.device)
        wide = [torch.kron(eye[: self.r2, : self.r2], a) for a in self.a]
        tall = [torch.kron(b, eye[: self.r1, : self.r1]) for b in self.factor * self.b]
        return torch.cat(wide), torch.cat(tall, 1)

    def reset_parameters(self) -> None:
        for a in self.a:  # each by itself: of three dimensions torch takes the first two as rows
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        nn.init.zeros_(self.b)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_components={self.num_components}, r1={self.r1}, r2={self.r2}"
