"""Puts placements into a model, ties what they share, and merges them into the weights again."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from kronlit.adapters.agreement import disagreement
from kronlit.adapters.calls import Call, first_calls, is_passed_over
from kronlit.adapters.families import Sites
from kronlit.adapters.linear import features, is_linear
from kronlit.adapters.placement import Placement
from kronlit.adapters.reparametrisation import bake_in
from kronlit.adapters.sites import is_named, layer_of, matches, matches_whole, sites_of, slice_of, width_of
from kronlit.adapters.tied_weights import is_shared, untie, untie_blocker
from kronlit.adapters.transaction import INJECTED
from kronlit.structured import Mixture, StructuredLinear


@dataclass(frozen=True)
class Insertion:
    """A placement, and the sites where it goes.

    Args:
        sites: names of sites (`kronlit.adapters.sites`) or regular expressions over module names.
        placement: makes the placement from `(host, in_features, out_features)`. For a block, both widths are the
            model's hidden size. If sites are parts of one module, it is also given `slices`.
        first_layer: the first layer of each stack that is changed, counted from 0.
    """

    sites: tuple[str, ...]
    placement: Callable[..., Placement]
    first_layer: int = 0


def inject(model: nn.Module, insertions: Iterable[Insertion]) -> None:
    """Wrap every host that an insertion names, and tie the shared parameters.

    If a site is a regular expression, or was found by the names of an architecture's modules alone, a forward pass over
    one made-up row checks that its modules are called.

    Raises:
        ValueError: if there are no sites, or a site matches nothing in `model`, has a width that does not suit the
            placement, or is not called in a forward pass. `model` is then unchanged.
    """
    known, named = sites_of(model), is_named(model)
    calls: dict[str, Call] | None = None
    added: dict[str, Placement] = {}
    for insertion in insertions:
        for name, sites in find_hosts(model, insertion).items():
            certain = named and all(site in known for site in sites)
            if calls is None and not certain:
                calls = first_calls(model)
            host = model.get_submodule(name)
            try:
                if name in added:
                    raise ValueError("`sites` of two insertions name this module, and one can stand on it.")
                placement = make_placement(insertion, model, name, sites, known)
                if calls and not certain:
                    check_call(name, model, calls, placement)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            placement.site = sites[0] if sites[0] in known else name.split(".")[-1]
            device = next(host.parameters(), next(model.parameters())).device
            added[name] = placement.to(device).train(host.training)
    replace(model, {id(placement.host): placement for placement in added.values()})
    tie(model)


def find_hosts(model: nn.Module, insertion: Insertion) -> dict[str, list[str]]:
    """The names of the modules that `insertion` wraps, each with the sites that matched it."""
    if not insertion.sites:
        raise ValueError(
            "`sites`=[] must name one or more; to add nothing, use the method `HeadOnly`, "
            "whose `trains` says what is trained."
        )
    found: dict[str, list[str]] = {}
    for site in insertion.sites:
        for name in matches(model, site):
            found.setdefault(name, []).append(site)
    kept = {name: sites for name, sites in found.items() if layer_of(name) >= insertion.first_layer}
    if not kept:
        last = max(map(layer_of, found))
        raise ValueError(f"`first_layer`={insertion.first_layer} leaves no layer: the last one is {last}.")
    return kept


def check_call(name: str, model: nn.Module, calls: dict[str, Call], placement: Placement) -> None:
    """Raise `ValueError` if the host of `placement` is not called, or is called in a way that does not suit it."""
    if is_passed_over(name, model, calls):
        raise ValueError(
            f"a {type(model).__name__} does not call this {type(placement.host).__name__}, so what is added to it "
            "would train nothing (its weight may be read elsewhere): leave it out of `sites`."
        )
    if name in calls and (misfit := placement.misfit(calls[name])):
        raise ValueError(misfit)


def make_placement(insertion: Insertion, model: nn.Module, name: str, sites: list[str], known: Sites) -> Placement:
    """Make the placement of `insertion` for the module of this name, which is at `sites` or computes them as slices."""
    host = model.get_submodule(name)
    in_features, out_features = widths(model, name, known)
    slices = {site: part for site in sites if (part := slice_of(model, known, site, out_features)) is not None}
    if not slices:
        return insertion.placement(host, in_features, out_features)
    if len(slices) < len(sites):
        raise ValueError(f"`sites`={tuple(sites)} name this module and parts of it; name the one or the others.")
    if not takes_slices(insertion.placement):
        raise ValueError(
            f"{', '.join(slices)} are parts of one module here, and only a change of its weight, such as a `Delta`, "
            "can stand on a part."
        )
    return insertion.placement(host, in_features, out_features, slices=slices)


def takes_slices(placement: Callable[..., Placement]) -> bool:
    """Whether what makes a placement takes `slices`, by itself or among arguments that it hands on."""
    parameters = inspect.signature(placement).parameters
    return "slices" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def widths(model: nn.Module, name: str, known: Sites) -> tuple[int, int]:
    """Input and output width of the linear module, or of the block, that has this name in `model`."""
    host = model.get_submodule(name)
    if is_linear(host):
        return features(host)
    for inner, module in host.named_modules():  # the last layer of a feed-forward block: Swin's are of several widths
        if is_linear(module) and matches_whole(known.get("ffn_output", ""), f"{name}.{inner}"):
            return (features(module)[1],) * 2
    if (width := width_of(model)) is None:
        raise ValueError(
            f"a {type(host).__name__} is no linear module, and a {type(model).__name__} has no width that all its "
            "blocks share, which what is placed on one must know: name linear modules in `sites`."
        )
    return width, width


def tie(model: nn.Module) -> None:
    """Share one copy of each parameter that structured matrices list in `tied` across the whole model."""
    first: dict[tuple[type, str], nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, StructuredLinear):
            for name in module.tied:
                own = getattr(module, name)
                setattr(module, name, first.setdefault((type(module), name), own))


def placements(model: nn.Module) -> Iterator[tuple[str, Placement]]:
    """The placements in `model`, each with its name."""
    for name, module in model.named_modules():
        if isinstance(module, Placement):
            yield name, module


def collapse(model: nn.Module) -> None:
    """Replace each mixture in `model` by the mean of its experts. This cannot be undone."""
    for module in model.modules():
        if isinstance(module, Mixture):
            module.collapse()


def merge(model: nn.Module) -> None:
    """Fold everything that was added to `model` into its weights. This cannot be undone.

    A model without adapters stays as it is. A mixture is folded as the mean of its experts. If a changed weight is
    tied to the embeddings, the two are untied, and the model's config says so.

    Raises:
        TypeError: if a placement cannot be folded, with the reason. Nothing is folded then.
        ValueError: if folding a placement would change its outputs. Nothing is folded then.
    """
    tied = [name for name, placement in placements(model) if is_shared(model, placement.host.parameters())]
    check_merge(model, tied)
    if tied:
        untie(model)
    replace(model, {id(placement): placement.merge() for _, placement in list(placements(model))})
    bake_in(model)
    vars(model).pop(INJECTED, None)  # from now on it is a plain model


def check_merge(model: nn.Module, tied: Collection[str] = ()) -> None:
    """Check that each placement of `model` is a change of its host's parameters; `tied` names those to untie first.

    Raises:
        TypeError: if a placement cannot be folded, with the reason.
        ValueError: if folding a placement would change its outputs.
    """
    for name, placement in placements(model):
        if placement.below:
            raise TypeError(
                f"{name} cannot be merged: a frozen {type(placement).__name__} is below what was trained there or "
                "elsewhere, and a merged model has no place for the two. Keep the adapter checkpoint."
            )
        # `obstacle` is an earlier name: a placement of one's own that forbids merging under it must not be merged.
        blocker = getattr(placement, "obstacle", None) or placement.merge_blocker
        if reason := blocker or (untie_blocker(model) if name in tied else None):
            raise TypeError(f"{name} cannot be merged: {reason}. Keep the adapter checkpoint.")
    for name, placement in placements(model):
        if fault := disagreement(placement):
            kind = type(getattr(placement, "matrix", getattr(placement, "body", placement))).__name__
            raise ValueError(
                f"{name} cannot be merged: the `forward` and the `to_dense` of {kind} are not the same matrix, {fault}."
            )


def replace(model: nn.Module, others: dict[int, nn.Module]) -> None:
    """Replace modules of `model` wherever they occur; `others` maps the `id` of a module to its replacement."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if id(child) in others:
                parent._modules[name] = others[id(child)]
