"""Which of several results is best: by the score that selects, and of equal ones by the loss."""

import math
from collections.abc import Mapping


def loss_of(monitor: str) -> str:
    """The name of the loss over the rows that a score is of: val/loss of val/accuracy."""
    return f"{monitor.rpartition('/')[0]}/loss"


def rank(scores: Mapping[str, float], monitor: str, mode: str) -> tuple[float, float]:
    """How good scores are; greater is better.

    Args:
        scores: by name. One that is no number, or a loss that is not there, is the worst there is.
        monitor: the score that counts first.
        mode: whether it is to be `max` or `min`.
    """
    score = scores[monitor] if mode == "max" else -scores[monitor]
    return worst_if_nan(score), worst_if_nan(-scores.get(loss_of(monitor), math.inf))


def worst_if_nan(value: float) -> float:
    """`value`, or where it is no number, less than every one."""
    return -math.inf if math.isnan(value) else value
