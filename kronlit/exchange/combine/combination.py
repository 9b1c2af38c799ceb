"""A model with the weighted sum of several adapters in it, whose weights can be set again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters import Placement
from kronlit.adapters.inject import replace
from kronlit.adapters.sites import layer_of
from kronlit.config.user_error import UserError
from kronlit.exchange.combine.member import Member
from kronlit.exchange.combine.weights import Weights, mean
from kronlit.methods.base import group
from kronlit.methods.combined import summed
from kronlit.structured import WeightedSum


@dataclass
class Combination:
    r"""Several adapters in one model, :math:`\Delta W = \sum_i w_i \Delta W_i`.

    What they have trained of the pre-trained model moves alike, :math:`\theta_0 + \sum_i w_i (\theta_i - \theta_0)`. A
    new head, and whatever else the pre-trained files lack, has no :math:`\theta_0`: it is the mean of theirs, weighted
    by :math:`|w_i|`.

    Args:
        model: the plain model, in which they are put.
        members: the adapters.
        fresh: the parameters that the pre-trained files lack, such as a pooler.
        placed: by module what was put beside it.
        start: the model's own parameters, among those that were trained.
        head: names of the parameters of a new head, and of those that are fresh.
    """

    model: PreTrainedModel
    members: list[Member]
    fresh: Sequence[nn.Parameter] = ()
    placed: dict[str, Placement] = field(default_factory=dict)
    start: dict[str, Tensor] = field(default_factory=dict)
    head: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names = {name for member in self.members for name in member.own}
        new = {id(p) for p in group(self.model, "head")} if self.model.get_output_embeddings() is None else set()
        drawn = {id(p) for p in self.fresh}
        own = {name: p for name, p in self.model.named_parameters() if name in names or id(p) in drawn}
        self.head = frozenset(name for name, p in own.items() if id(p) in new | drawn)
        for member in self.members:
            if missing := sorted(self.head - member.own.keys()):
                why = "others have one" if missing[0] in names else "neither do the files of its model"
                raise UserError(f"`adapters` has {member.file.source!r}, which has no {missing[0]}, and {why}.")
        self.start = {name: p.detach().clone() for name, p in own.items()}
        for parameter in own.values():
            parameter.requires_grad_(True)
        self._own = own

    @property
    def modules(self) -> list[str]:
        """The names of the modules that are changed."""
        return list(dict.fromkeys(name for member in self.members for name in member.deltas))

    @property
    def layers(self) -> int:
        """The number of layers, as far as they are changed or could be."""
        return 1 + max(layer_of(name) for name, _ in self.model.named_modules())

    def place(self, deltas: Mapping[str, Placement]) -> None:
        """Put a change beside each module."""
        self.placed = dict(deltas)
        replace(self.model, {id(delta.host): delta for delta in deltas.values()})

    def place_sums(self) -> None:
        """Put the sum of all adapters beside each module."""
        each = {name: [m.deltas[name] for m in self.members if name in m.deltas] for name in self.modules}
        self.place({name: summed(deltas).eval() for name, deltas in each.items()})

    def set_weights(self, weights: Weights) -> None:
        """Set the weights of the sums, and with them what was trained of the model itself."""
        for name, delta in self.placed.items():
            layer = layer_of(name)
            pairs = zip(self.members, weights, strict=True)
            assert isinstance(delta.matrix, WeightedSum)
            delta.matrix.weights = [
                each[layer] * float(member.deltas[name].scale) for member, each in pairs if name in member.deltas
            ]
        self.set_own(weights)

    @torch.no_grad()
    def set_own(self, weights: Weights) -> None:
        """Set what was trained of the model itself."""
        means = mean(weights)
        sizes = [abs(weight) for weight in means]
        shares = [size / sum(sizes) if any(sizes) else 1 / len(sizes) for size in sizes]
        for name, parameter in self._own.items():
            if name in self.head:
                parameter.copy_(sum(share * m.own[name] for share, m in zip(shares, self.members, strict=True)))
                continue
            start = self.start[name]
            in_layer = re.search(r"\.\d+\.", name) is not None
            own = [each[layer_of(name)] for each in weights] if in_layer else means
            moves = [w * (m.own[name] - start) for w, m in zip(own, self.members, strict=True) if name in m.own]
            parameter.copy_(start + sum(moves))
