"""Conversations as tokens, by a tokenizer's chat template, and which of these the assistant says."""

import re
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from kronlit.config.user_error import UserError

Messages = list[dict[str, str]]
"""The turns of a conversation, each with its role and content."""

MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""Where a template says itself what the assistant generates."""


class Chat:
    """Makes tokens of conversations.

    What the assistant says is where the template marks it by `{% generation %}`. Elsewhere it is what a turn adds to
    the prompt for it, so the template must render the turns before it alike with it and without it.

    Args:
        tokenizer: the tokenizer, which has the template.
        plm: where it is from, for messages.

    Raises:
        ValueError: if it has no template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, plm: str) -> None:
        self.tokenizer = tokenizer
        self.plm = plm
        try:
            self.template: str = tokenizer.get_chat_template()
        except ValueError as error:
            raise UserError(
                f"the tokenizer of `model.plm`={plm!r} has no chat template, which rows of messages need: use a model "
                "that was trained on chats, or rows of prompt and completion."
            ) from error

    def prompt(self, messages: Messages, where: str) -> list[int]:
        """The tokens after which the assistant answers."""
        return self._tokens(self._render(messages, where, True))

    def conversation(self, messages: Messages, where: str) -> tuple[list[int], list[bool]]:
        """The tokens of a conversation, and for each whether the assistant says it.

        Args:
            messages: the conversation, which ends with the assistant and does not begin with it.
            where: its place, for messages.

        Raises:
            ValueError: if the template refuses it, or renders earlier turns otherwise when later ones follow.
        """
        if MARKED.search(self.template):
            options = {"return_dict": True, "return_assistant_tokens_mask": True}
            marked = self._apply(messages, where, tokenize=True, **options)
            return list(marked["input_ids"]), [bool(mark) for mark in marked["assistant_masks"]]
        tokens: list[int] = []
        said: list[bool] = []
        text = ""
        for number in (n for n, message in enumerate(messages) if message["role"] == "assistant"):
            before = self._render(messages[:number], where, True)
            after = self._render(messages[: number + 1], where)
            if not (before.startswith(text) and after.startswith(before)):
                raise UserError(
                    f"{where}: the chat template of `model.plm`={self.plm!r} rewrites the turns before the assistant's "
                    f"message {number + 1}, so its tokens cannot be told apart: use a template that marks them by "
                    "{% generation %}, or rows of one answer each."
                )
            tokens = self.extend(tokens, text, before)
            said += [False] * (len(tokens) - len(said))
            tokens = self.extend(tokens, before, after)
            said += self._without_blanks(tokens[len(said) :])
            text = after
        return tokens, said

    def extend(self, tokens: list[int], text: str, longer: str) -> list[int]:
        """The tokens of a longer text that begins with those of the text that it begins with."""
        whole = self._tokens(longer)
        return whole if whole[: len(tokens)] == tokens else tokens + self._tokens(longer[len(text) :])

    def _without_blanks(self, turn: list[int]) -> list[bool]:
        """Which tokens of a turn are targets: all to its end token; not the line's end after that."""
        ends = [number for number, token in enumerate(turn) if token in self._special]
        last = ends[-1] if ends and not self.tokenizer.decode(turn[ends[-1] + 1 :]).strip() else len(turn) - 1
        return [number <= last for number in range(len(turn))]

    @cached_property
    def _special(self) -> set[int]:
        """The tokens that are no text: special ones, and those that were added as such by a chat's markup."""
        return {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}

    @cached_property
    def end(self) -> int | None:
        """The token with which the template ends the assistant's turn, if it does so by one."""
        tokens, said = self.conversation(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}], "an example"
        )
        last = [token for token, mark in zip(tokens, said, strict=True) if mark][-1:]
        return last[0] if last and last[0] in self._special else None

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _render(self, messages: Messages, where: str, prompt: bool = False) -> str:
        return str(self._apply(messages, where, tokenize=False, add_generation_prompt=prompt))

    def _apply(self, messages: Messages, where: str, **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(messages, **options)
        except (TemplateError, TypeError, ValueError) as error:  # raised by the template's own code
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"{where}: the chat template of `model.plm`={self.plm!r} refuses a conversation of the roles {roles}: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
