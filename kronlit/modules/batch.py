"""A batch, and what a training pass makes of it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Batch = dict[str, Any]
"""Tensors by name; for free text also `answers`, the correct ones of each row."""

TrainingPass = Callable[[Batch], tuple[Tensor, Tensor | None]]
"""The loss of each prediction, `(predictions,)`, and its log-probabilities, `(predictions, classes)`, if any."""
