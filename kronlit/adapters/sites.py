"""Sites: the places in a Transformer where something can be added, by the same names in all architectures."""

import re
from typing import Any

from torch import nn

from kronlit.adapters.cuts import LAYOUTS, THIRDS, rows_of
from kronlit.adapters.families import NAMED, Sites, sites_by_names
from kronlit.adapters.linear import is_linear
from kronlit.adapters.towers import tower_of
from kronlit.structured.rows import Rows

SITES = (
    *("query", "key", "value", "attention_output", "self_attention_output"),
    *("ffn_input", "ffn_output", "ffn", "ffn_before_norm"),
)
"""The names of all sites."""


def sites_of(model: nn.Module) -> Sites:
    """Maps the sites of `model` to a pattern for the whole name of a module."""
    if (tower := tower_of(model)) is None:
        return {}
    if (sites := NAMED.get(getattr(tower.config, "model_type", ""))) is None:
        inside = re.compile(tower.prefix)
        sites = sites_by_names([name for name, _ in model.named_modules() if inside.match(name)])
    return {site: tower.prefix + pattern for site, pattern in sites.items()}


def matches(model: nn.Module, site: str) -> list[str]:
    """Names of the modules of `model` at `site`, in the model's order.

    Args:
        model: a Transformers model.
        site: a site of the model's architecture; or, for architectures and places that have none, a regular expression
            that must match a whole module name. If it matches linear modules, only those are taken.

    Raises:
        ValueError: if nothing matches, with what the model has; or if the site is one of the feed-forward network, and
            that is a mixture of experts that are one parameter.
    """
    known = sites_of(model)
    if site in SITES and site.startswith("ffn") and (experts := experts_of(model)):
        attention = ", ".join(name for name in known if not name.startswith("ffn"))
        raise ValueError(
            f"{experts} holds the weights of all experts in one three-dimensional parameter, on which nothing can "
            f"stand, so {site!r} is no site here. {architecture_of(model)!r} has {attention}."
        )
    pattern = known.get(site, site)
    found = {name: module for name, module in model.named_modules() if matches_whole(pattern, name)}
    linear = [name for name, module in found.items() if is_linear(module)]
    if not found:
        raise ValueError(
            f"{architecture_of(model)!r} has no site {site!r}{bare_attention(model, site)}; it has "
            f"{', '.join(known) or without_sites(model)}. "
            "A site may also be a regular expression over whole module names."
        )
    return linear or list(found)


def without_sites(model: nn.Module) -> str:
    """Why `model` has no sites of its own, and what it has instead."""
    names = sorted({without_layers(name) for name, module in model.named_modules() if is_linear(module)})
    parts = "" if tower_of(model) else ", as it is made of several models"
    return f"no site of its own{parts}; its linear modules are {', '.join(names)}"


def bare_attention(model: nn.Module, site: str) -> str:
    """Why `site` is none in `model`, if it is one of attention whose weights are no modules; else nothing."""
    for name, module in model.named_modules():
        if site in THIRDS and {"q", "k", "v"} <= module._parameters.keys():
            return f", as {name} holds its weights as parameters, not as modules"
    return ""


def experts_of(model: nn.Module) -> str | None:
    """The name of the first module of `model` that holds the matrices of several experts as one parameter, if any."""
    for name, module in model.named_modules():
        stacked = any(parameter.ndim == 3 for parameter in module.parameters(recurse=False))
        if stacked and "Expert" in type(module).__name__:
            return name
    return None


def is_named(model: nn.Module) -> bool:
    """Whether the sites of the model's architecture are written down, and not found by the names of its modules."""
    tower = tower_of(model)
    return tower is not None and getattr(tower.config, "model_type", "") in NAMED


def slice_of(model: nn.Module, known: Sites, site: str, out_features: int) -> Rows | None:
    """The part of its module's output that belongs to `site`; `None` if that is the whole output.

    Raises:
        ValueError: if it is a part, and it is not known which.
    """
    if site not in THIRDS or site not in known or known["query"] != known["key"]:
        return None
    config: Any = getattr(tower_of(model), "config", None)
    architecture = getattr(config, "model_type", type(model).__name__)
    if architecture not in LAYOUTS:
        raise ValueError(
            f"it computes query, key and value at once, and which rows of {architecture!r} are {site} is not known "
            "here: name the module by a regular expression, which changes all of it."
        )
    return rows_of(site, LAYOUTS[architecture](config), out_features)


def architecture_of(model: nn.Module) -> str:
    """The `model_type` of a Transformers model; for other models, the name of the class."""
    return getattr(getattr(model, "config", None), "model_type", type(model).__name__)


def width_of(model: nn.Module) -> int | None:
    """The width that all blocks of `model` share, or all of the part that is adapted; `None` if it is not known."""
    tower = tower_of(model)
    config: Any = getattr(model, "config", None) if tower is None else tower.config
    width: int | None = getattr(config, "hidden_size", None)
    return width


def layer_of(name: str) -> int:
    """The layer that a module belongs to, by its name, counted from 0; 0 if it is in no layer."""
    number = re.search(r"\.(\d+)\.", f".{name}.")
    return int(number[1]) if number else 0


def without_layers(name: str) -> str:
    """`name` with a star in place of each layer number. As a regular expression, it matches all those names."""
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def matches_whole(pattern: str, name: str) -> bool:
    """Whether the whole of `name` matches `pattern`."""
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ValueError(f"the site {pattern!r} is neither a known site nor a regular expression: {error}.") from error
