"""How a task is asked of a masked language model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """How a task is asked of a masked language model.

    Args:
        template: in LM-BFF's syntax, see `kronlit.modules.template`.
        words: the word for each label, or, for a number, for the lower and the upper half of its span. Demonstrations
            come in this order.
        max_length: the most tokens of the whole input.
        first_sent_limit: the most tokens of a row's first sentence.
        other_sent_limit: the most tokens of its second sentence, and of each sentence of a demonstration.
        double_demo: whether `max_length` doubles with demonstrations.
        num_demonstrations: number of sets of demonstrations over which an answer is averaged.
    """

    template: str
    words: dict[str, str]
    max_length: int = 128
    first_sent_limit: int | None = None
    other_sent_limit: int | None = None
    double_demo: bool = False
    num_demonstrations: int = 16
