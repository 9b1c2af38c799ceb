"""Where the values of a search end, and how they go on there."""

import math
from itertools import pairwise
from typing import Any, Literal

from kronlit.studies.tune import is_number, round_off

EVEN = 1.3
"""The values of a list are log-spaced if none of their ratios is more than so many times another: 1, 3, 10 are."""
NEAR = 0.05
"""A value this near to the end of a range, as a part of its width, lies at its edge."""

End = Literal["low", "high"]


def at_end(value: Any, values: Any) -> End | None:
    """At which end of the values, or of a range, a value lies; `None` inside, and where there is no order.

    Args:
        value: the value.
        values: a list in order, or a range.
    """
    if isinstance(values, dict):
        low, high = values["low"], values["high"]
        if values.get("log", True):
            value, low, high = math.log(value), math.log(low), math.log(high)
        place = (value - low) / (high - low)
        return "low" if place < NEAR else "high" if place > 1 - NEAR else None
    if len(values) < 2 or not all(map(is_number, values)):
        return None
    return "low" if value == values[0] else "high" if value == values[-1] else None


def log_spaced(values: Any) -> bool:
    """Whether values are two or more numbers, in order, at about the same ratio."""
    if not isinstance(values, list) or len(values) < 2 or not all(is_number(value) and value > 0 for value in values):
        return False
    ratios = [high / low for low, high in pairwise(values)]
    return min(ratios) > 1 and max(ratios) / min(ratios) < EVEN


def next_value(given: Any, tried: list[Any], end: End) -> Any | None:
    """The value that continues a list beyond what was tried: 0.1 after 0.003, 0.01, 0.03.

    Args:
        given: the values as they were given, which set the pattern.
        tried: all values that were tried, in order.
        end: the end to continue at.

    Returns:
        The value; `None` if the list is not log-spaced, or no whole number continues one of whole numbers.
    """
    if not log_spaced(given):
        return None
    values = list(given if end == "high" else given[::-1])
    whole = all(isinstance(value, int) for value in values)
    step = 2 if len(values) > 2 else 1  # over two values, 1, 3, 10, 30 goes on with 100 and 300
    while values[-1] <= tried[-1] if end == "high" else values[-1] >= tried[0]:
        value = values[-step] * (values[-1] / values[-1 - step])
        values.append(round(value) if whole and abs(value - round(value)) < 1e-9 else round_off(value))
        if whole and not isinstance(values[-1], int):
            return None
    return values[-1]
