"""Rows of a matrix that belong together: a slice, or the same slice of each of several groups."""

from typing import NamedTuple

import torch
from torch import Tensor


class Interleaved(NamedTuple):
    """The same slice of each of equal groups of rows, as where a module computes query, key and value head by head."""

    groups: int
    """Number of groups; it divides the number of rows."""
    part: slice
    """The rows within a group."""


Rows = slice | Interleaved
"""Some rows of a matrix, or entries of its output."""


def row_numbers(rows: Rows, height: int) -> Tensor:
    """The numbers of `rows` in a matrix of `height` rows, in their order: `(n,)`, on the CPU."""
    every = torch.arange(height, device="cpu")
    return every[rows] if isinstance(rows, slice) else every.unflatten(0, (rows.groups, -1))[:, rows.part].flatten()


def index(rows: Rows, height: int) -> slice | Tensor:
    """What indexes `rows`: their slice, or their numbers where they are interleaved."""
    return rows if isinstance(rows, slice) else row_numbers(rows, height)


def count(rows: Rows, height: int) -> int:
    """How many of `height` rows `rows` are."""
    return len(row_numbers(rows, height))


def write(y: Tensor, rows: Rows, values: Tensor) -> None:
    """Set the entries `rows` of the last dimension of `y`, in place."""
    # As a view, several times as fast as by row numbers.
    if isinstance(rows, slice):
        y[..., rows] = values
    else:
        y.unflatten(-1, (rows.groups, -1))[..., rows.part] = values.unflatten(-1, (rows.groups, -1))
