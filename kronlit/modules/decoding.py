"""How a causal language model writes: greedily or by beam search, from tokens that it keeps the states of."""

from dataclasses import dataclass

from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.modules.repetition import NoRepeatInText


@dataclass(frozen=True)
class Decoding:
    """Settings of a search, as `CausalLM` names them.

    Args:
        num_beams: number of beams; 1 is greedy.
        length_penalty: a beam's log-probability is divided by its length to this power.
        no_repeat_ngram_size: no n-gram of this many tokens may occur twice in a text; 0 allows all.
        max_new_tokens: the most tokens of a text.
    """

    num_beams: int
    length_penalty: float
    no_repeat_ngram_size: int
    max_new_tokens: int

    def check(self, max_length: int) -> None:
        """Raise `ValueError` unless the settings are valid for rows of `max_length` tokens."""
        for name, least in (("num_beams", 1), ("no_repeat_ngram_size", 0)):
            if (number := getattr(self, name)) < least:
                raise UserError(f"`model.{name}`={number} must be at least {least}.")
        if not 1 <= self.max_new_tokens < max_length:
            raise UserError(
                f"`model.max_new_tokens`={self.max_new_tokens} must lie between 1 and `model.max_length`={max_length}, "
                "which has room for the prompt too."
            )

    def write(self, model: PreTrainedModel, prompts: Tensor, mask: Tensor, ends: list[int], pad: int) -> Tensor:
        """The tokens after some prompts.

        Args:
            model: the language model.
            prompts: their tokens, `(n, tokens)`, padded on the left.
            mask: which of these are no padding, `(n, tokens)`.
            ends: the tokens that end a text.
            pad: the token after such an end.

        Returns:
            The texts' tokens, `(n, most)`.
        """
        processors = LogitsProcessorList()
        if self.no_repeat_ngram_size:
            processors.append(NoRepeatInText(self.no_repeat_ngram_size, prompts.shape[1]))
        tokens: Tensor = model.generate(
            input_ids=prompts,
            attention_mask=mask,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            length_penalty=self.length_penalty,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=pad,
            logits_processor=processors,
        )
        return tokens[:, prompts.shape[1] :]


def decoding(
    own: bool,
    max_length: int,
    num_beams: int | None,
    length_penalty: float | None,
    no_repeat_ngram_size: int | None,
    max_new_tokens: int | None,
) -> Decoding:
    """The settings that are given; of the others, for rows of one's `own` a greedy search's, or else LoRA's code's."""
    start = Decoding(1, 1.0, 0, max(1, min(256, max_length // 2))) if own else Decoding(10, 0.8, 4, 64)
    found = Decoding(
        start.num_beams if num_beams is None else num_beams,
        start.length_penalty if length_penalty is None else length_penalty,
        start.no_repeat_ngram_size if no_repeat_ngram_size is None else no_repeat_ngram_size,
        start.max_new_tokens if max_new_tokens is None else max_new_tokens,
    )
    found.check(max_length)
    return found
