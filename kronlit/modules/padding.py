"""Padding of rows of tokens: the token, the side, the positions, and what the model's config says of it."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kronlit.config.user_error import UserError

TABLES = ("position_embeddings", "embed_positions", "positions_embed", "wpe")
"""Name endings of modules that hold an embedding for each position."""


def choose_pad_token(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Let a tokenizer without a pad token use its end token; returns whether that was needed.

    If the tokenizer puts its end token after every text, another special token is used, because Transformers'
    classifiers take all pad tokens at the end of a row for padding.

    Raises:
        ValueError: if it has no special token at all.
    """
    if tokenizer.pad_token_id is not None:
        return False
    ends = tokenizer("")["input_ids"][-1:]
    special = [token for token in (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token) if token is not None]
    if not special:
        raise UserError(
            f"the tokenizer of `model.plm`={tokenizer.name_or_path!r} has neither a pad token nor an end token: name "
            'one of its tokens as "pad_token" in its tokenizer_config.json.'
        )
    free = [token for token in special if tokenizer.convert_tokens_to_ids(token) not in ends]
    tokenizer.pad_token = (free or special)[0]
    return True


def tell_pad_token(model: PreTrainedModel, pad_token_id: int) -> None:
    """Set the pad token in the config of `model`, if it has none or a head finds the end of a row by it."""
    config = model.config
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    for part in filter(None, parts):
        if getattr(part, "pad_token_id", None) is None or hasattr(model, "score"):
            part.pad_token_id = pad_token_id


def padding_side(tokenizer: PreTrainedTokenizerBase) -> str:
    """The side of the padding, `left` or `right`: the tokenizer's, unless the classification token is at that end.

    A model that classifies by that token (BERT by the first, XLNet by the last) would read padding instead.
    """
    ids, token = tokenizer("")["input_ids"], tokenizer.cls_token_id
    if token not in ids:
        return str(tokenizer.padding_side)
    # XLM's tokenizers use the separator as this token too, but its models read the first token.
    return "left" if ids[-1] == token != ids[0] and token != tokenizer.sep_token_id else "right"


def pad_rows(rows: Sequence[Sequence[Any]], fill: int, side: str) -> Tensor:
    """Pad rows of numbers to one tensor, `(n, longest)`."""
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=side)


def counts_from_zero(model: PreTrainedModel) -> bool:
    """Whether `model` takes `position_ids` counted from 0. RoBERTa's family computes its own from the tokens."""
    own = any(
        isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx is not None
        for name, module in model.named_modules()
    )
    return not own and "position_ids" in inspect.signature(model.forward).parameters


def num_positions(model: PreTrainedModel) -> int | None:
    """The number of positions of `model`; `None` if it has no table of them, so that rows may have any length."""
    tables = [
        module.num_embeddings - getattr(module, "offset", 0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.endswith(TABLES)
    ]
    return min(tables, default=None)


def positions_from_zero(attention_mask: Tensor) -> Tensor:
    """The position of each token within its row, not counting padding before it."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def last_tokens(attention_mask: Tensor) -> Tensor:
    """The index of the last token of each row, `(n,)`."""
    return (attention_mask * torch.arange(attention_mask.shape[-1], device=attention_mask.device)).argmax(-1)


def shift_right(input_ids: Tensor, attention_mask: Tensor, start: int) -> Tensor:
    """Move tokens one place to the right, and put `start` at the first token of each row, after padding on the left."""
    first = (attention_mask.cumsum(-1) == 1) & attention_mask.bool()
    return input_ids.roll(1, -1).masked_fill(first, start)
