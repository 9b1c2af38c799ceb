"""Weighted sums of structured matrices of any kinds, such as those of several adapters."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kronlit.structured.base import StructuredLinear


class WeightedSum(StructuredLinear):
    r"""The sum :math:`W = \sum_i w_i W_i` of structured matrices, each applied by its own fast product.

    The weights are not trained. They are kept in the state dict in float64, whatever the type of the matrices.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        matrices: make each matrix from `(in_features, out_features)`.
        weights: the :math:`w_i`; by default 1 each.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Raises:
        ValueError: if there is no matrix, or the weights are not as many.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        matrices: Sequence[Callable[[int, int], StructuredLinear]],
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(in_features, out_features)
        if not matrices:
            raise ValueError("`matrices`=[] must have one matrix or more.")
        self.weights = [1.0] * len(matrices) if weights is None else [float(weight) for weight in weights]
        if len(self.weights) != len(matrices):
            raise ValueError(f"`weights`={self.weights} must be one number for each of {len(matrices)} matrices.")
        self.matrices = nn.ModuleList(make(in_features, out_features) for make in matrices)

    def terms(self) -> list[tuple[float, StructuredLinear]]:
        """Each matrix with its weight."""
        return list(zip(self.weights, self.matrices, strict=True))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        (weight, first), *others = self.terms()
        y: Tensor = weight * first(x)
        for weight, matrix in others:
            y = matrix.added_to(y, x, weight)
        return y

    def to_dense(self) -> Tensor:
        return torch.stack([weight * matrix.to_dense() for weight, matrix in self.terms()]).sum(0)

    def thin_factors(self) -> tuple[Tensor, Tensor] | None:
        found = [(weight, matrix.thin_factors()) for weight, matrix in self.terms()]
        pairs = [(pair[0], weight * pair[1]) for weight, pair in found if pair is not None]
        if len(pairs) < len(found):
            return None
        return torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs], 1)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.weights, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        if not state.is_meta:
            self.weights = state.tolist()

    def reset_parameters(self) -> None:
        for _, matrix in self.terms():
            matrix.reset_parameters()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weights={self.weights}"
