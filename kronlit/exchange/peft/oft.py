"""PEFT's OFT: rotations of blocks of the input."""

import math
import re
from functools import partial
from typing import Any

from torch import Tensor

from kronlit.adapters import Product
from kronlit.config.user_error import UserError
from kronlit.exchange.peft.change import Change, PeftChange, PeftForm, Written, all_are
from kronlit.structured import BlockOrthogonal

PEFT_VERSION = "0.18.0"
"""The version of PEFT since which its series is this one."""
FEWEST = 4
"""The fewest terms of PEFT's series that are counted as here."""


def write(changes: dict[str, Change]) -> Written | None:
    """Block-orthogonal matrices before weights, all of one size and by one transform.

    PEFT multiplies rows from the left, which turns them the other way; and its series has another sign than its exact
    transform.
    """
    if not all_are(changes, Product, BlockOrthogonal):
        return None
    matrices = {name: change.matrix for name, change in changes.items() if isinstance(change.matrix, BlockOrthogonal)}
    sizes = {matrix.block_size for matrix in matrices.values()}
    counts = {len(matrix.q) for matrix in matrices.values()}
    if len(sizes) > 1 and len(counts) > 1:
        raise UserError("it has one size or one number of blocks for all modules")
    blocks = {"oft_block_size": max(sizes), "r": 0} if len(sizes) == 1 else {"oft_block_size": 0, "r": max(counts)}
    series = {matrix.neumann_terms for matrix in matrices.values()}
    if len(series) > 1:
        raise UserError("it has one number of terms for all modules")
    (terms,) = series
    if terms is not None and terms < FEWEST:
        raise UserError(f"its series has {FEWEST} terms or more, and `neumann_terms` is {terms}")
    tensors = {f"{name}.oft_R.weight": sign(terms) * matrix.q for name, matrix in matrices.items()}
    config = {
        **blocks,
        **{"module_dropout": 0.0, "bias": "none", "coft": False, "block_share": False},
        "use_cayley_neumann": terms is not None,
        "num_cayley_neumann_terms": terms or 5,
        "fan_in_fan_out": all(change.transposed for change in changes.values()),
        "peft_version": PEFT_VERSION,
    }
    return config, tensors, f"OFT of blocks {' or '.join(map(str, sorted(sizes)))} wide"


def read(name: str, tensors: dict[str, Tensor], content: dict[str, Any]) -> PeftChange:
    """Rotations before a weight."""
    for option in ("coft", "block_share"):
        if content.get(option):
            raise UserError(f"{name} is of an OFT with `{option}`, which is not here.")
    weight = tensors["R"]
    size = (1 + math.isqrt(1 + 8 * weight.shape[1])) // 2  # there are size (size - 1) / 2 numbers in a block
    terms = content.get("num_cayley_neumann_terms", 5) if content.get("use_cayley_neumann") else None
    if terms is not None and terms < FEWEST:
        raise UserError(f"{name} is of an OFT with {terms} terms, whose series is another here.")
    make = partial(BlockOrthogonal, block_size=size, neumann_terms=terms)
    return PeftChange(make, {"q": sign(terms) * weight}, None, Product)


def sign(terms: int | None) -> int:
    """What to multiply the numbers by between PEFT and here."""
    return 1 if terms is None else -1


OFT = PeftForm("OFT", "OFT", re.compile(r"(.+)\.oft_(R)\.weight"), write, read)
