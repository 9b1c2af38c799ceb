"""How a task is asked of a masked language model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """How a task is asked of a masked language model.

    Args:
        template: in LM-BFF's syntax, see `kronlit.modules.template`.
        words: the word that stands for each label, or of a number for its lower and its upper half; demonstrations
            come in this order.
        max_length: tokens that are kept.
        first_sent_limit: tokens of a row's first sentence that are kept.
        other_sent_limit: tokens of its second sentence, and of each sentence of a demonstration, that are kept.
        double_demo: whether `max_length` is twice as much with demonstrations.
        num_demonstrations: sets of demonstrations over which an answer is averaged.
    """

    template: str
    words: dict[str, str]
    max_length: int = 128
    first_sent_limit: int | None = None
    other_sent_limit: int | None = None
    double_demo: bool = False
    num_demonstrations: int = 16
