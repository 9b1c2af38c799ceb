"""Beam search without repeated n-grams in the text: Paulus et al., 2017, arXiv:1705.04304, section 2.5."""

from torch import Tensor
from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor


class NoRepeatInText(LogitsProcessor):
    """Forbids n-grams that a text has already. Those of the prompt are allowed: a text must repeat its names.

    Args:
        size: n, the length of the n-grams.
        prompt_length: number of tokens of the prompt, including padding.
    """

    def __init__(self, size: int, prompt_length: int) -> None:
        self.forbid = NoRepeatNGramLogitsProcessor(size)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.forbid(input_ids[:, self.prompt_length :], scores)
