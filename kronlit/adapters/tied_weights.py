"""Finds and unties weights that occur in several places of a model, such as embeddings that are also the head."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kronlit.adapters.calls import output_for_made_up_row


def parameter_places(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Maps the `id` of each parameter to the modules that hold it directly, with its name there."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append((module, name))
    return found


def is_shared(model: nn.Module, parameters: Iterable[nn.Parameter]) -> bool:
    """Whether one of `parameters` occurs in several places of `model`."""
    found = parameter_places(model)
    return any(len(found.get(id(parameter), ())) > 1 for parameter in parameters)


def untie_blocker(model: nn.Module) -> str | None:
    """Why the tied weights of `model` cannot be untied; `None` if they can."""
    tying = tying_configs(model)
    for config in tying:
        said = type(config).from_dict(config.to_dict() | {"tie_word_embeddings": False})
        if said.tie_word_embeddings:
            return f"its weight is that of the embeddings too, and a {type(config).__name__} always ties them"
    before = logits(model)
    set_tying(tying, False)
    try:
        after = logits(model)
    finally:
        set_tying(tying, True)
    if before is not None and (after is None or not torch.allclose(before, after, 1e-3, 1e-4)):
        return f"its weight is that of the embeddings too, and an untied {type(model).__name__} computes otherwise"
    return None


def untie(model: nn.Module) -> None:
    """Give each place in `model` its own copy of the weight, and say so in its config."""
    for holders in parameter_places(model).values():
        for module, name in holders[1:]:
            parameter = module.get_parameter(name)
            module._parameters[name] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    set_tying(tying_configs(model), False)
    for module in model.modules():
        if hasattr(module, "all_tied_weights_keys"):  # Transformers would tie these again, or save them only once
            vars(module)["all_tied_weights_keys"] = {}


def tying_configs(model: nn.Module) -> list[Any]:
    """The configs in `model` that say that weights are tied, without duplicates."""
    configs = {
        id(config): config for module in model.modules() for config in nested_configs(getattr(module, "config", None))
    }
    return [config for config in configs.values() if getattr(config, "tie_word_embeddings", False) is True]


def nested_configs(config: Any) -> Iterator[Any]:
    """`config` and all configs in it."""
    if hasattr(config, "to_dict"):
        yield config
        for part in vars(config).values():
            yield from nested_configs(part)


def set_tying(configs: Iterable[Any], value: bool) -> None:
    """Set in `configs` whether weights are tied."""
    for config in configs:
        config.tie_word_embeddings = value


def logits(model: nn.Module) -> Tensor | None:
    """The logits of `model` for a made-up row; `None` if it cannot be called this way."""
    return getattr(output_for_made_up_row(model), "logits", None)
