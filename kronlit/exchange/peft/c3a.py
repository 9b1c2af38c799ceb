"""PEFT's C3A: square circulant blocks, divided by the width of the input."""

import re
from functools import partial
from typing import Any

from torch import Tensor

from kronlit.adapters import Delta
from kronlit.config.user_error import UserError
from kronlit.exchange.peft.change import Change, PeftChange, PeftForm, Written, all_are
from kronlit.structured import BlockCirculant, Circulant


def write(changes: dict[str, Change]) -> Written | None:
    """Block-circulant matrices, and square circulant ones, whose kernel runs the other way."""
    if not all_are(changes, Delta, BlockCirculant, Circulant):
        return None
    tensors, sizes = {}, {}
    for name, change in changes.items():
        rows, columns = change.shape
        matrix = change.matrix
        if change.transposed:
            raise UserError(f"{name} is a Conv1D, for which PEFT has none")
        if isinstance(matrix, BlockCirculant):
            kernel: Tensor = matrix.kernel * change.scale
        elif rows != columns:
            raise UserError(f"{name} is {rows} x {columns}, and PEFT's circulant blocks are square")
        else:
            assert isinstance(matrix, Circulant)
            kernel = (matrix.column.flip(0).roll(1) * (change.scale * columns)).reshape(1, 1, -1)
        tensors[f"{name}.c3a_kernel"] = kernel
        sizes[name] = kernel.shape[-1]
    size = max(sizes.values())
    config: dict[str, Any] = {"block_size": size, "bias": "none"}
    config["block_size_pattern"] = {name: other for name, other in sizes.items() if other != size}
    return config, tensors, f"C3A of blocks {size} wide"


def read(name: str, tensors: dict[str, Tensor], content: dict[str, Any]) -> PeftChange:
    """A block-circulant matrix; of one block, a circulant one as well."""
    kernel = tensors["kernel"]
    others: tuple[PeftChange, ...] = ()
    if kernel.shape[:2] == (1, 1):
        others = (PeftChange(Circulant, {"a": kernel.flatten().flip(0).roll(1) / kernel.numel()}),)
    return PeftChange(partial(BlockCirculant, block_size=kernel.shape[-1]), {"kernel": kernel}, others=others)


C3A = PeftForm("C3A", "C3A", re.compile(r"(.+)\.c3a_(kernel)"), write, read)
