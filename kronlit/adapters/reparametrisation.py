"""Weights that are computed from what they were: torch's parametrisations, which can be made ordinary weights again."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from kronlit.adapters.addition import Addition


class Reparametrisation(Addition):
    """What computes a weight of a frozen model from its value; its `forward` takes the one and gives the other."""


def reparametrise(model: nn.Module, maps: Mapping[int, Reparametrisation]) -> None:
    """Have parameters of `model` computed by `maps`, by their `id`; they stay tied where they are."""
    holders = [(module, name, p) for module in model.modules() for name, p in module.named_parameters(recurse=False)]
    for module, name, parameter in holders:
        if id(parameter) in maps:
            parametrize.register_parametrization(module, name, maps[id(parameter)], unsafe=True)


def bake_in(model: nn.Module) -> None:
    """Make every weight that is computed so an ordinary one, of its present value, for good."""
    holders = [module for module in list(model.modules()) if parametrize.is_parametrized(module)]
    computed = [
        (module, name, parametrisations)
        for module in holders
        for name, parametrisations in list(cast(Any, module.parametrizations).items())
        if isinstance(parametrisations[0], Reparametrisation)
    ]
    originals = {id(parametrisations.original): parametrisations for _, _, parametrisations in computed}
    for parametrisations in originals.values():  # tied weights share one original: write to it once
        with torch.no_grad():
            parametrisations.original.copy_(parametrisations[0](parametrisations.original))
    for module, name, _ in computed:
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)
