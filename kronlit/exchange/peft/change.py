"""A change of a weight, as kronlit has it and as a PEFT folder has it, and what a form of PEFT's must say."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kronlit.adapters import Delta, WeightChange
from kronlit.adapters.weight_change import MatrixChange
from kronlit.structured import StructuredLinear


@dataclass(frozen=True)
class Change:
    """What a placement does to a weight, by a structured matrix. A mixture counts as its mean.

    Args:
        matrix: the matrix.
        scale: its factor.
        dropout: of its input.
        transposed: whether the weight is stored as `(in_features, out_features)`.
        placement: the placement, whose `change` says how the matrix changes the weight.
        own: what the placement trains beside the matrix, by name.
    """

    matrix: StructuredLinear
    scale: float
    dropout: float
    transposed: bool
    placement: type[WeightChange] = Delta
    own: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """`(out_features, in_features)` of the matrix."""
        return self.matrix.out_features, self.matrix.in_features


@dataclass(frozen=True)
class PeftChange:
    """A change of one weight that was read from a PEFT folder.

    Args:
        make: makes the matrix from its widths: a class, or a partial of one.
        parts: its parameters by name. Scaling the last one scales the matrix, where it has a scale.
        scale: the fixed factor; `None` for a placement that has none.
        placement: the placement.
        own: what the placement trains beside the matrix, by name.
        dropout: of the matrix's input.
        others: the same change by matrices of other kinds.
    """

    make: Callable[[int, int], StructuredLinear]
    parts: dict[str, Tensor]
    scale: float | None = 1.0
    placement: type[WeightChange] = Delta
    own: Mapping[str, Tensor] = field(default_factory=dict)
    dropout: float = 0.0
    others: tuple["PeftChange", ...] = ()

    @property
    def kind(self) -> type[StructuredLinear]:
        """Class of the matrix."""
        kind: Any = self.make.func if isinstance(self.make, functools.partial) else self.make
        return kind

    @property
    def state(self) -> dict[str, Tensor]:
        """The entries of the placement's state dict."""
        return {f"matrix.{part}": tensor for part, tensor in self.parts.items()} | dict(self.own)

    def inserted(self) -> Callable[..., WeightChange]:
        """Makes the placement of this change in a model."""
        arguments: dict[str, Any] = {"matrix": self.make}
        if issubclass(self.placement, MatrixChange):
            arguments |= {"scale": self.scale, "dropout": self.dropout}
        return functools.partial(self.placement, **arguments)


Written = tuple[dict[str, Any], dict[str, Tensor], str]
"""An adapter's own config entries, its tensors by module and name, and the reason for this form."""


@dataclass(frozen=True)
class PeftForm:
    """A kind of adapter of PEFT's that can be written and read.

    Args:
        kind: PEFT's `peft_type`.
        name: its name in prose.
        tensors: the pattern of its tensors' names: module and part.
        write: makes the form of changes by module; `None` if they are plainly of another kind. It raises `UserError`
            with the reason if they are of its kind and PEFT has no form for exactly the same map.
        read: makes the change of a module of its name, its tensors by part and the config.
    """

    kind: str
    name: str
    tensors: re.Pattern[str]
    write: Callable[[dict[str, Change]], Written | None]
    read: Callable[[str, dict[str, Tensor], dict[str, Any]], PeftChange]


def common_scale(changes: dict[str, Change]) -> float | None:
    """The scale that all changes share; `None` if they differ."""
    scales = {change.scale for change in changes.values()}
    return scales.pop() if len(scales) == 1 else None


def all_are(changes: dict[str, Change], placement: type[WeightChange], *kinds: type[StructuredLinear]) -> bool:
    """Whether all changes are made by this placement, and their matrices are of one of these kinds, if any is given."""
    return all(
        change.placement is placement and (not kinds or type(change.matrix) in kinds) for change in changes.values()
    )


def value_for_module(name: str, pattern: dict[str, float] | None, default: float) -> float:
    """The value of the first pattern that matches the end of a module's name, as in PEFT; else the default."""
    found = (value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", name))
    return next(found, default)
