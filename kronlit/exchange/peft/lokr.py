"""PEFT's LoKr: Kronecker products."""

import math
import re
from functools import partial
from typing import Any

from torch import Tensor

from kronlit.adapters import Delta
from kronlit.config.user_error import UserError
from kronlit.exchange.peft.change import (
    Change,
    PeftChange,
    PeftForm,
    Written,
    all_are,
    common_scale,
    value_for_module,
)
from kronlit.structured import Kronecker


def write(changes: dict[str, Change]) -> Written | None:
    """Kronecker products whose shapes PEFT can express by one number for all modules."""
    if not all_are(changes, Delta, Kronecker):
        return None
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
    config = {"r": rank, "alpha": rank if scale is None else rank * scale}
    config |= {"decompose_both": False, "decompose_factor": factor, "rank_dropout": 0.0, "module_dropout": 0.0}
    return config, tensors, f"LoKr, whose decompose_factor={factor} has factors of these shapes"


def read(name: str, tensors: dict[str, Tensor], content: dict[str, Any]) -> PeftChange:
    """A Kronecker product, of factors that may be products themselves."""
    rank = value_for_module(name, content.get("rank_pattern"), content["r"])
    alpha = value_for_module(name, content.get("alpha_pattern"), content["alpha"])
    a, b = (tensors[part] if part in tensors else tensors[f"{part}_a"] @ tensors[f"{part}_b"] for part in ("w1", "w2"))
    return PeftChange(partial(Kronecker, a_shape=(a.shape[0], a.shape[1])), {"a": a, "b": b}, alpha / rank)


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
            cure = near_shape(shapes)
            raise UserError(f"it has no factors of shapes {a} and {b} for {name}{cure}")
    each = " and ".join(f"{a} and {b} for {name}" for (a, b), name in first.items())
    raise UserError(f"it has one decompose_factor, by which no factors have the shapes {each}{near_shape(shapes)}")


def near_shape(shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    """The `a_shape` nearest to the given ones that LoKr would take for all modules, in words; empty if none is."""
    sizes = {tuple(m * n for m, n in zip(*pair, strict=True)) for pair in shapes.values()}
    given = next(iter(shapes.values()))[0]
    found: set[tuple[int, ...]] = set()
    for factor in (-1, *range(1, max(max(size) for size in sizes) + 1)):
        cut = {tuple(factorization(dimension, factor)[0] for dimension in size) for size in sizes}
        if len(cut) == 1:
            found.add(next(iter(cut)))

    def distance(shape: tuple[int, ...]) -> float:
        return sum(abs(math.log(ours / theirs)) for ours, theirs in zip(shape, given, strict=True))

    near = min(sorted(found), key=distance, default=None)
    return "" if near is None else f"; one trained with `a_shape`={list(near)} has one"


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


LOKR = PeftForm("LOKR", "LoKr", re.compile(r"(.+)\.lokr_(w[12](?:_[ab])?)"), write, read)
