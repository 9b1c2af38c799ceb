"""Counts the trained parameters, and lists them in a table."""

import math
from collections.abc import Iterable, Sequence

from torch import nn

from kronlit.adapters.addition import Addition
from kronlit.adapters.quantised import QuantisedLinear
from kronlit.adapters.sites import without_layers


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """The number of trainable parameters of `model`, and the number of parameters that it had before injection."""
    added = {id(p) for module in model.modules() if isinstance(module, Addition) for p in module.added()}
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    packed = {
        id(module.weight): module.in_features * module.out_features  # of 4 bits, two are in a byte
        for module in model.modules()
        if isinstance(module, QuantisedLinear)
    }
    own = (parameter for parameter in model.parameters() if id(parameter) not in added)
    return trained, sum(packed.get(id(parameter), parameter.numel()) for parameter in own)


def trainable_report(model: nn.Module) -> str:
    """A table of the trainable parameters of `model`: name, copies, shape, count, and share of the original model.

    Parameters of the same shape whose names differ only in the layer's number share a row.
    """
    shapes = [(name, parameter.shape) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return shape_table(shapes, parameter_counts(model)[1])


def shape_table(shapes: Iterable[tuple[str, Sequence[int]]], total: int | None) -> str:
    """Make the table of `trainable_report` from names and shapes.

    Args:
        shapes: name and shape of each trained parameter.
        total: number of parameters of the original model; without it the table has no percentages.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for name, shape in shapes:
        sizes = " x ".join(str(n) for n in shape) or "scalar"
        rows.setdefault((without_layers(name), sizes), []).append(math.prod(shape))

    def per_cent(count: int) -> str:
        return f"{100 * count / total:.4f}" if total else ""

    cells = [("trained", "copies", "shape", "parameters", "per cent" if total else "")]
    cells += [
        (name, str(len(counts)), sizes, f"{sum(counts):,}", per_cent(sum(counts)))
        for (name, sizes), counts in rows.items()
    ]
    trained = sum(map(sum, rows.values()))
    cells.append((f"all, over a model of {total:,}" if total else "all", "", "", f"{trained:,}", per_cent(trained)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        row[0].ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)
