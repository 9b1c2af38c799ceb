"""PEFT's HiRA: a product of two thin matrices times the weight, elementwise."""

import re
from functools import partial
from typing import Any

from torch import Tensor

from kronlit.adapters import Hadamard
from kronlit.exchange.peft.change import Change, PeftChange, PeftForm, Written, all_are
from kronlit.exchange.peft.lora import largest_rank, thin_pairs
from kronlit.structured import LowRank


def write(changes: dict[str, Change]) -> Written | None:
    """Changes in proportion to the weight, by matrices of low rank."""
    if not all_are(changes, Hadamard):
        return None
    pairs = thin_pairs(changes)
    most, others = largest_rank(pairs)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        tensors |= {f"{name}.hira_A": a, f"{name}.hira_B": b * changes[name].scale}
    config = {
        "r": most,
        "hira_dropout": max(change.dropout for change in changes.values()),
        "fan_in_fan_out": all(change.transposed for change in changes.values()),
        "rank_pattern": others,
    }
    return config, tensors, f"HiRA of rank {most}"


def read(name: str, tensors: dict[str, Tensor], content: dict[str, Any]) -> PeftChange:
    """A low-rank matrix times the weight."""
    parts = {"a": tensors["A"], "b": tensors["B"]}
    make = partial(LowRank, rank=len(tensors["A"]))
    return PeftChange(make, parts, placement=Hadamard, dropout=content.get("hira_dropout", 0.0))


HIRA = PeftForm("HIRA", "HiRA", re.compile(r"(.+)\.hira_(A|B)"), write, read)
