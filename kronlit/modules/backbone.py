"""Stores the frozen weights in the precision that they are used in, and says what is below what is trained."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

from kronlit.adapters.addition import Addition
from kronlit.adapters.linear import is_whole

Below = Callable[[nn.Module], AbstractContextManager[object]]
"""What is called with the plain model; when its context ends, a frozen adapter is below whatever was added within."""
nothing_below: Below = nullcontext
"""Nothing."""
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "bf16-true": torch.bfloat16}
"""For each precision of a trainer below 32 bits, the dtype that autocast casts the weights of products to."""


def store_frozen(
    model: nn.Module, dtype: torch.dtype, loaded: torch.dtype = torch.float32, everything: bool = False
) -> None:
    """Convert the frozen weights and biases of the linear and convolutional layers of `model` to `dtype`.

    They are what autocast would cast in every step, so under it all numbers stay what they were, without the casts and
    in half the memory. What is trained, layer norms, embeddings and a head tied to them, and weights that are
    computed from others stay as they are; those that were `loaded` in 16 bits become float32, which is exact.

    With `everything`, frozen embeddings and layer norms are converted, too. Then some numbers are not what they were. A
    norm of which a part is trained, or that keeps running means, stays, as its kernels take one type alone.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    added = {id(p) for module in model.modules() if isinstance(module, Addition) for p in module.added()}
    stored = set()
    for module in model.modules():
        if isinstance(module, parametrize.ParametrizationList) or parametrize.is_parametrized(module):
            continue
        product = isinstance(module, (nn.Linear, nn.Conv2d, Conv1D))
        mixed = any(p.requires_grad for p in module.parameters(False)) or any(True for _ in module.buffers(False))
        for parameter in module.parameters(recurse=False):
            here = (everything and not mixed) or (product and id(parameter) not in embeddings)
            frozen = not parameter.requires_grad and id(parameter) not in added
            if here and frozen and is_whole(parameter):  # a quantised weight must keep its type
                parameter.data = parameter.data.to(dtype)
                stored.add(id(parameter))
    for parameter in model.parameters():
        if loaded != torch.float32 and parameter.dtype == loaded and id(parameter) not in stored:
            parameter.data = parameter.data.float()
