"""Gradient checkpointing, which recomputes activations in the backward pass: Chen et al., 2016, arXiv:1604.06174."""

import torch
from transformers import PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.modules.random_state import replay_draws


def recompute_activations(model: PreTrainedModel, router: torch.Generator) -> None:
    """Keep only the input of each layer of `model` for the backward pass, and recompute the rest.

    Args:
        model: the model.
        router: the generator of its mixtures, which must draw the same experts again.

    Raises:
        ValueError: if Transformers cannot do so for models of this class.
    """
    if not model.supports_gradient_checkpointing:
        raise UserError(
            f"`model.gradient_checkpointing`=True: Transformers cannot recompute the activations of a "
            f"{type(model).__name__}; leave it out, and make `data.batch_size` smaller to save memory."
        )
    # Non-reentrant, because the reentrant kind needs inputs with gradients, and those of a frozen model have none.
    model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": replay_draws(router)})
