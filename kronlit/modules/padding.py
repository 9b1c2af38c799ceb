"""What fills rows of tokens up to one length, on which side, and what a model is told of it."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kronlit.config.user_error import UserError

TABLES = ("position_embeddings", "embed_positions", "positions_embed", "wpe")
"""Ends of the names of modules that hold an embedding for each position."""


def choose_pad_token(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give a tokenizer that has no pad token its end token as one, and say whether it had none.

    Where it puts its end token after every text, another of its special tokens serves: Transformers' classifiers take
    all pad tokens at the end of a row for padding.

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
    """Have the config of `model` name the pad token, if it names none or a head finds the end of a row by it."""
    config = model.config
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    for part in filter(None, parts):
        if getattr(part, "pad_token_id", None) is None or hasattr(model, "score"):
            part.pad_token_id = pad_token_id


def padding_side(tokenizer: PreTrainedTokenizerBase) -> str:
    """`left` or `right`: what the tokenizer says, unless a row begins or ends with the token that stands for it.

    A model that reads such a token, as BERT does the first and XLNet the last, would read padding in its place.
    """
    ids, token = tokenizer("")["input_ids"], tokenizer.cls_token_id
    if token not in ids:
        return str(tokenizer.padding_side)
    # XLM's tokenizers call the separator so, too, and its models read the first token.
    return "left" if ids[-1] == token != ids[0] and token != tokenizer.sep_token_id else "right"


def pad_rows(rows: Sequence[Sequence[Any]], fill: int, side: str) -> Tensor:
    """Rows of numbers as one tensor, `(n, longest)`."""
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=side)


def counts_from_zero(model: PreTrainedModel) -> bool:
    """Whether `model` takes the positions of tokens, from 0; RoBERTa's family makes its own of the tokens."""
    own = any(
        isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx is not None
        for name, module in model.named_modules()
    )
    return not own and "position_ids" in inspect.signature(model.forward).parameters


def num_positions(model: PreTrainedModel) -> int | None:
    """Tokens that `model` has positions for; `None` where it has no table of them, and a row may have any length."""
    tables = [
        module.num_embeddings - getattr(module, "offset", 0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.endswith(TABLES)
    ]
    return min(tables, default=None)


def positions_from_zero(attention_mask: Tensor) -> Tensor:
    """The number of each token within its row, whatever stands before it."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def last_tokens(attention_mask: Tensor) -> Tensor:
    """Where the last token of each row is, `(n,)`."""
    return (attention_mask * torch.arange(attention_mask.shape[-1], device=attention_mask.device)).argmax(-1)


def shift_right(input_ids: Tensor, attention_mask: Tensor, start: int) -> Tensor:
    """Tokens one place later, with `start` beside the first of each row, not beside what fills it up on the left."""
    first = (attention_mask.cumsum(-1) == 1) & attention_mask.bool()
    return input_ids.roll(1, -1).masked_fill(first, start)
