"""PEFT's LoRA, rsLoRA and DoRA: products of two thin matrices."""

import math
import re
from functools import partial
from typing import Any

from torch import Tensor

from kronlit.adapters import Delta, WeightDecomposed
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
from kronlit.structured import LowRank, StructuredLinear

MAGNITUDE = "magnitude_vector"
"""PEFT's name for the lengths of DoRA's rows."""


def write(changes: dict[str, Change]) -> Written | None:
    """Matrices of low rank, including Kronecker products of low rank."""
    decomposed = all_are(changes, WeightDecomposed)
    if not (decomposed or all_are(changes, Delta)):
        return None
    pairs = thin_pairs(changes)
    most, others = largest_rank(pairs)
    scale = common_scale(changes)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        b = b * (changes[name].scale if scale is None else 1)
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        if decomposed:
            if len(changes[name].own["magnitude"]) != len(b):
                raise UserError(f"{name} is changed in part, and PEFT's DoRA changes the whole")
            tensors[f"{name}.lora_{MAGNITUDE}"] = changes[name].own["magnitude"]
    factor = 1.0 if scale is None else scale
    config = {
        "r": most,
        "lora_alpha": factor * most,
        "lora_dropout": max(change.dropout for change in changes.values()),
        "bias": "none",
        "fan_in_fan_out": all(change.transposed for change in changes.values()),
        "rank_pattern": others,
        "alpha_pattern": {name: factor * rank for name, rank in others.items()},
    }
    name = "LoRA"
    if decomposed:
        config["use_dora"], name = True, "DoRA"
    plain = all(isinstance(change.matrix, LowRank) for change in changes.values())
    return config, tensors, f"{name} of rank {most}" + ("" if plain else ", which these matrices are: W = BA")


def read(name: str, tensors: dict[str, Tensor], content: dict[str, Any]) -> PeftChange:
    """A low-rank matrix; of DoRA with the lengths of the rows."""
    rank = value_for_module(name, content.get("rank_pattern"), content["r"])
    alpha = value_for_module(name, content.get("alpha_pattern"), content["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if content.get("use_rslora") else rank)
    parts = {"a": tensors["A"], "b": tensors["B"]}
    make, dropout = partial(LowRank, rank=len(tensors["A"])), content.get("lora_dropout", 0.0)
    if MAGNITUDE in tensors:
        own = {"magnitude": tensors[MAGNITUDE]}
        return PeftChange(make, parts, scale, WeightDecomposed, own, dropout)
    return PeftChange(make, parts, scale, dropout=dropout)


def thin_pairs(changes: dict[str, Change]) -> dict[str, tuple[Tensor, Tensor]]:
    """By module factors A `(rank, in_features)` and B `(out_features, rank)` with `B A` equal to the matrix.

    Raises:
        ValueError: if a structure has no such factors, or they would have more numbers than the weight.
    """
    pairs = {}
    for name, change in changes.items():
        factors = change.matrix.thin_factors()
        if factors is None:
            inner = [part for part in change.matrix.children() if isinstance(part, StructuredLinear)]
            kinds = dict.fromkeys(type(part).__name__ for part in inner or [change.matrix])
            raise UserError(f"a {' or a '.join(kinds)} is no product of two thin matrices")
        a, b = factors
        if a.numel() + b.numel() >= change.matrix.in_features * change.matrix.out_features:
            raise UserError(f"{name} would have rank {len(a)}, and more numbers than its weight {change.shape}")
        pairs[name] = factors
    return pairs


def largest_rank(pairs: dict[str, tuple[Tensor, Tensor]]) -> tuple[int, dict[str, int]]:
    """The largest rank, and by module those that are other."""
    ranks = {name: len(a) for name, (a, _) in pairs.items()}
    most = max(ranks.values())
    return most, {name: rank for name, rank in ranks.items() if rank != most}


LORA = PeftForm("LORA", "LoRA", re.compile(rf"(.+)\.lora_(A|B|{MAGNITUDE})(?:\.weight)?"), write, read)
