"""Weights that stand in several places of a model, such as embeddings that are the head too, and their parting."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kronlit.adapters.calls import output_for_made_up_row


def parameter_places(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """The modules that hold each parameter themselves, by its `id`, with its name in them."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append((module, name))
    return found


def is_shared(model: nn.Module, parameters: Iterable[nn.Parameter]) -> bool:
    """Whether some of `parameters` stand elsewhere in `model` too."""
    found = parameter_places(model)
    return any(len(found.get(id(parameter), ())) > 1 for parameter in parameters)


def untie_blocker(model: nn.Module) -> str | None:
    """Why the tied weights of `model` cannot be parted; `None` if they can."""
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
    """Give each place in `model` a weight of its own, and have its config say so."""
    for holders in parameter_places(model).values():
        for module, name in holders[1:]:
            parameter = module.get_parameter(name)
            module._parameters[name] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    set_tying(tying_configs(model), False)
    for module in model.modules():
        if hasattr(module, "all_tied_weights_keys"):  # what Transformers would tie, or save once
            vars(module)["all_tied_weights_keys"] = {}


def tying_configs(model: nn.Module) -> list[Any]:
    """The configs in `model` that say that weights are tied, each once."""
    configs = {
        id(config): config for module in model.modules() for config in nested_configs(getattr(module, "config", None))
    }
    return [config for config in configs.values() if getattr(config, "tie_word_embeddings", False) is True]


def nested_configs(config: Any) -> Iterator[Any]:
    """`config`, and those in it."""
    if hasattr(config, "to_dict"):
        yield config
        for part in vars(config).values():
            yield from nested_configs(part)


def set_tying(configs: Iterable[Any], value: bool) -> None:
    """Let `configs` say whether weights are tied."""
    for config in configs:
        config.tie_word_embeddings = value


def logits(model: nn.Module) -> Tensor | None:
    """What `model` gives for a made-up row; `None` where it can't be called so."""
    return getattr(output_for_made_up_row(model), "logits", None)
