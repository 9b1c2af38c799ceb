"""The tasks of each suite, one entry each with all that is known of it; of a new one the entry is all there is to add.

An entry is found by its name in the `TASKS` of its suite's file. What a model needs to know is in its `task`.
"""

from kronlit.data.tasks import few_shot, generation, glue, super_glue
from kronlit.data.tasks.few_shot import MOVIE_REVIEWS
from kronlit.data.tasks.tags import OUTSIDE, are_span_tags, order_tags
from kronlit.data.tasks.task import Task, option_values

GLUE_TASKS = {name: known.task for name, known in glue.TASKS.items()}
SUPER_GLUE_TASKS = {name: known.task for name, known in super_glue.TASKS.items() if not known.predicted_by}
SUPER_GLUE_DIAGNOSTICS = {name: known.task for name, known in super_glue.TASKS.items() if known.predicted_by}
GENERATION_TASKS = {name: known.task for name, known in generation.TASKS.items()}
FEW_SHOT_TASKS = {name: known.task for name, known in few_shot.TASKS.items()}

__all__ = [
    "FEW_SHOT_TASKS",
    "GENERATION_TASKS",
    "GLUE_TASKS",
    "MOVIE_REVIEWS",
    "OUTSIDE",
    "SUPER_GLUE_DIAGNOSTICS",
    "SUPER_GLUE_TASKS",
    "Task",
    "are_span_tags",
    "option_values",
    "order_tags",
]
