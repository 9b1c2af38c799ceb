"""Changes of a weight by a structured matrix, which can be merged into it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.adapters.auto_scale import check_scale, common_height, use_auto_scale
from kronlit.adapters.linear import applied_weight, is_whole, matrix_of, merge_blocker, without_bias
from kronlit.adapters.merged import MergedProduct
from kronlit.adapters.placement import Placement
from kronlit.structured import Mixture, Stacked, StructuredLinear
from kronlit.structured.base import compute_dtype
from kronlit.structured.rows import Rows

Matrix = Callable[[int, int], StructuredLinear]


def is_zero(matrix: StructuredLinear) -> bool:
    """Whether a matrix is zero; not known on the meta device, where nothing has a value."""
    dense = matrix.to_dense()
    return not dense.is_meta and not dense.any()


class WeightChange(Placement, ABC):
    """A placement that changes nothing but its host's weight. It can be merged.

    A subclass says in `change` what is added to the weight, and computes in `forward` what the changed weight gives.

    Args:
        host: a linear module.
        in_features: width of the host's input.
        out_features: width of the host's output.
    """

    @abstractmethod
    def change(self, weight: Tensor) -> Tensor:
        """What is added to the host's weight, given as `(out_features, in_features)`, which may be an older value."""

    @property
    def parts(self) -> dict[str, slice | Tensor]:
        """What indexes the parts of the host's output that are changed, by name; by default the whole."""
        return {self.site: slice(None)}

    @property
    def merge_blocker(self) -> str | None:
        return merge_blocker(self.host)

    @torch.no_grad()
    def merge(self) -> nn.Module:
        # Add in float32 at least and round once: adding in bfloat16 would lose most of a small change.
        weight = matrix_of(self.host)
        whole = weight.to(torch.promote_types(weight.dtype, torch.float32))
        weight.copy_(whole + self.change(whole).to(whole.dtype))
        return self.host


class MatrixChange(WeightChange):
    r"""A change of the host's weight :math:`W_0` by a structured matrix :math:`W` of its shape.

    Args:
        host: a linear module.
        in_features: width of the host's input.
        out_features: width of the host's output.
        matrix: makes :math:`W` from `(in_features, out_features)`.
        scale: the fixed factor :math:`s`; `auto`, the one with which the first step of Adam moves the matrix as far as
            LoRA with r = 8 and alpha = 16; or `trained`, a scalar that starts at 0. :math:`W` must then not start as
            zero.
        dropout: share of the entries of :math:`x` that :math:`W` does not see in training.
        slices: the parts of the host's output that are changed, by name, each by its own matrix. This is for a host
            that computes several projections at once. By default the whole output is changed.
    """

    def __init__(
        self,
        host: nn.Module,
        in_features: int,
        out_features: int,
        matrix: Matrix,
        scale: float | Literal["auto", "trained"] = 1.0,
        dropout: float = 0.0,
        slices: Mapping[str, Rows] | None = None,
    ) -> None:
        super().__init__(host, in_features, out_features)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout`={dropout} must be a share, from 0 to below 1.")
        check_scale("scale", scale, "auto", "trained")
        if slices is None:
            self.matrix = matrix(in_features, out_features)
        else:
            self.matrix = Stacked(in_features, out_features, matrix, slices)
        self.matrix.start_from(lambda: applied_weight(host, torch.float32).detach())
        if scale == "trained" and is_zero(self.matrix):
            raise ValueError(
                "`scale`='trained' starts at 0, and so does the matrix: neither would ever get a gradient. Take a "
                "matrix that starts otherwise (`zero_start: false`), or a number as `scale`."
            )
        self.scale: Any = nn.Parameter(torch.zeros(())) if scale == "trained" else scale
        if scale == "auto" and self.matrix.starts_from_weight:
            raise ValueError(
                "`scale`='auto' reckons with a start without a weight, and this matrix starts from one: give a number."
            )
        if scale == "auto":
            use_auto_scale(self, matrix, in_features, common_height(out_features, slices))
        self.dropout = dropout
        self._plain = type(host) is nn.Linear and is_whole(host.weight)

    @property
    def parts(self) -> dict[str, slice | Tensor]:
        return self.matrix.indices() if isinstance(self.matrix, Stacked) else super().parts

    def beside(self, x: Tensor, bias: bool = True) -> Tensor:
        """:math:`W_0 x + s W x`, with the host's bias if it is asked for, by the fast product of the matrix."""
        host = self.host
        if self._in_one_product(x) and (summand := self.matrix.summand()):
            own = host.bias if bias else None
            merged: Tensor = MergedProduct.apply(x, host.weight, own, self.scale, summand, *summand.generators)
            return merged
        y, seen = host(x) if bias else without_bias(host, x), self._dropped(x)
        if isinstance(self.scale, Tensor):
            return y + self.scale.to(y.dtype) * self.matrix(seen)
        return self.matrix.added_to(y, seen, self.scale)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def _in_one_product(self, x: Tensor) -> bool:
        """Whether to apply host and change as one matrix: only if that is faster and loses no precision."""
        weight = self.host.weight
        return (
            self._plain
            and type(self.host) is nn.Linear  # another adapter may have been put around it since
            and x.dtype == weight.dtype
            and compute_dtype(x) in (torch.float32, torch.float64)
            and not weight.requires_grad
            and not isinstance(self.scale, Tensor)
            and not (self.dropout and self.training)
            and 2 * x.numel() >= self.in_features**2  # for fewer tokens, forming the matrix costs more than it saves
        )

    def extra_repr(self) -> str:
        return f"scale={self.scale}" + (f", dropout={self.dropout}" if self.dropout else "")


class Delta(MatrixChange):
    r"""A change that is added to the host's weight, :math:`y = \mathrm{host}(x) + s \, W \mathrm{drop}(x)`.

    It takes the arguments of `MatrixChange`.
    """

    separable = True

    def forward(self, x: Tensor) -> Tensor:
        return self.beside(x)

    def change(self, weight: Tensor) -> Tensor:
        return self.scale * self.matrix.to_dense()


def refuse_mixture(placement: MatrixChange) -> None:
    """Raise `ValueError` if the matrix draws an expert for each pass: it is read whole here, as the mean of all."""
    if any(isinstance(module, Mixture) for module in placement.matrix.modules()):
        raise ValueError(
            f"a {type(placement).__name__} reads its matrix, and a Mixture draws one in each pass: put it in a Delta."
        )
