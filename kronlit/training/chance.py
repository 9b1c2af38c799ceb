"""What can be scored without reading a text: the chance level, which a score has to beat."""

from collections.abc import Sequence

import numpy as np

from kronlit.data.tasks import Task
from kronlit.metrics.rows import ROW_METRICS

CLASSES = 1000
"""Of more different labels no constant answer is searched: they are not classes."""


def chance_level(task: Task, labels: Sequence[float]) -> dict[str, float]:
    """For each metric of a task and its `score`, what the best constant answer gets.

    This is the largest class's share for the accuracy, 0 for a correlation, and for F1 what is had by always saying
    yes. A metric of groups of rows or of free text has no entry; nor has then the score, if that metric is part of it.

    Args:
        task: the task.
        labels: the true labels of the rows.
    """
    target = np.asarray(labels, dtype=float)
    answers = np.unique(target)
    if task.free_text or not len(target) or target.min() < 0 or len(answers) > CLASSES:
        return {}
    names = [name for name in task.metrics if name in ROW_METRICS]
    scores = {name: [float(ROW_METRICS[name](np.full_like(target, one), target)) for one in answers] for name in names}
    selected = task.selection or task.metrics
    if set(selected) <= scores.keys():
        scores["score"] = [float(np.mean(each)) for each in zip(*(scores[name] for name in selected), strict=True)]
    return {name: max(values) for name, values in scores.items()}
