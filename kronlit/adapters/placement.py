"""Placements: a frozen host module and what is added to it.

The words are those of He et al., Towards a unified view of parameter-efficient transfer learning, 2022,
arXiv:2110.04366, table 1: here is the insertion form, the functional form is a structured matrix.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from kronlit.adapters.addition import Addition
from kronlit.adapters.auto_scale import check_scale, use_auto_scale
from kronlit.adapters.calls import Call
from kronlit.adapters.linear import is_linear, matrix_of, merge_blocker, weight_of
from kronlit.structured import StructuredLinear


class Placement(Addition):
    """A frozen host and what is added to it. The host is wrapped, never changed, until `merge`.

    Args:
        host: the module to wrap, which keeps its parameters: a linear module, or a whole block if `takes_blocks`.
        in_features: width of the host's input.
        out_features: width of the host's output.
    """

    takes_blocks = False
    """Whether the host may be something other than a linear module."""
    separable = False
    """Whether it calls the host and what was added each by itself. Of models side by side, all rows then go through the
    host at once, and each model's through its own additions; else each model's rows go through its own placement."""
    site = ""
    """The name of the site that it stands at."""
    below = False
    """Whether it is frozen with its host, for what is trained to stand on (`kronlit.adapters.below`)."""

    def __init__(self, host: nn.Module, in_features: int, out_features: int) -> None:
        super().__init__()
        if not (self.takes_blocks or is_linear(host)):
            raise ValueError(f"{type(self).__name__} goes on linear modules, not on a {type(host).__name__}.")
        self.host = host
        self.in_features = in_features
        self.out_features = out_features

    # Hugging Face code reads these two attributes of a wrapped module (T5 looks at `wo.weight.dtype`).
    @property
    def weight(self) -> Tensor:
        return weight_of(self.host)

    @property
    def bias(self) -> Tensor | None:
        return cast(Tensor | None, self.host.bias)  # as `weight_of` does

    def added(self) -> Iterator[nn.Parameter]:
        own = {id(parameter) for parameter in self.host.parameters()}
        return (parameter for parameter in self.parameters() if id(parameter) not in own)

    @property
    def merge_blocker(self) -> str | None:
        """Why this placement cannot be merged; `None` if it can."""
        return None

    def misfit(self, call: Call) -> str | None:
        """Why the host cannot be wrapped, given how the model calls it; `None` if it can."""
        if self.takes_blocks or takes_rows(call, self.in_features, self.out_features):
            return None
        return (
            f"a {type(self).__name__} goes on a module that maps one tensor, {self.in_features} wide, to another, "
            f"{self.out_features} wide; a {type(self.host).__name__} does not: leave it out of `sites`."
        )

    def merge(self) -> nn.Module:
        """Fold what was added into the host, and return the host. Call it only if `merge_blocker` is `None`."""
        raise NotImplementedError


def takes_rows(call: Call, in_features: int, out_features: int, most: int = 1) -> bool:
    """Whether a call has the form of a linear map.

    It takes one tensor (or up to `most`), the last of them `in_features` wide, and returns one `out_features` wide.
    """
    *_, x, y = (None, *call.args, call.output)
    if call.kwargs or not 1 <= len(call.args) <= most or not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        return False
    return x.shape == (*y.shape[:-1], in_features) and y.shape[-1] == out_features


class SequentialAdapter(Placement):
    r"""An adapter after its host, with a residual connection: :math:`h = \mathrm{host}(x)`, :math:`y = h + f(h)`.

    It can be merged if :math:`f` is a matrix without activation and bias: :math:`y = (I + W) \, \mathrm{host}(x)`.

    Args:
        host: the last linear module of a sublayer, so that dropout, residual and layer norm come after the adapter.
        in_features: width of the host's input.
        out_features: width of the host's output.
        body: makes :math:`f` from `(out_features, out_features)`.
    """

    separable = True

    def __init__(
        self, host: nn.Module, in_features: int, out_features: int, body: Callable[[int, int], nn.Module]
    ) -> None:
        super().__init__(host, in_features, out_features)
        self.body = body(out_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.host(x)
        return h + self.body(h)

    @property
    def merge_blocker(self) -> str | None:
        if isinstance(self.body, StructuredLinear):
            return merge_blocker(self.host)
        return "an adapter behind a module, with an activation inside, is no change of that module's weight"

    @torch.no_grad()
    def merge(self) -> nn.Module:
        assert isinstance(self.body, StructuredLinear)
        matrix = self.body.to_dense()
        for own in (matrix_of(self.host), self.bias):
            if own is not None:  # in float32 at least, and rounded once, as in `Delta`
                value = own.to(torch.promote_types(own.dtype, torch.float32))
                own.copy_(value + matrix.to(value.dtype) @ value)
        return self.host


class ParallelAdapter(Placement):
    r"""An adapter beside its host, :math:`y = \mathrm{host}(x) + s \, f(x)`, or with :math:`+ \, s_{res} \, x`.

    The host is a block that maps `x` to `y`, such as T5's feed-forward network; Bloom's adds the residual stream, too.
    In BERT's family it is the second half of a block, called with the output of the first half and with `x`, which it
    adds. There the adapter's output is added to that `x`, which gives the same sum.

    Args:
        host: the block, or its second half, which has one linear module.
        in_features: width of the block's input.
        out_features: width of the block's output.
        body: makes :math:`f` from `(in_features, out_features)`.
        scale: the fixed factor :math:`s`; or `auto`, as in `Delta`, for a body that can tell its matrix.
        residual_scale: initial value of the learnable scalar :math:`s_{res}`; by default there is no such term.
    """

    takes_blocks = True
    separable = True

    def __init__(
        self,
        host: nn.Module,
        in_features: int,
        out_features: int,
        body: Callable[[int, int], nn.Module],
        scale: float | Literal["auto"] = 1.0,
        residual_scale: float | None = None,
    ) -> None:
        super().__init__(host, in_features, out_features)
        check_scale("scale", scale, "auto")
        self.is_half = sum(map(is_linear, host.modules())) == 1
        self.body = body(in_features, out_features)
        self.scale: Any = scale
        if scale == "auto":
            use_auto_scale(self, body, in_features, out_features)
        self.residual_scale = None if residual_scale is None else nn.Parameter(torch.tensor(float(residual_scale)))

    def misfit(self, call: Call) -> str | None:
        if takes_rows(call, self.in_features, self.out_features, most=2):
            return None
        return (
            f"a {type(self).__name__} goes beside a block that is given one tensor, whose last dimension is the "
            f"model's width, {self.out_features}, and gives another, as a feed-forward network does; a "
            f"{type(self.host).__name__} is none: name a feed-forward network in `sites`."
        )

    def forward(self, x: Tensor, *residual: Tensor) -> Tensor:
        if residual and self.is_half:
            return self.host(x, self._beside(*residual, *residual))
        return self._beside(self.host(x, *residual), x)

    def _beside(self, y: Tensor, x: Tensor) -> Tensor:
        """`y` plus the parallel branch of `x`."""
        y = torch.add(y, self.body(x), alpha=self.scale)
        return y if self.residual_scale is None else y + self.residual_scale.to(x.dtype) * x

    @property
    def merge_blocker(self) -> str | None:
        return "what is parallel to a feed-forward block, which is not linear, is no change of a weight"

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class Bias(Placement):
    """A bias for a host that has none, `y = host(x) + bias`. It starts as zero (BitFit on T5)."""

    takes_blocks = True  # T5's layer norms get one too

    def __init__(self, host: nn.Module, in_features: int, out_features: int) -> None:
        super().__init__(host, in_features, out_features)
        self.added_bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.host(x)
        return y + self.added_bias.to(y.dtype)

    @property
    def bias(self) -> Tensor | None:
        return self.added_bias

    @property
    def merge_blocker(self) -> str | None:
        return f"a bias was added to a {type(self.host).__name__}, and the model's own class has no place for one"
