"""Loads a causal language model."""

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.modules.plm import load_model


def load_decoder(
    plm: str, frozen_dtype: torch.dtype, max_length: int, dropout: float | None, attn_implementation: str | None
) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """Load the causal language model of `plm`; also returns its newly initialised parameters (see `load_model`).

    Args:
        plm: hub id or local folder.
        frozen_dtype: what the frozen weights will be stored in.
        max_length: the most tokens of a row.
        dropout: its dropout rate; `None` leaves it.
        attn_implementation: what computes attention; `None` leaves that to Transformers.

    Raises:
        ValueError: if it is no decoder, or has fewer positions.
    """
    given = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    model, fresh = load_model(AutoModelForCausalLM, plm, frozen_dtype, **given)
    if getattr(model.config, "is_decoder", True) is False and not getattr(model.config, "causal", False):
        raise UserError(
            f"`model.plm`={plm!r} is no decoder: a {model.config.model_type} reads the tokens that it is to write. Use "
            "a causal language model, such as Llama or GPT-2; or another job, such as `SequenceClassification`."
        )
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise UserError(f"`model.max_length`={max_length} exceeds the {positions} positions of {plm!r}.")
    for module in model.modules():
        if dropout is not None and isinstance(module, nn.Dropout):
            module.p = dropout
    return model, fresh
