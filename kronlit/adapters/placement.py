"""Placements: a frozen host module and what is added to it.

The words are those of He et al., Towards a unified view of parameter-efficient transfer learning, 2022,
arXiv:2110.04366, table 1: here is the insertion form, the functional form is a structured matrix.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kronlit.structured import StructuredLinear


class Placement(nn.Module):
    """A frozen host and what is added to it. The host is wrapped, never changed, until `merge`.

    Args:
        host: the module that is wrapped; it keeps its parameters.
        in_features: width of the host's input.
        out_features: width of the host's output.
    """

    def __init__(self, host: nn.Module, in_features: int, out_features: int) -> None:
        super().__init__()
        self.host = host
        self.in_features = in_features
        self.out_features = out_features

    # Hugging Face code reads these on the modules that are wrapped (T5 looks at `wo.weight.dtype`).
    @property
    def weight(self) -> Tensor:
        return self.host.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        return self.host.bias  # type: ignore[return-value]

    @property
    def obstacle(self) -> str | None:
        """Why mathematics forbids to merge this placement; `None` where it can be merged."""
        return None

    def merge(self) -> nn.Module:
        """Fold what was added into the host and return it; only where there is no `obstacle`."""
        raise NotImplementedError


class Delta(Placement):
    r"""A change of the host's weight, :math:`y = \mathrm{host}(x) + s \, Wx`. It can be merged.

    Args:
        host: an `nn.Linear`.
        in_features: width of the host's input.
        out_features: width of the host's output.
        matrix: makes :math:`W` from `(in_features, out_features)`.
        scale: the fixed factor :math:`s`.
    """

    def __init__(
        self,
        host: nn.Module,
        in_features: int,
        out_features: int,
        matrix: Callable[[int, int], StructuredLinear],
        scale: float = 1.0,
    ) -> None:
        super().__init__(host, in_features, out_features)
        self.matrix = matrix(in_features, out_features)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.host(x), self.matrix(x), alpha=self.scale)

    @torch.no_grad()
    def merge(self) -> nn.Module:
        # In float32 at least, and rounded once: adding in bfloat16 would lose most of a small change.
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        self.weight.copy_(self.weight.to(dtype) + self.scale * self.matrix.to_dense().to(dtype))
        return self.host

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class Bias(Placement):
    """A bias for a host that has none, `y = host(x) + bias`, zero at the start (BitFit on T5)."""

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
    def obstacle(self) -> str | None:
        return f"a bias was added to a {type(self.host).__name__}, and the model's own class has no place for one"
