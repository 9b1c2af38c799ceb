"""Records which modules a forward pass calls, and how. A module that is never called cannot be wrapped."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOKENS = 8
"""Length of the made-up text, in tokens."""


@dataclass(frozen=True)
class Call:
    """One call of a module: its positional arguments, its keyword arguments and its output."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


def first_calls(model: nn.Module) -> dict[str, Call]:
    """The first call of each module in a forward pass of a Transformers model over a made-up row, by module name.

    The pass is without gradients, in evaluation mode, and leaves torch's random state as it was. The result is empty
    if the model cannot be called this way, for example because it reads neither text nor images.
    """
    calls: dict[str, Call] = {}

    def hook(name: str) -> Any:
        return lambda _, args, kwargs, output: calls.setdefault(name, Call(args, kwargs, output)) and None

    handles = [
        module.register_forward_hook(hook(name), with_kwargs=True) for name, module in model.named_modules() if name
    ]
    try:
        output = output_for_made_up_row(model)
    finally:
        for handle in handles:
            handle.remove()
    return {} if output is None else calls


@torch.no_grad()
def output_for_made_up_row(model: nn.Module) -> Any:
    """The output of `model` for `made_up_row`; `None` if it cannot be called this way."""
    if (row := made_up_row(model)) is None:
        return None
    with evaluation_mode(model):
        try:
            return model(**row)
        except Exception:  # this runs any model's own code, on a row that it may not accept
            return None


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Keep `model` in evaluation mode, and restore the random state and each module's mode afterwards."""
    training = [module for module in model.modules() if module.training]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    model.eval()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        for module in training:
            module.training = True


def made_up_row(model: nn.Module) -> dict[str, Tensor] | None:
    """One row of input for `model`: an image of its size, or a text with its end token; `None` for other models."""
    config: Any = getattr(model, "config", None)
    if config is None:  # not a Transformers model
        return None
    device = next(model.parameters()).device
    reads = inspect.signature(model.forward).parameters
    if "input_ids" not in reads:
        config = getattr(config, "vision_config", config)
        if "pixel_values" not in reads or not hasattr(config, "num_channels"):
            return None
        size = getattr(config, "image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.zeros(1, config.num_channels, height, width, device=device)}
    end = getattr(config, "eos_token_id", None)
    ids = torch.arange(3, 3 + TOKENS, device=device)[None]
    if isinstance(end, int):
        ids[ids == end] = 3 + TOKENS  # BART's head looks for end tokens: the last one is to be the only one
        ids[0, -1] = end
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if "decoder_input_ids" in reads else {})


def is_passed_over(name: str, model: nn.Module, calls: dict[str, Call]) -> bool:
    """Whether the module of this name was not called, although its parent was.

    A module that this row did not reach, such as an expert that the router did not choose, does not count.
    """
    path = name.rpartition(".")[0]
    while path and isinstance(parent := model.get_submodule(path), (nn.ModuleList, nn.ModuleDict)):
        if any(f"{path}.{sibling}" in calls for sibling in parent._modules):
            return False
        path = path.rpartition(".")[0]
    return name not in calls and path in calls
