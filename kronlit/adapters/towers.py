"""Which part of a model is adapted where it is made of several, such as a language model that sees."""

from typing import Any, NamedTuple

from torch import nn


class Tower(NamedTuple):
    """The part of a model where sites are looked for."""

    prefix: str
    """A pattern for the beginning of its modules' names."""
    config: Any
    """Its config."""


VISION, TEXT = ("vision_model", "vision_config"), ("text_model", "text_config")
TOWERS = {"clip": VISION, "siglip": VISION, "siglip2": VISION, "metaclip_2": VISION, "idefics3": TEXT, "smolvlm": TEXT}
"""The part of an architecture whose parts are not told by their names alone: its module, and where its config is."""

WHOLE = r"(.*\.)?"


def tower_of(model: nn.Module) -> Tower | None:
    """The part of `model` where sites are looked for: all of it, or one of several; `None` if it is not clear which."""
    config: Any = getattr(model, "config", None)
    parts = [name for name, part in vars(config or object).items() if name.endswith("_config") and is_model(part)]
    module, where = TOWERS.get(getattr(config, "model_type", ""), ("language_model", "text_config"))
    if not parts:
        return Tower(WHOLE, config)
    if where not in parts or not any(name.split(".")[-1] == module for name, _ in model.named_modules()):
        return None
    return Tower(rf"{WHOLE}{module}\.{WHOLE}", getattr(config, where))


def is_model(config: object) -> bool:
    """Whether `config` is that of a model of its own."""
    return bool(getattr(config, "model_type", "")) and hasattr(config, "to_dict")
