"""PEFT's forms for structured matrices, if they give exactly the same map: LoKr, LoRA and C3A."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kronlit.config.user_error import UserError
from kronlit.structured import Circulant, Kronecker, LowRank, Mixture, Stacked, StructuredLinear
from kronlit.structured.rows import write

NAMES = {"lokr": "LoKr", "lora": "LoRA", "c3a": "C3A"}


@dataclass(frozen=True)
class Change:
    """What a `Delta` adds to a weight: `scale` times `matrix`. A mixture counts as its mean."""

    matrix: StructuredLinear
    scale: float
    dropout: float
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """`(out_features, in_features)`."""
        return self.matrix.out_features, self.matrix.in_features


Form = tuple[dict[str, Any], dict[str, Tensor], str]
"""An adapter's own config entries, its tensors by module and name, and the reason for this form."""


def form_of(changes: dict[str, Change]) -> Form:
    """The first form for matrices of this kind that gives exactly the same map."""
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
    """LoKr, for Kronecker products whose shapes PEFT can express by one number for all modules."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, change in changes.items():
        if change.transposed:
            raise UserError(f"{name} is a Conv1D, for which PEFT has none")
        assert isinstance(change.matrix, Kronecker)
        pairs[name] = (change.matrix.a, change.matrix.b)

    largest = max(size for pair in pairs.values() for matrix in pair for size in matrix.shape)
    shapes = {name: (tuple(a.shape), tuple(b.shape)) for name, (a, b) in pairs.items()}
    factor = decompose_factor(shapes, largest)
    rank = largest  # so large that PEFT keeps both factors whole instead of factorising the second one
    scale = common_scale(changes)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        tensors |= {f"{name}.lokr_w1": a * (changes[name].scale if scale is None else 1), f"{name}.lokr_w2": b}
    config = {"peft_type": "LOKR", "r": rank, "alpha": rank if scale is None else rank * scale}
    config |= {"decompose_both": False, "decompose_factor": factor, "rank_dropout": 0.0, "module_dropout": 0.0}
    return config, tensors, f"LoKr, whose decompose_factor={factor} has factors of these shapes"


def decompose_factor(shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]], largest: int) -> int:
    """The `decompose_factor` with which PEFT's LoKr gives all modules factors of these `shapes`, up to `largest`.

    Raises:
        ValueError: if there is none; the message names the modules.
    """
    first = {pair: name for name, pair in reversed(shapes.items())}  # the first module with each pair of shapes
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
    """LoRA, for matrices of low rank, including Kronecker products of low rank."""
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
    """C3A, for square circulant matrices. PEFT's kernel runs the other way, and is divided by the width."""
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
    """Factors A `(rank, in_features)` and B `(out_features, rank)` with `B A` equal to `matrix`.

    Raises:
        ValueError: if its structure has no such factors.
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
            write(b[:, start : start + one.shape[1]].mT, part, one.mT)
            start += one.shape[1]
        return a, b
    raise UserError(f"a {type(matrix).__name__} is no product of two thin matrices")


def split_matrix(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Write `matrix` as a product of itself and an identity of its smaller size."""
    rows, columns = matrix.shape
    identity = torch.eye(min(rows, columns), dtype=matrix.dtype, device=matrix.device)
    return (identity, matrix) if rows <= columns else (matrix, identity)


def factorization(dimension: int, factor: int) -> tuple[int, int]:
    """The two sizes into which PEFT's LoKr cuts a dimension (`factorization` in its `tuners/lokr/layer.py`).

    If `factor` divides the dimension, these are the factor and the quotient. Otherwise it is the divisor nearest to the
    square root that does not exceed the factor.
    """
    if factor > 0 and dimension % factor == 0:
        return factor, dimension // factor
    limit = dimension if factor == -1 else factor
    small = max(n for n in range(1, dimension + 1) if dimension % n == 0 and n * n <= dimension and n <= max(limit, 1))
    return small, dimension // small


def common_scale(changes: dict[str, Change]) -> float | None:
    """The scale that all changes share; `None` if they differ."""
    scales = {change.scale for change in changes.values()}
    return scales.pop() if len(scales) == 1 else None
