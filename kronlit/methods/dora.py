"""Liu et al., DoRA: weight-decomposed low-rank adaptation, 2024, arXiv:2402.09353."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from kronlit.adapters import Insertion, WeightDecomposed
from kronlit.methods.base import Group, Method
from kronlit.structured import LowRank, StructuredLinear


@dataclass(frozen=True)
class DoRA(Method):
    """Rows of trained length, whose direction a structured matrix changes; it merges away.

    Beside the matrix, one number for each row of a changed weight is trained.

    Args:
        matrix: the structure of the change; the paper has a low-rank one. Any of kronlit.structured by name, such as
            Kronecker, or your own class by its path, `my_file.MyMatrix`, with its arguments beside the widths.
        scale: the fixed factor of the matrix, which is alpha / r for a low-rank one; or auto, with which the first step
            of Adam moves the matrix as far as LoRA with r = 8 and alpha = 16.
        dropout: share of the input that the matrix does not see in training.
        sites: the sites to change.
        trains: what is trained beside them: head, layer_norm, bias.
    """

    matrix: Callable[[int, int], StructuredLinear] = LowRank
    scale: float | Literal["auto"] = 1.0
    dropout: float = field(default=0.0, repr=False)  # a checkpoint means the same with another
    sites: tuple[str, ...] = ("query", "value")
    trains: tuple[Group, ...] = ("head",)

    def insertions(self) -> list[Insertion]:
        change = {"matrix": self.matrix, "scale": self.scale, "dropout": self.dropout}
        return [Insertion(self.sites, partial(WeightDecomposed, **change))]
