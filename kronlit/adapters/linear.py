"""What counts as a linear module of a Transformer: `nn.Linear`, and GPT-2's `Conv1D`, which stores its transpose."""

from torch import Tensor, nn


def is_linear(module: nn.Module) -> bool:
    """Whether `module` is a linear map with a weight of its own."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def features(module: nn.Module) -> tuple[int, int]:
    """Width of the input and output of a linear module."""
    rows, columns = matrix_of(module).shape
    return columns, rows


def matrix_of(module: nn.Module) -> Tensor:
    """The weight of a linear module as `(out_features, in_features)`; writing to it changes the module."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight if isinstance(module, nn.Linear) else weight.T
