"""Ranks results by the score that selects, and by the loss among equal scores."""

import math
from collections.abc import Mapping


def loss_of(monitor: str) -> str:
    """The name of the loss on the same rows as a score, such as val/loss for val/accuracy."""
    return f"{monitor.rpartition('/')[0]}/loss"


def rank(scores: Mapping[str, float], monitor: str, mode: str) -> tuple[float, float]:
    """A sort key for scores; greater is better.

    Args:
        scores: scores by name. A NaN, or a missing loss, ranks last.
        monitor: the score that counts first.
        mode: `max` or `min`: whether large or small scores are better.
    """
    score = scores[monitor] if mode == "max" else -scores[monitor]
    return worst_if_nan(score), worst_if_nan(-scores.get(loss_of(monitor), math.inf))


def worst_if_nan(value: float) -> float:
    """`value`, or minus infinity if it is NaN."""
    return -math.inf if math.isnan(value) else value
