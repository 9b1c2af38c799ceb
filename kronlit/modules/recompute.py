"""Activations that are computed again in the backward pass: Chen et al., 2016, arXiv:1604.06174."""

import torch
from transformers import PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.modules.random_state import replay_draws


def recompute_activations(model: PreTrainedModel, router: torch.Generator) -> None:
    """Keep the inputs of each layer of `model` alone for the backward pass, and compute the rest again.

    Args:
        model: whose layers do so.
        router: of the mixtures in them, which draw again what they drew.

    Raises:
        ValueError: if Transformers can't do so with models of this class.
    """
    if not model.supports_gradient_checkpointing:
        raise UserError(
            f"`model.gradient_checkpointing`=True: Transformers cannot recompute the activations of a "
            f"{type(model).__name__}; leave it out, and make `data.batch_size` smaller to save memory."
        )
    # Non-reentrant: the inputs of a frozen model need no gradient, what is added inside does.
    model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": replay_draws(router)})
