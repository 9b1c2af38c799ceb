"""TIES (Yadav et al., 2023, arXiv:2306.01708) and DARE (Yu et al., 2024, arXiv:2311.03099), as PEFT names and has them.

PEFT lets them act on the factors of LoRAs (`add_weighted_adapter` with `ties` and so on), or, with `_svd`, on the
changes themselves.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def mix(
    how: str, tensors: Sequence[Tensor], weights: Sequence[float], density: float, generator: torch.Generator
) -> Tensor:
    """One tensor of several of the same shape.

    `ties` and `magnitude_prune` keep the share `density` of each tensor's entries, the largest; those named dare keep
    each entry with that probability and divide by it. What has ties in its name then
    takes, entry by entry, the mean of those that have the sign of their sum.

    Args:
        how: one of these names.
        tensors: the tensors.
        weights: their weights.
        density: the share that is kept, above 0 and at most 1.
        generator: what dare draws from.
    """
    kept = torch.stack([prune(how, tensor, density, generator) for tensor in tensors])
    weighted = torch.stack([weight * one for weight, one in zip(weights, kept, strict=True)])
    if "ties" not in how:
        return weighted.sum(0)
    sign = torch.where(kept.sum(0) >= 0, 1.0, -1.0).to(kept.dtype)  # elected before the weights, as in PEFT
    agree = kept.sign() == sign
    return (weighted * agree).sum(0) / agree.sum(0).clamp(min=1)


def prune(how: str, tensor: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """A tensor with a share of its entries."""
    if density >= 1:
        return tensor
    if how.startswith("dare"):
        return tensor * torch.bernoulli(torch.full_like(tensor, density), generator=generator) / density
    largest = tensor.abs().flatten().topk(int(density * tensor.numel())).indices
    return torch.zeros_like(tensor).flatten().scatter(0, largest, tensor.flatten()[largest]).view_as(tensor)


def mix_factors(
    how: str,
    pairs: Sequence[tuple[Tensor, Tensor]],
    weights: Sequence[float],
    density: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """One pair of factors A `(rank, in)` and B `(out, rank)` of several, each mixed by itself, as PEFT does.

    Each factor has the root of a weight's size, and A its sign. So the product is no sum of products.
    """
    roots = [math.sqrt(abs(weight)) for weight in weights]
    signed = [math.copysign(root, weight) for root, weight in zip(roots, weights, strict=True)]
    a = mix(how, [a for a, _ in pairs], signed, density, generator)
    return a, mix(how, [b for _, b in pairs], roots, density, generator)
