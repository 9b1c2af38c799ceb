"""Checks that a module reads the rows that data has."""

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task

DATA = {"TokenClassification": "TokenFiles", "QuestionAnswering": "QuestionFiles", "MultipleChoice": "ChoiceFiles"}
"""By module that reads only rows of its own, the data module that has them."""


def check_job(module: object, task: Task) -> None:
    """Raise `ValueError` unless `module` reads rows of the `task`."""
    name, kinds = type(module).__name__, [kind.__name__ for kind in type(module).__mro__]
    if task.jobs and not set(task.jobs) & set(kinds):
        raise UserError(f"the rows of {task.name!r} are for `{'` or `'.join(task.jobs)}`, not for `{name}`.")
    for kind, data in DATA.items():
        if kind in kinds and kind not in task.jobs:
            raise UserError(f"`{name}` goes with `--data {data}`: the rows of {task.name!r} are not of its kind.")
