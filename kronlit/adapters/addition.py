"""What a method adds to a frozen model."""

from collections.abc import Iterator

from torch import nn


class Addition(nn.Module):
    """A module that a model has not as it comes: around one of its own, or in the way of one of its weights."""

    def added(self) -> Iterator[nn.Parameter]:
        """The parameters that the model has not as it comes."""
        yield from self.parameters()


def holds_additions(model: nn.Module) -> bool:
    """Whether anything was added to `model`."""
    return any(isinstance(module, Addition) for module in model.modules())
