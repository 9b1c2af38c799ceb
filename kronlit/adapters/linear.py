"""The linear modules of a Transformer: `nn.Linear`, and GPT-2's `Conv1D`, which stores the transposed weight."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.adapters.quantised import QuantisedLinear

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_linear(module: nn.Module) -> bool:
    """Whether `module` is a linear map with a weight of its own."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a linear module, as it is stored.

    The cast is for type checkers: torch types an attribute of a module as a tensor or a module.
    """
    return cast(Tensor, module.weight)


def features(module: nn.Module) -> tuple[int, int]:
    """Input and output width of a linear module. Its weight may be packed, as a quantised one is.

    Raises:
        ValueError: if the module does not tell its widths.
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


def applies_its_weight(module: nn.Module) -> bool:
    """Whether a linear module is known to multiply by just its weight, which is a plain matrix."""
    return (type(module) is nn.Linear or type(module).__name__ == "Conv1D") and is_whole(weight_of(module))


def applied_weight(module: nn.Module, dtype: torch.dtype) -> Tensor:
    """The matrix that a linear module multiplies by, `(out_features, in_features)`.

    Of a plain module it is the weight itself, in its own dtype. Of a quantised one it is formed in `dtype`. Of another,
    such as one that was quantised elsewhere, it is what the module makes of the identity: no gradient reaches it.
    """
    if applies_its_weight(module):
        return matrix_of(module)
    if isinstance(module, QuantisedLinear):
        return module.dequantised(dtype)
    with torch.no_grad():
        identity = torch.eye(features(module)[0], dtype=dtype, device=weight_of(module).device)
        return without_bias(module, identity).mT


def without_bias(module: nn.Module, x: Tensor) -> Tensor:
    """The output of a linear module without its bias."""
    if isinstance(module, QuantisedLinear):
        return module.product(x)
    bias = cast(Tensor | None, module.bias)
    if bias is not None and applies_its_weight(module):
        return F.linear(x, matrix_of(module))
    y: Tensor = module(x)
    return y if bias is None else y - bias.to(y.dtype)


def is_whole(weight: Tensor) -> bool:
    """Whether `weight` is a plain matrix of numbers, not packed or scaled as a quantised one is."""
    return weight.dtype in FLOATS and type(weight.detach()) is Tensor


@torch.no_grad()
def merge_blocker(module: nn.Module) -> str | None:
    """Why nothing can be added to the weight of a linear module; `None` if the module applies just that weight.

    Some subclasses of `nn.Linear` compute more than `weight @ x`; two rows of input tell.
    """
    weight = weight_of(module)
    in_features, out_features = features(module)
    if isinstance(module, QuantisedLinear):
        return f"the weight of its {type(module).__name__} is quantised: `kronlit.dequantise` the model first"
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
