"""Put placements into a model, and fold them away again."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from kronlit.adapters.placement import Placement
from kronlit.adapters.sites import matches


@dataclass(frozen=True)
class Insertion:
    """What goes where.

    Args:
        sites: names of sites (`kronlit.adapters.sites`) or regular expressions over module names.
        placement: makes the placement from `(host, in_features, out_features)`.
    """

    sites: tuple[str, ...]
    placement: Callable[[nn.Module, int, int], Placement]


def inject(model: nn.Module, insertions: Iterable[Insertion]) -> None:
    """Wrap every host that an insertion names.

    Raises:
        ValueError: if a site matches nothing in `model`, or its width does not suit the placement.
    """
    for insertion in insertions:
        # All names first: a wrapped host is found under another name.
        for name in dict.fromkeys(name for site in insertion.sites for name in matches(model, site)):
            host = model.get_submodule(name)
            assert isinstance(host, nn.Linear)  # as `matches` has it
            try:
                placement = insertion.placement(host, host.in_features, host.out_features)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            model.set_submodule(name, placement.to(host.weight.device))


def placements(model: nn.Module) -> Iterator[tuple[str, Placement]]:
    """The placements of `model` with their names."""
    for name, module in model.named_modules():
        if isinstance(module, Placement):
            yield name, module


def merge(model: nn.Module) -> None:
    """Fold every placement of `model` into its host, for good. A model without placements stays as it is.

    Raises:
        TypeError: if a placement cannot be folded, with the reason; then nothing is.
    """
    for name, placement in placements(model):
        if placement.obstacle:
            raise TypeError(f"{name} cannot be merged: {placement.obstacle}. Keep the adapter checkpoint.")
    for name, placement in list(placements(model)):
        model.set_submodule(name, placement.merge())
