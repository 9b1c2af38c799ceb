"""A scale that is computed from the structure, and kept with what is trained."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kronlit.structured.first_step import scale_like_lora


def use_auto_scale(placement: Any, make: Callable[[int, int], nn.Module], in_features: int, out_features: int) -> None:
    """Set the `scale` of a placement to that of `scale_like_lora`.

    Checkpoints hold the number, and one that is loaded counts: the model means the same if a later version computes
    another.
    """
    placement.scale = scale_like_lora(make, in_features, out_features)
    placement.register_buffer("auto_scale", torch.tensor(placement.scale, dtype=torch.float64))
    placement.register_load_state_dict_post_hook(take_loaded_scale)


def take_loaded_scale(placement: Any, *_: object) -> None:
    """Use the scale that was loaded; on the meta device there is none."""
    if not placement.auto_scale.is_meta:
        placement.scale = placement.auto_scale.item()
