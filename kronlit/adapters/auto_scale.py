"""A scale that is computed from the structure, and kept with what is trained."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kronlit.structured.first_step import scale_like_lora
from kronlit.structured.rows import Rows, count

AUTO_SCALE = "auto_scale"
"""The entry of a state dict, after the placement's name."""


def check_scale(name: str, value: object, *words: str) -> None:
    """Raise `ValueError` if a scale is a word that is none of `words`."""
    if isinstance(value, str) and value not in words:
        raise ValueError(f"`{name}`={value!r} must be a number or {' or '.join(words)}.")


def use_auto_scale(placement: Any, make: Callable[[int, int], nn.Module], in_features: int, out_features: int) -> None:
    """Set the `scale` of a placement to that of `scale_like_lora`.

    Checkpoints hold the number, and one that is loaded counts: the model means the same if a later version computes
    another. It is no buffer, which would be rounded with the model, and which no device without float64 would take.
    """
    placement.scale = scale_like_lora(make, in_features, out_features)
    placement.register_state_dict_post_hook(keep_scale)
    placement.register_load_state_dict_pre_hook(take_scale)


def common_height(out_features: int, slices: Mapping[str, Rows] | None) -> int:
    """The number of rows of each matrix: a placement has one scale, and that of most structures depends on it.

    Raises:
        ValueError: if the slices are not all as high.
    """
    heights = {count(part, out_features) for part in (slices or {"": slice(None)}).values()}
    if len(heights) > 1:
        raise ValueError(
            f"`scale`='auto' is one number for slices of one height, and these have {sorted(heights)} rows: give a "
            "number as `scale`."
        )
    return heights.pop()


def keep_scale(placement: Any, state: dict[str, Any], prefix: str, _: object) -> None:
    """Add the number to what `state_dict` returns."""
    state[prefix + AUTO_SCALE] = torch.tensor(placement.scale, dtype=torch.float64, device="cpu")


def take_scale(
    placement: Any, state: dict[str, Any], prefix: str, _: object, __: object, missing: list[str], *___: object
) -> None:
    """Use the number that is loaded."""
    loaded: Tensor | None = state.pop(prefix + AUTO_SCALE, None)
    if loaded is None:
        missing.append(prefix + AUTO_SCALE)
    elif not loaded.is_meta:
        placement.scale = loaded.item()
