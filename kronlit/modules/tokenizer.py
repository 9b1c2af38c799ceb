"""Checks that a tokenizer suits its model before any row is read, and identifies it for caches."""

import copy
import hashlib
from typing import Any

from transformers import PreTrainedTokenizerBase

from kronlit.config.user_error import UserError

IN_ROWS = ("bos_token_id", "eos_token_id", "unk_token_id", "sep_token_id", "pad_token_id", "cls_token_id")


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: Any, plm: str) -> None:
    """Raise `ValueError` if the tokenizer knows no word, or has tokens that the model has no embedding for.

    Special tokens that no row contains may be beyond the embeddings, as in some released models.
    """
    vocabulary = tokenizer.get_vocab()
    markup = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    if not any(letter.isalnum() for token, number in vocabulary.items() if number not in markup for letter in token):
        raise UserError(
            f"`model.plm`={plm!r} has no tokenizer that knows a word: all texts would read alike. Save the model's own "
            "tokenizer beside it (tokenizer.save_pretrained)."
        )
    unused = markup - {getattr(tokenizer, name) for name in IN_ROWS}
    tokens = 1 + max(number for number in vocabulary.values() if number not in unused)
    embeddings = getattr(config.get_text_config(), "vocab_size", None)
    if embeddings is not None and tokens > embeddings:
        raise UserError(
            f"`model.plm`={plm!r}: its tokenizer has {tokens} tokens, and by its config.json the model embeds "
            f"{embeddings}: take both from one model, or give the model embeddings for the others "
            "(model.resize_token_embeddings) and save it again."
        )


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identifies the tokenizer: it changes if the same text would give other tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # one in Python alone, such as ByT5's
        settings = {name: value for name, value in tokenizer.init_kwargs.items() if name != "name_or_path"}
        said = (type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), sorted(settings.items()))
        return hashlib.sha256(repr(said).encode()).hexdigest()
    # A copy without what earlier calls left in it: truncation is a state of the tokenizer.
    backend = copy.deepcopy(backend)
    backend.no_truncation()
    backend.no_padding()
    return hashlib.sha256(backend.to_str().encode()).hexdigest()
