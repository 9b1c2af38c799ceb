"""Dropout in a batch with rows of several runs: each run draws from its own random numbers, as if it were alone."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from kronlit.adapters.joint import Rows


class OwnDropout(TorchFunctionMode):
    """Draws dropout for each run separately: for its own rows, without the padding that other runs need.

    Args:
        rows: which rows belong to which run.
        lengths: for each run, a map from the padded length of the joint batch to the length of its own batch.
        drawing: a context in which torch draws a run's own random numbers.
    """

    def __init__(
        self,
        rows: Rows,
        lengths: Sequence[dict[int, int]],
        drawing: Callable[[int], AbstractContextManager[None]],
    ) -> None:
        super().__init__()
        self.rows = rows
        self.lengths = lengths
        self.drawing = drawing

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout and dropout_share(*args, **kwargs):
            return self._each(lambda x: F.dropout(x, dropout_share(*args, **kwargs)), [args[0]])
        if func is F.scaled_dot_product_attention and kwargs.get("dropout_p"):
            mask = kwargs.pop("attn_mask", None)
            return self._each(lambda q, k, v, m: func(q, k, v, attn_mask=m, **kwargs), [*args, mask])
        return func(*args, **kwargs)

    def _each(self, function: Callable[..., Tensor], tensors: list[Tensor | None]) -> Tensor:
        """Apply `function` to each run's part of `tensors`, and join the results."""
        if self.rows.current is not None:
            return self._alone(self.rows.current, function, tensors)
        first, *others = tensors
        assert first is not None
        parts: list[Sequence[Tensor | None]] = [self.rows.split(first)]
        for t in others:  # all rows may share a mask
            parts.append(self.rows.split(t) if t is not None and len(t) == len(first) else [t] * len(self.rows.counts))
        return torch.cat([self._alone(i, function, list(part)) for i, part in enumerate(zip(*parts, strict=True))])

    def _alone(self, index: int, function: Callable[..., Tensor], tensors: list[Tensor | None]) -> Tensor:
        lengths = self.lengths[index]
        first = tensors[0]
        assert first is not None
        with self.drawing(index):
            y = function(*(None if t is None else t[without_padding(t, lengths)].contiguous() for t in tensors))
        if y.shape == first.shape:
            return y
        whole = y.new_zeros(first.shape)
        whole[without_padding(first, lengths)] = y
        return whole


def dropout_share(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> float:
    """The dropout rate of a call of `F.dropout` with these arguments."""
    return p if training else 0.0


def without_padding(tensor: Tensor, lengths: dict[int, int]) -> tuple[slice, ...]:
    """The part of a tensor without the padding for other runs. The first dimension, the rows, is kept."""
    return (slice(None), *(slice(lengths.get(size, size)) for size in tensor.shape[1:]))
