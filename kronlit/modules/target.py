"""Texts as a sequence-to-sequence model writes them: their tokens, what comes before these, and the languages."""

from transformers import PreTrainedTokenizerBase

from kronlit.config.user_error import UserError


def target_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], start: int | None, max_length: int | None = None
) -> list[list[int]]:
    """The tokens of texts that are to be written, each with an end.

    A tokenizer as of Gemma puts no end token after a text, and before it the token that a decoder starts with anyway;
    BART's puts other ones around it, which are written too.

    Args:
        tokenizer: the model's tokenizer.
        texts: the texts.
        start: the token that the decoder starts with, if its config says it.
        max_length: the most tokens of a text; longer ones are cut, before their end.
    """
    end = tokenizer.eos_token_id
    cut = {} if max_length is None else {"truncation": True, "max_length": max_length}
    rows = []
    for ids in tokenizer(text_target=texts, **cut)["input_ids"]:
        row = ids[1:] if ids and ids[0] == start else ids
        ended = end is None or end in row[-2:]  # mBART's ends with a language after the end token
        rows.append(row if ended else [*row, end])
    return rows


def opening(empty: list[int], text: list[int]) -> int:
    """How many tokens come before every text, such as BART's first token or a language.

    Args:
        empty: the tokens of no text.
        text: those of any text.
    """
    differ = (place for place, (one, other) in enumerate(zip(empty, text, strict=False)) if one != other)
    return next(differ, len(empty))


def set_languages(tokenizer: PreTrainedTokenizerBase, languages: tuple[str, str] | None, plm: str) -> None:
    """Tell the tokenizer of a multilingual translator, such as mBART's, what it reads and writes.

    Raises:
        ValueError: if it needs to know and is not told, or has no such languages.
    """
    many = hasattr(tokenizer, "src_lang")
    if languages is None and many:
        raise UserError(
            f"`model.languages` is missing: `model.plm`={plm!r} has many, and its tokenizer must know what it reads "
            "and what it writes, such as [en_XX, ro_RO] for mBART."
        )
    if languages is None:
        return
    if not many:
        raise UserError(f"`model.languages`={list(languages)}: the tokenizer of `model.plm`={plm!r} has none.")
    known = set(getattr(tokenizer, "lang_code_to_token", ())) | set(tokenizer.all_special_tokens)
    known |= set(getattr(tokenizer, "lang_code_to_id", ()))
    for language in languages:
        if language not in known:
            some = ", ".join(sorted(one for one in known if one[:1] not in "<[_"))
            raise UserError(f"`model.languages`: `model.plm`={plm!r} has no {language!r}; it has {some[:200]}.")
    tokenizer.src_lang, tokenizer.tgt_lang = languages
