"""What counts as a linear module of a Transformer: `nn.Linear`, and GPT-2's `Conv1D`, which stores its transpose."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_linear(module: nn.Module) -> bool:
    """Whether `module` is a linear map with a weight of its own."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a linear module, as it is stored; torch types a module's attributes as tensor or module."""
    return cast(Tensor, module.weight)


def features(module: nn.Module) -> tuple[int, int]:
    """Width of the input and output of a linear module, whose weight may be packed.

    Raises:
        ValueError: if it does not say them.
    """
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    shape = weight_of(module).shape
    if len(shape) != 2:
        raise ValueError(f"this {type(module).__name__} has a weight of shape {tuple(shape)}, and is no linear module.")
    return shape[0], shape[1]


def matrix_of(module: nn.Module) -> Tensor:
    """The weight of a linear module as `(out_features, in_features)`; writing to it changes the module."""
    weight = weight_of(module)
    return weight if isinstance(module, nn.Linear) else weight.T


def is_whole(weight: Tensor) -> bool:
    """Whether `weight` holds the very numbers of a matrix, neither packed nor scaled, as a quantised one does."""
    return weight.dtype in FLOATS and type(weight.detach()) is Tensor


@torch.no_grad()
def merge_blocker(module: nn.Module) -> str | None:
    """Why nothing can be added to the weight of a linear module; `None` where that is the matrix that it applies."""
    weight = weight_of(module)
    in_features, out_features = features(module)
    if not is_whole(weight) or matrix_of(module).shape != (out_features, in_features):
        found = f"{str(weight.dtype).removeprefix('torch.')} of shape {tuple(weight.shape)}"
        return f"the weight of its {type(module).__name__} is quantised ({found})"
    if isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward:
        x = torch.linspace(-1, 1, 2 * in_features, dtype=weight.dtype, device=weight.device).view(2, in_features)
        y, expected = module(x), F.linear(x, weight, module.bias)
        rounding = 1e-4 if torch.finfo(weight.dtype).bits > 16 else 3e-2
        if not (isinstance(y, Tensor) and y.shape == expected.shape):
            return f"a {type(module).__name__} does more than to apply its weight"
        if (y - expected).norm() > rounding * expected.norm():
            return f"a {type(module).__name__} applies something else than its weight"
    return None
