"""What is trained, as a table."""

import math
from collections.abc import Iterable, Sequence

from torch import nn

from kronlit.adapters.addition import Addition
from kronlit.adapters.sites import without_layers


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """The number of trainable parameters of `model`, and of all parameters of the model as it came."""
    added = {id(p) for module in model.modules() if isinstance(module, Addition) for p in module.added()}
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in added)


def trainable_report(model: nn.Module) -> str:
    """A table of the trainable parameters of `model`: name, copies, shape, count, per cent of the model as it came.

    Parameters of one shape whose names differ only in numbers of layers share a row.
    """
    shapes = [(name, parameter.shape) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return shape_table(shapes, parameter_counts(model)[1])


def shape_table(shapes: Iterable[tuple[str, Sequence[int]]], total: int | None) -> str:
    """The table of `trainable_report`, from names and shapes.

    Args:
        shapes: of what is trained.
        total: parameters of the model as it came; without, there are no per cents.
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
