"""Stores the frozen weights in the precision that they are used in."""

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

from kronlit.adapters.linear import is_whole

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""For each mixed precision of a trainer, the dtype that autocast casts the weights of products to."""


def store_frozen(model: nn.Module, dtype: torch.dtype, loaded: torch.dtype = torch.float32) -> None:
    """Convert the frozen weights and biases of the linear and convolutional layers of `model` to `dtype`.

    They are what autocast would cast in every step, so under it all numbers stay what they were, without the casts and
    in half the memory. What is trained, layer norms, embeddings and a head tied to them, and weights that are
    computed from others stay as they are; those that were `loaded` in 16 bits become float32, which is exact.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    stored = set()
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, Conv1D)) and not parametrize.is_parametrized(module):
            for parameter in module.parameters(recurse=False):
                frozen = not parameter.requires_grad and id(parameter) not in embeddings
                if frozen and is_whole(parameter):  # a quantised weight must keep its type
                    parameter.data = parameter.data.to(dtype)
                    stored.add(id(parameter))
    for parameter in model.parameters():
        if loaded != torch.float32 and parameter.dtype == loaded and id(parameter) not in stored:
            parameter.data = parameter.data.float()
