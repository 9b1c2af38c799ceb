"""The manual prompts of Gao et al., LM-BFF, 2021, arXiv:2012.15723, with the lengths of their code."""

from dataclasses import dataclass, replace
from typing import Any

from kronlit.data.tasks import Task


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


POLARITY = Prompt("*cls**sent_0*_It_was*mask*.*sep+*", {"negative": "terrible", "positive": "great"})
KIND = Prompt("*cls**sent_0*_This_is*mask*.*sep+*", {"subjective": "subjective", "objective": "objective"})
INFERENCE = Prompt("*cls**sent-_0*?*mask*,*+sentl_1**sep+*", {"entailment": "Yes", "not_entailment": "No"})
PARAPHRASE = Prompt("*cls**sent_0**mask*,*+sentl_1**sep+*", {"not_equivalent": "No", "equivalent": "Yes"})

REVIEWS = replace(POLARITY, first_sent_limit=110, other_sent_limit=50, double_demo=True)
MNLI = replace(
    INFERENCE,
    words={"contradiction": "No", "entailment": "Yes", "neutral": "Maybe"},
    max_length=256,
    num_demonstrations=4,
)

PROMPTS = {
    "sst2": POLARITY,
    "sst5": replace(
        REVIEWS,
        words={
            "very negative": "terrible",
            "negative": "bad",
            "neutral": "okay",
            "positive": "good",
            "very positive": "great",
        },
        other_sent_limit=20,
    ),
    "mr": REVIEWS,
    "movie_reviews": REVIEWS,
    "cr": REVIEWS,
    "mpqa": replace(REVIEWS, other_sent_limit=None),
    "subj": replace(KIND, first_sent_limit=110, other_sent_limit=50, double_demo=True),
    "trec": Prompt(
        "*cls**mask*:*+sent_0**sep+*",
        {
            "description": "Description",
            "entity": "Entity",
            "abbreviation": "Expression",
            "human": "Human",
            "location": "Location",
            "number": "Number",
        },
        first_sent_limit=110,
        double_demo=True,
    ),
    "cola": replace(KIND, words={"unacceptable": "incorrect", "acceptable": "correct"}),
    "mnli": MNLI,
    "mnli_mm": MNLI,
    "snli": MNLI,
    "qnli": INFERENCE,
    "rte": replace(INFERENCE, max_length=256, first_sent_limit=240),
    "mrpc": PARAPHRASE,
    "qqp": replace(PARAPHRASE, words={"not_duplicate": "No", "duplicate": "Yes"}, num_demonstrations=4),
    "stsb": replace(PARAPHRASE, words={"low": "No", "high": "Yes"}),
}
"""By the task's name."""


def prompt_of(task: Task, given: dict[str, Any]) -> Prompt:
    """The prompt of a task, with what is given in place of LM-BFF's.

    Raises:
        ValueError: if something is missing, or not of this task.
    """
    if task.free_text:
        job = "TextToText" if "answer_f1" in task.metrics else "CausalLM"
        raise ValueError(f"{task.name!r} has no classes, which a prompt's words stand for: use `{job}`.")
    if task.name not in PROMPTS and not {"template", "words"} <= given.keys():
        raise ValueError(
            f"{task.name!r} has no prompt of LM-BFF's: give `model.template` and `model.label_words`, or take one of "
            f"{', '.join(PROMPTS)}."
        )
    prompt = replace(PROMPTS[task.name], **given) if task.name in PROMPTS else Prompt(**given)
    labels = {"low", "high"} if task.is_regression else set(task.labels)
    if set(prompt.words) != labels:
        raise ValueError(
            f"`model.label_words`={prompt.words!r} must give a word for each of {', '.join(sorted(labels))} "
            "and for nothing else."
            + ("" if all(isinstance(word, str) for word in prompt.words) else " Quote names such as 'No' and 'Yes'.")
        )
    for name in ("first_sent_limit", "other_sent_limit", "num_demonstrations"):
        if (value := getattr(prompt, name)) is not None and value < 1:
            raise ValueError(f"`model.{name}`={value} must be at least 1.")
    return prompt
