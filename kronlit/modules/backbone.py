"""The frozen weights, kept in the precision that they are used in."""

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

from kronlit.adapters.linear import is_whole

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""The precision of a trainer to the dtype that it casts the weights of products to."""


def store_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen weights and biases of the products of `model` in `dtype`, for good.

    They are what autocast would cast in every step, so under it all numbers stay what they were, without the casts and
    in half the memory. What is trained, layer norms, embeddings and a head tied to them, and weights that are
    computed from others stay as they are.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, Conv1D)) and not parametrize.is_parametrized(module):
            for parameter in module.parameters(recurse=False):
                frozen = not parameter.requires_grad and id(parameter) not in embeddings
                if frozen and is_whole(parameter):  # a quantised weight means nothing in another type
                    parameter.data = parameter.data.to(dtype)
