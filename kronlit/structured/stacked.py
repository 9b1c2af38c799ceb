"""Structured matrices stacked above each other, for linear modules that compute several projections at once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from kronlit.structured.base import StructuredLinear, compute_dtype
from kronlit.structured.rows import Rows, count, index, row_numbers, write


class Stacked(StructuredLinear):
    r"""Matrices on slices of the rows of :math:`W`, zero on the rows between them: :math:`W = [W_1; 0; W_3]`.

    GPT-2 computes query, key and value in one product. This makes one matrix of a change to query and value only.
    GPT-NeoX does so head by head, so that the rows of each lie interleaved.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        matrix: makes each matrix from `(in_features, rows)`.
        slices: the name of each matrix and its rows, which must not overlap.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        matrix: Callable[[int, int], StructuredLinear],
        slices: Mapping[str, Rows],
    ) -> None:
        super().__init__(in_features, out_features)
        self.slices = dict(slices)
        rows = [row for part in self.slices.values() for row in row_numbers(part, out_features).tolist()]
        if not rows or len(set(rows)) < len(rows):
            raise ValueError(f"`slices`={self.slices} must name rows of {out_features}, each of them once.")
        for name, part in self.slices.items():
            self.add_module(name, matrix(in_features, count(part, out_features)))

    def _parts(self) -> list[tuple[Rows, nn.Module]]:
        return [(part, self.get_submodule(name)) for name, part in self.slices.items()]

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros((*x.shape[:-1], self.out_features), dtype=compute_dtype(x))
        for part, matrix in self._parts():
            write(y, part, matrix(x))
        return y

    def to_dense(self) -> Tensor:
        blocks = [(part, matrix.to_dense()) for part, matrix in self._parts()]  # type: ignore[operator]
        dense = torch.zeros(self.out_features, self.in_features, dtype=blocks[0][1].dtype, device=blocks[0][1].device)
        for part, block in blocks:
            write(dense.mT, part, block.mT)
        return dense

    def indices(self) -> dict[str, slice | Tensor]:
        """What indexes the rows of each matrix: its slice, or their numbers where they are interleaved."""
        return {name: index(part, self.out_features) for name, part in self.slices.items()}

    def thin_factors(self) -> tuple[Tensor, Tensor] | None:
        factors = [matrix.thin_factors() for _, matrix in self._parts()]  # type: ignore[operator]
        if any(pair is None for pair in factors):
            return None
        a = torch.cat([one for one, _ in factors])
        b, start = a.new_zeros(self.out_features, len(a)), 0
        for (part, _), (_, one) in zip(self._parts(), factors, strict=True):
            write(b[:, start : start + one.shape[1]].mT, part, one.mT)
            start += one.shape[1]
        return a, b

    def start_from(self, weight: Callable[[], Tensor]) -> None:
        for part, matrix in self._parts():
            rows = index(part, self.out_features)
            matrix.start_from(lambda rows=rows: weight()[rows])  # type: ignore[operator]

    @property
    def starts_from_weight(self) -> bool:
        return any(matrix.starts_from_weight for _, matrix in self._parts())

    def reset_parameters(self) -> None:
        for _, matrix in self._parts():
            matrix.reset_parameters()  # type: ignore[operator]
