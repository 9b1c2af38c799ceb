"""The layers of a model, which are compiled, or shared out over processes, one by one."""

from torch import nn


def layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a Transformer: the modules in its outermost `ModuleList`s."""
    found: list[nn.Module] = []
    for child in model.children():
        found += child if isinstance(child, nn.ModuleList) else layers(child)
    return found
