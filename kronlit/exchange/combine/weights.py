"""The weights of a combination: uniform, a number for each adapter, or numbers by layer from a file."""

import math
from collections.abc import Sequence
from pathlib import Path

import yaml

from kronlit.config.user_error import UserError

Weights = list[list[float]]
"""By adapter the weight of each layer."""


def read_weights(given: Sequence[str], adapters: int, layers: int) -> Weights:
    """The weights of `adapters` in a model of so many `layers`.

    Args:
        given: `uniform`; a number for each adapter; or a YAML or JSON file with a list that has, for each adapter, a
            number or a list of one number a layer.
        adapters: number of adapters.
        layers: number of layers; layers of an encoder and a decoder share their weights.

    Raises:
        ValueError: if they are not as many, or no numbers.
    """
    if list(given) == ["uniform"]:
        return [[1 / adapters] * layers] * adapters
    if len(given) == 1 and given[0].endswith((".yaml", ".yml", ".json")):
        return from_file(given[0], adapters, layers)
    if len(given) != adapters:
        raise UserError(
            f"`weights`={' '.join(given)} has {len(given)} {'number' if len(given) == 1 else 'numbers'} for {adapters} "
            "adapters: give one for each, `uniform`, or a .yaml or .json file."
        )
    return [[number(value, "`weights`")] * layers for value in given]


def from_file(path: str, adapters: int, layers: int) -> Weights:
    """The weights in a file."""
    where = f"`weights`={path!r}"
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))  # JSON is YAML too
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{where} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, list) or len(content) != adapters:
        raise UserError(f"{where} must be a list of {adapters}, for each adapter a number or a list of {layers}.")
    found = []
    for one in content:
        if not isinstance(one, list):
            found.append([number(one, where)] * layers)
        elif len(one) == layers:
            found.append([number(value, where) for value in one])
        else:
            raise UserError(f"{where} has a list of {len(one)} numbers, and the model has {layers} layers.")
    return found


def number(value: object, where: str) -> float:
    """`value` as a finite number."""
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):  # no number, or one that no float is as large as
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{where} has {value!r:.40}, which is no finite number.")
    return found


def mean(weights: Weights) -> list[float]:
    """The mean over the layers of each adapter's weights."""
    return [math.fsum(one) / len(one) for one in weights]
