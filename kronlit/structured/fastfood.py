"""Fastfood, a fixed random projection that costs n log n: Le, Sarlós and Smola, 2013, ICML, section 3."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Fastfood(nn.Module):
    r"""A fixed random linear map :math:`R^{in} \to R^{out}`, :math:`P = \mathrm{rows}(H G \Pi H B) / c`.

    :math:`H` is the Walsh-Hadamard matrix whose size is the smallest power of two that holds both widths, :math:`B` a
    diagonal of random signs, :math:`\Pi` a permutation, and :math:`G` a diagonal of normal numbers. The divisor
    :math:`c` keeps the norm of :math:`x` on average, as in the code of Aghajanyan et al. (2021, arXiv:2012.13255). In
    their code a short output depends only on the first numbers of the input; here it depends on all of them.

    Nothing is trained, and nothing is kept for the backward pass. The map is determined by the widths and the seed, so
    checkpoints do not hold it.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        seed: of the signs, the permutation and the normal numbers.

    Shape:
        `(in_features,)` to `(out_features,)`, in float32 at least.
    """

    def __init__(self, in_features: int, out_features: int, seed: int = 0) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.seed = seed
        self._factors: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        # Made on first use, and no buffers: they are larger than the model, and DDP would broadcast buffers.
        if self._factors is None or self._factors[0].device != x.device:
            self._factors = self._draw(x.device)
        return FastfoodProduct.apply(x, *self._factors, self.out_features)

    def _draw(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The signs, the permutation and the scaled normal numbers. Drawn on the CPU, so equal on every device."""
        n = 1 << max(self.in_features - 1, self.out_features - 1, 1).bit_length()
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(2, (n,), generator=generator, dtype=torch.int8) * 2 - 1
        permutation = torch.randperm(n, generator=generator).int()
        normal = torch.randn(n, generator=generator)
        # H H = n I, so each row of H G Π H B has the squared norm n ΣG², spread over n columns.
        normal /= math.sqrt(normal.square().sum().item() * self.out_features)
        return signs.to(device), permutation.to(device), normal.to(device)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class FastfoodProduct(torch.autograd.Function):
    """`y = P x`. It saves only the three factors, which exist anyway."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, signs: Tensor, permutation: Tensor, normal: Tensor, out_features: int) -> Tensor:
        ctx.save_for_backward(signs, permutation, normal)
        ctx.in_features = len(x)
        padded = torch.nn.functional.pad(x, (0, len(signs) - len(x)))
        return walsh_hadamard(walsh_hadamard(signs * padded)[permutation] * normal)[:out_features]

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None, None]:
        signs, permutation, normal = ctx.saved_tensors
        padded = torch.nn.functional.pad(dy, (0, len(signs) - len(dy)))
        h = walsh_hadamard(padded) * normal
        unpermuted = torch.empty_like(h).index_put_((permutation.long(),), h)
        return (walsh_hadamard(unpermuted) * signs)[: ctx.in_features], None, None, None, None


def walsh_hadamard(x: Tensor) -> Tensor:
    """`H x` for the Walsh-Hadamard matrix H in Sylvester's order; the length of `x` is a power of two."""
    n = len(x)
    h = 1
    while h < n:
        pairs = x.view(-1, 2, h)
        x = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), dim=1).view(n)
        h *= 2
    return x
