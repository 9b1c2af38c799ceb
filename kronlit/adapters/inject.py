"""Put placements into a model, tie what they share, and fold them away again."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from kronlit.adapters.linear import features, is_linear
from kronlit.adapters.placement import Placement
from kronlit.adapters.random_subspace import settle
from kronlit.adapters.sites import layer_of, matches, slice_of
from kronlit.structured import Mixture, StructuredLinear


@dataclass(frozen=True)
class Insertion:
    """What goes where.

    Args:
        sites: names of sites (`kronlit.adapters.sites`) or regular expressions over module names.
        placement: makes the placement from `(host, in_features, out_features)`; of a block, both are the model's
            hidden size. Where sites are parts of one module, it is also given its `slices`.
        first_layer: leave out the layers before this one, of each stack, counted from 0.
    """

    sites: tuple[str, ...]
    placement: Callable[..., Placement]
    first_layer: int = 0


def inject(model: nn.Module, insertions: Iterable[Insertion]) -> None:
    """Wrap every host that an insertion names, and tie what is shared.

    Raises:
        ValueError: if there are no sites, one matches nothing in `model`, or its width does not suit the placement.
    """
    for insertion in insertions:
        if not insertion.sites:
            raise ValueError(
                "`sites`=[] must name one or more; to add nothing, use the method `HeadOnly`, "
                "whose `trains` says what is trained."
            )
        # All names first: a wrapped host is found under another name.
        found: dict[str, list[str]] = {}
        for site in insertion.sites:
            for name in matches(model, site):
                found.setdefault(name, []).append(site)
        kept = {name: sites for name, sites in found.items() if layer_of(name) >= insertion.first_layer}
        if not kept:
            last = max(map(layer_of, found))
            raise ValueError(f"`first_layer`={insertion.first_layer} leaves no layer: the last one is {last}.")
        for name, sites in kept.items():
            host = model.get_submodule(name)
            try:
                placement = placed(insertion, model, host, sites)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            model.set_submodule(name, placement.to(next(host.parameters()).device).train(host.training))
    tie(model)


def placed(insertion: Insertion, model: nn.Module, host: nn.Module, sites: list[str]) -> Placement:
    """What `insertion` makes of `host`, which is at `sites` or has them as parts of its output."""
    in_features, out_features = widths(model, host)
    slices = {site: part for site in sites if (part := slice_of(model, site, out_features)) is not None}
    if not slices:
        return insertion.placement(host, in_features, out_features)
    if len(slices) < len(sites):
        raise ValueError(f"`sites`={tuple(sites)} name this module and parts of it; name the one or the others.")
    if "slices" not in inspect.signature(insertion.placement).parameters:
        raise ValueError(f"{', '.join(slices)} are parts of one module here, and only a `Delta` can stand on a part.")
    return insertion.placement(host, in_features, out_features, slices=slices)


def widths(model: nn.Module, host: nn.Module) -> tuple[int, int]:
    """Width of the input and output of a linear module, or of a block of `model`."""
    if is_linear(host):
        return features(host)
    config = getattr(model.config, "vision_config", model.config)  # CLIP's own has none: it is of two models
    hidden_size: int = config.hidden_size  # type: ignore[union-attr, assignment]
    return hidden_size, hidden_size


def tie(model: nn.Module) -> None:
    """Let one copy of each parameter that structured matrices call `tied` serve the whole model."""
    first: dict[tuple[type, str], nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, StructuredLinear):
            for name in module.tied:
                own = getattr(module, name)
                setattr(module, name, first.setdefault((type(module), name), own))


def placements(model: nn.Module) -> Iterator[tuple[str, Placement]]:
    """The placements of `model` with their names."""
    for name, module in model.named_modules():
        if isinstance(module, Placement):
            yield name, module


def collapse(model: nn.Module) -> None:
    """Make each mixture in `model` one ordinary expert, the mean that it evaluates to, for good."""
    for module in model.modules():
        if isinstance(module, Mixture):
            module.collapse()


def merge(model: nn.Module) -> None:
    """Fold all that was added to `model` into its weights, for good. A model without adapters stays as it is.

    Mixtures are folded as their mean.

    Raises:
        TypeError: if a placement cannot be folded, with the reason; then nothing is.
    """
    for name, placement in placements(model):
        if placement.obstacle:
            raise TypeError(f"{name} cannot be merged: {placement.obstacle}. Keep the adapter checkpoint.")
    for name, placement in list(placements(model)):
        model.set_submodule(name, placement.merge())
    settle(model)
