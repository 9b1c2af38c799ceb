"""Rows of one's own as tokens for a causal language model, and which of these are targets."""

from collections.abc import Callable
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from kronlit.modules.chat import Chat

IGNORED = -100
"""The label of a token that is no target."""

TooLong = Literal["truncate", "drop"]


class RowReader:
    """Makes tokens of rows of prompt and completion, of messages, or of text.

    A completion ends with the end token. Prompt and completion are tokenised as one text unless that would change the
    prompt's tokens; then they are tokenised apart, as in generation.

    Args:
        tokenizer: the tokenizer.
        plm: where it is from, for messages.
        form: `prompt`, `messages` or `text`.
        end: the end token.
        max_length: the most tokens of a row.
        prompt_length: the most tokens of a prompt that is answered; of a longer one the last tokens are kept.
        too_long: truncate keeps the first tokens of a longer row, drop leaves it out.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        plm: str,
        form: str,
        end: int,
        max_length: int,
        prompt_length: int,
        too_long: TooLong,
    ) -> None:
        self.tokenizer = tokenizer
        self.form = form
        self.end = end
        self.max_length = max_length
        self.prompt_length = prompt_length
        self.too_long = too_long
        self.chat = Chat(tokenizer, plm) if form == "messages" else None
        self._ends_texts = tokenizer("a")["input_ids"][-1:] == [end]
        self._read: Callable[..., tuple[list[int], list[bool], list[int]]] = {
            "prompt": self._completed,
            "messages": self._answered,
            "text": self._text,
        }[form]

    def prompts(self, rows: dict[str, list[Any]]) -> list[list[int]]:
        """The tokens after which the model is to write."""
        return [self._room(self._prompt(row)) for row in self._rows(rows)]

    def sequences(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """`input_ids`, `labels`, `prompt_ids`, `length`, and as `cut` what became of rows that are too long."""
        columns: dict[str, list[Any]] = {name: [] for name in ("input_ids", "labels", "prompt_ids", "length", "cut")}
        for row in self._rows(rows):
            tokens, is_target, prompt = self._read(row)
            kept = tokens[: self.max_length]
            labels = [t if target else IGNORED for t, target in zip(kept, is_target[: len(kept)], strict=True)]
            labels[:1] = [IGNORED]  # nothing stands before it that it could be told from
            cut = "" if len(kept) == len(tokens) else "dropped" if self.too_long == "drop" else "truncated"
            if not any(label != IGNORED for label in labels):
                cut = "dropped"
            values = (kept, labels, self._room(prompt), len(kept), cut)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        return columns

    def _rows(self, rows: dict[str, list[Any]]) -> list[dict[str, Any]]:
        return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]

    def _room(self, prompt: list[int]) -> list[int]:
        return prompt[-self.prompt_length :]

    def _prompt(self, row: dict[str, Any]) -> list[int]:
        if self.chat is None:
            return self._tokens(row[self.form])
        messages = row["messages"]
        return self.chat.prompt(messages[:-1] if messages[-1]["role"] == "assistant" else messages, row["where"])

    def _completed(self, row: dict[str, Any]) -> tuple[list[int], list[bool], list[int]]:
        prompt, completion = self._tokens(row["prompt"]), row["answers"][0]
        whole = self._tokens(row["prompt"] + completion)
        if whole[: len(prompt)] != prompt:
            whole = prompt + list(self.tokenizer(completion, add_special_tokens=False)["input_ids"])
        whole = self._ended(whole)
        return whole, [number >= len(prompt) for number in range(len(whole))], prompt

    def _answered(self, row: dict[str, Any]) -> tuple[list[int], list[bool], list[int]]:
        assert self.chat is not None
        return *self.chat.conversation(row["messages"], row["where"]), self._prompt(row)

    def _text(self, row: dict[str, Any]) -> tuple[list[int], list[bool], list[int]]:
        prompt = self._tokens(row["text"])
        whole = self._ended(prompt)
        return whole, [True] * len(whole), prompt

    def _tokens(self, text: str) -> list[int]:
        """The tokens of a text with those that the tokenizer puts before it, and without an end."""
        tokens = list(self.tokenizer(text)["input_ids"])
        return tokens[:-1] if self._ends_texts else tokens

    def _ended(self, tokens: list[int]) -> list[int]:
        return tokens if tokens[-1:] == [self.end] else [*tokens, self.end]
