"""Tokens by pieces whose intermediate results stay in a processor's cache."""

from collections.abc import Iterable

import torch
from torch import Tensor

CACHED = 1 << 18
"""How many numbers a CPU computes with at a time. Measured for convolutions by benchmarks/structures.py, on one thread
of an AMD EPYC; Kronecker factors take the same number, unmeasured."""


def split_pieces(width: int, *tokens: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Split `tokens`, `(t, ...)` each, into groups of rows that fit the cache; each row has `width` numbers."""
    if len(tokens[0]) == 0:
        return []
    if tokens[0].device.type != "cpu" or torch.compiler.is_compiling():
        return [tokens]
    rows = max(1, CACHED // width)
    return zip(*(each.split(rows) for each in tokens), strict=True)


def join_pieces(pieces: list[Tensor], x: Tensor, width: int) -> Tensor:
    """Join the results of `split_pieces` in the shape of `x`, with a new width. There may be no rows at all."""
    whole = pieces[0] if len(pieces) == 1 else torch.cat([x.new_empty(0, width), *pieces])
    return whole.reshape(*x.shape[:-1], width)
