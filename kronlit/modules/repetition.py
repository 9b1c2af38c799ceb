"""Beam search without repetition in the text that is written: Paulus et al., 2017, arXiv:1705.04304, section 2.5."""

from torch import Tensor
from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor


class NoRepeatInText(LogitsProcessor):
    """Forbids n-grams that a text has already, but none of its prompt, whose names a text is to repeat.

    Args:
        size: the n.
        prompt_length: tokens of the prompt, with what fills it up.
    """

    def __init__(self, size: int, prompt_length: int) -> None:
        self.forbid = NoRepeatNGramLogitsProcessor(size)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.forbid(input_ids[:, self.prompt_length :], scores)
