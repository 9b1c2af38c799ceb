"""Dropout in a batch of several runs' rows: each run's from its own random numbers, as if it were alone."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from kronlit.adapters.joint import Rows


class OwnDropout(TorchFunctionMode):
    """Draws what is dropped for each run by itself: its rows, without the padding that is there for others.

    Args:
        rows: whose rows are whose.
        lengths: for each run, by the length that the batch is padded to, the one that it would be alone.
        drawing: the context in which a run's random numbers are torch's.
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
        """`function` of each run's part of `tensors`, together again."""
        if self.rows.current is not None:
            return self._alone(self.rows.current, function, tensors)
        first, *others = tensors
        assert first is not None
        parts: list[Sequence[Tensor | None]] = [self.rows.split(first)]
        for t in others:  # a mask may serve all rows
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
    """The share that a call of `F.dropout` with these arguments drops."""
    return p if training else 0.0


def without_padding(tensor: Tensor, lengths: dict[int, int]) -> tuple[slice, ...]:
    """The part of a tensor that is no padding for others; its first dimension, the rows, stays."""
    return (slice(None), *(slice(lengths.get(size, size)) for size in tensor.shape[1:]))
