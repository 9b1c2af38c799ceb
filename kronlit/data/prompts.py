"""The prompt of a task: Gao et al., LM-BFF, 2021, arXiv:2012.15723, or what is given in its place."""

from dataclasses import replace
from typing import Any

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task, few_shot
from kronlit.data.tasks.prompt import Prompt


def prompt_of(task: Task, given: dict[str, Any]) -> Prompt:
    """The prompt of a task. Values in `given` replace those of LM-BFF.

    Raises:
        ValueError: if something is missing or does not suit the task.
    """
    if task.free_text:
        job = "TextToText" if "answer_f1" in task.metrics else "CausalLM"
        raise UserError(f"{task.name!r} has no classes, which a prompt's words stand for: use `{job}`.")
    known = few_shot.TASKS.get(task.name)
    if known is None and not {"template", "words"} <= given.keys():
        raise UserError(
            f"{task.name!r} has no prompt of LM-BFF's: give `model.template` and `model.label_words`, or take one of "
            f"{', '.join(few_shot.TASKS)}."
        )
    prompt = Prompt(**given) if known is None else replace(known.prompt, **given)
    labels = {"low", "high"} if task.is_regression else set(task.labels)
    if set(prompt.words) != labels:
        raise UserError(
            f"`model.label_words`={prompt.words!r} must give a word for each of {', '.join(sorted(labels))} "
            "and for nothing else."
            + ("" if all(isinstance(word, str) for word in prompt.words) else " Quote names such as 'No' and 'Yes'.")
        )
    for name in ("first_sent_limit", "other_sent_limit", "num_demonstrations"):
        if (value := getattr(prompt, name)) is not None and value < 1:
            raise UserError(f"`model.{name}`={value} must be at least 1.")
    return prompt
