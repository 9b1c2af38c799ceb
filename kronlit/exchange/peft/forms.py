"""The forms that PEFT has for structured matrices, where they are exactly the same map: LoKr, LoRA and C3A."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kronlit.config.user_error import UserError
from kronlit.structured import Circulant, Kronecker, LowRank, Mixture, Stacked, StructuredLinear

NAMES = {"lokr": "LoKr", "lora": "LoRA", "c3a": "C3A"}


@dataclass(frozen=True)
class Change:
    """What a `Delta` adds to a weight: `scale` times `matrix`, of which a mixture is its mean."""

    matrix: StructuredLinear
    scale: float
    dropout: float
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """`(out_features, in_features)`."""
        return self.matrix.out_features, self.matrix.in_features


Form = tuple[dict[str, Any], dict[str, Tensor], str]
"""Of an adapter: what its config has beside what all have, tensors by module and name, and why it has this form."""


def form_of(changes: dict[str, Change]) -> Form:
    """The first form that is the same map, of those that matrices of this kind can have."""
    kinds = {type(change.matrix) for change in changes.values()}
    forms: tuple[Callable[[dict[str, Change]], Form], ...] = (lora,)
    if kinds == {Kronecker}:
        forms = (lokr, lora)
    elif kinds == {Circulant}:
        forms = (c3a,)
    reasons = []
    for form in forms:
        try:
            return form(changes)
        except ValueError as error:
            reasons.append(f"no {NAMES[form.__name__]}: {error}")
    raise UserError(f"PEFT has no form that is the same map; {'; '.join(reasons)}.")


def lokr(changes: dict[str, Change]) -> Form:
    """Kronecker products of a shape that PEFT's LoKr can have: it is given by one number for all modules."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, change in changes.items():
        if change.transposed:
            raise UserError(f"{name} is a Conv1D, for which PEFT has none")
        assert isinstance(change.matrix, Kronecker)
        pairs[name] = (change.matrix.a, change.matrix.b)

    largest = max(size for pair in pairs.values() for matrix in pair for size in matrix.shape)
    shapes = {name: (tuple(a.shape), tuple(b.shape)) for name, (a, b) in pairs.items()}
    factor = decompose_factor(shapes, largest)
    rank = largest  # above half of what the second factor measures, so that PEFT keeps both factors whole
    scale = common_scale(changes)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        tensors |= {f"{name}.lokr_w1": a * (changes[name].scale if scale is None else 1), f"{name}.lokr_w2": b}
    config = {"peft_type": "LOKR", "r": rank, "alpha": rank if scale is None else rank * scale}
    config |= {"decompose_both": False, "decompose_factor": factor, "rank_dropout": 0.0, "module_dropout": 0.0}
    return config, tensors, f"LoKr, whose decompose_factor={factor} has factors of these shapes"


def decompose_factor(shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]], largest: int) -> int:
    """The number by which PEFT's LoKr cuts all modules into factors of their `shapes`, none above `largest`.

    Raises:
        ValueError: if there is none, naming the modules that it fails on.
    """
    first = {pair: name for name, pair in reversed(shapes.items())}  # a module of each pair of shapes
    numbers = (-1, *range(1, largest + 1))

    def cuts(factor: int, pair: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
        return all((m, n) == factorization(m * n, factor) for m, n in zip(*pair, strict=True))

    for factor in numbers:
        if all(cuts(factor, pair) for pair in first):
            return factor
    for (a, b), name in first.items():
        if not any(cuts(factor, (a, b)) for factor in numbers):
            raise UserError(f"it has no factors of shapes {a} and {b} for {name}")
    each = " and ".join(f"{a} and {b} for {name}" for (a, b), name in first.items())
    raise UserError(f"it has one decompose_factor, by which no factors have the shapes {each}")


def lora(changes: dict[str, Change]) -> Form:
    """Matrices of low rank, and Kronecker products that are of low rank."""
    pairs = {}
    for name, change in changes.items():
        pairs[name] = a, b = low_rank(change.matrix)
        rank = len(a)
        if a.numel() + b.numel() >= change.matrix.in_features * change.matrix.out_features:
            raise UserError(f"{name} would have rank {rank}, and more numbers than its weight {change.shape}")
    scale = common_scale(changes)
    ranks = {name: len(a) for name, (a, _) in pairs.items()}
    most = max(ranks.values())
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        b = b * (changes[name].scale if scale is None else 1)
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    factor = 1.0 if scale is None else scale
    others = {name: rank for name, rank in ranks.items() if rank != most}
    config = {
        "peft_type": "LORA",
        "r": most,
        "lora_alpha": factor * most,
        "lora_dropout": max(change.dropout for change in changes.values()),
        "bias": "none",
        "fan_in_fan_out": all(change.transposed for change in changes.values()),
        "rank_pattern": others,
        "alpha_pattern": {name: factor * rank for name, rank in others.items()},
    }
    plain = all(isinstance(change.matrix, LowRank) for change in changes.values())
    why = f"LoRA of rank {most}" + ("" if plain else ", which these products are: A ⊗ B = (A ⊗ I)(I ⊗ B)")
    return config, tensors, why


def c3a(changes: dict[str, Change]) -> Form:
    """Square circulant matrices. PEFT's kernel runs the other way, and it divides by the width."""
    tensors, sizes = {}, {}
    for name, change in changes.items():
        rows, columns = change.shape
        if rows != columns or change.transposed:
            raise UserError(f"{name} is {rows} x {columns}, and PEFT's circulant blocks are square")
        assert isinstance(change.matrix, Circulant)
        column = change.matrix.column
        kernel = column.flip(0).roll(1) * (change.scale * columns)
        tensors[f"{name}.c3a_kernel"] = kernel.reshape(1, 1, -1)
        sizes[name] = columns
    size = max(sizes.values())
    config = {"peft_type": "C3A", "block_size": size, "bias": "none"}
    config["block_size_pattern"] = {name: other for name, other in sizes.items() if other != size}
    return config, tensors, f"C3A of one block, {size} wide"


def low_rank(matrix: StructuredLinear) -> tuple[Tensor, Tensor]:
    """Factors `(rank, in_features)` and `(out_features, rank)`, whose product, the second times the first, is `matrix`.

    Raises:
        ValueError: if its structure gives none.
    """
    if isinstance(matrix, LowRank):
        return matrix.a, matrix.b
    if isinstance(matrix, Kronecker):
        (left_a, right_a), (left_b, right_b) = split_matrix(matrix.a), split_matrix(matrix.b)
        return torch.kron(right_a, right_b), torch.kron(left_a, left_b)
    if isinstance(matrix, Mixture):
        return low_rank(matrix.mean_expert())
    if isinstance(matrix, Stacked):
        parts = [(part, *low_rank(matrix.get_submodule(name))) for name, part in matrix.slices.items()]  # type: ignore[arg-type]
        a = torch.cat([a for _, a, _ in parts])
        b, start = a.new_zeros(matrix.out_features, len(a)), 0
        for part, _, one in parts:
            b[part, start : start + one.shape[1]] = one
            start += one.shape[1]
        return a, b
    raise UserError(f"a {type(matrix).__name__} is no product of two thin matrices")


def split_matrix(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """`matrix` as a product through its smaller side: itself and an identity."""
    rows, columns = matrix.shape
    identity = torch.eye(min(rows, columns), dtype=matrix.dtype, device=matrix.device)
    return (identity, matrix) if rows <= columns else (matrix, identity)


def factorization(dimension: int, factor: int) -> tuple[int, int]:
    """The two sizes into which PEFT's LoKr cuts a dimension (`factorization` in its `tuners/lokr/layer.py`).

    The factor and what is left, if it divides; else the divisor nearest to the square root, and not above the factor.
    """
    if factor > 0 and dimension % factor == 0:
        return factor, dimension // factor
    limit = dimension if factor == -1 else factor
    small = max(n for n in range(1, dimension + 1) if dimension % n == 0 and n * n <= dimension and n <= max(limit, 1))
    return small, dimension // small


def common_scale(changes: dict[str, Change]) -> float | None:
    """The scale of all changes, if it is one."""
    scales = {change.scale for change in changes.values()}
    return scales.pop() if len(scales) == 1 else None
