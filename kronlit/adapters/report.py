"""What is trained, as a table."""

import re

from torch import nn

from kronlit.adapters.inject import placements
from kronlit.adapters.random_subspace import RandomSubspace


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """The number of trainable parameters of `model`, and of all parameters of the model as it came."""
    added = {id(p) for _, placement in placements(model) for p in placement.parameters()}
    added -= {id(p) for _, placement in placements(model) for p in placement.host.parameters()}
    added |= {id(p) for module in model.modules() if isinstance(module, RandomSubspace) for p in module.parameters()}
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in added)


def trainable_report(model: nn.Module) -> str:
    """A table of the trainable parameters of `model`: name, copies, shape, count, per cent of the model as it came.

    Parameters of one shape whose names differ only in numbers (of layers) share a row.
    """
    trained, total = parameter_counts(model)
    rows: dict[tuple[str, str], list[int]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            shape = " x ".join(str(n) for n in parameter.shape) or "scalar"
            rows.setdefault((re.sub(r"\d+", "*", name), shape), []).append(parameter.numel())
    cells = [("trained", "copies", "shape", "parameters", "per cent")]
    cells += [
        (name, str(len(counts)), shape, f"{sum(counts):,}", f"{100 * sum(counts) / total:.4f}")
        for (name, shape), counts in rows.items()
    ]
    cells.append((f"all, over a model of {total:,}", "", "", f"{trained:,}", f"{100 * trained / total:.4f}"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        row[0].ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in cells
    )
