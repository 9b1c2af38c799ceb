"""Metrics of rows one by one, in NumPy and over the last axis: of a run, or of many resampled predictions at once.

Neither torch nor scipy is imported: a report needs no torch, and a run no scipy.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Metric = Callable[[Array, Array], Array]
"""Computes scores `(...)` from predictions and targets, both `(..., rows)`."""


def accuracy(prediction: Array, target: Array) -> Array:
    """The share of correct rows."""
    return np.mean(prediction == target, axis=-1)


def f1(prediction: Array, target: Array) -> Array:
    """F1 of class 1; a prediction of -1 counts as the opposite of its target (Compacter's code)."""
    prediction = np.where(prediction < 0, 1 - target, prediction)
    right = np.sum((prediction == 1) & (target == 1), axis=-1)
    total = np.sum(prediction == 1, axis=-1) + np.sum(target == 1, axis=-1)
    return ratio(2 * right, total)


def macro_f1(prediction: Array, target: Array, labels: Sequence[int] | None = None) -> Array:
    """Mean of the F1 of `labels`, by default the classes that targets have."""
    classes = np.unique(target) if labels is None else labels
    return np.mean([f1(prediction == label, target == label) for label in classes], axis=0)


def matthews(prediction: Array, target: Array) -> Array:
    """Matthews' correlation coefficient, 0 if undefined. A prediction of -1 counts as a separate class."""
    classes = np.arange(-1, max(prediction.max(), target.max()) + 1)
    shares = [(np.mean(prediction == label, axis=-1), np.mean(target == label, axis=-1)) for label in classes]
    covariance = accuracy(prediction, target) - sum(ours * theirs for ours, theirs in shares)
    scale = np.sqrt((1 - sum(ours**2 for ours, _ in shares)) * (1 - sum(theirs**2 for _, theirs in shares)))
    return ratio(covariance, scale)


def pearson(prediction: Array, target: Array) -> Array:
    """Pearson's correlation, 0 if undefined."""
    ours = prediction - prediction.mean(axis=-1, keepdims=True)
    theirs = target - target.mean(axis=-1, keepdims=True)
    scale = np.sqrt(np.sum(ours**2, axis=-1) * np.sum(theirs**2, axis=-1))
    return ratio(np.sum(ours * theirs, axis=-1), scale)


def spearman(prediction: Array, target: Array) -> Array:
    """Spearman's rank correlation, 0 if undefined."""
    return pearson(ranks(prediction), ranks(target))


def ranks(values: Array) -> Array:
    """The place of each value among all, from 0; of equal ones the mean of theirs."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    changes = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*values.shape[:-1], 1), dtype=bool)
    place = np.arange(values.shape[-1])
    first = np.maximum.accumulate(np.where(np.concatenate([edge, changes], axis=-1), place, 0), axis=-1)
    last = np.where(np.concatenate([changes, edge], axis=-1), place, place[-1])
    last = np.minimum.accumulate(last[..., ::-1], axis=-1)[..., ::-1]
    found = np.empty(values.shape)
    np.put_along_axis(found, order, (first + last) / 2, axis=-1)
    return found


def mean_mark(prediction: Array, target: Array) -> Array:
    """The mean of the rows' own marks; there is no target."""
    return np.mean(prediction, axis=-1)


def ratio(above: Array, below: Array) -> Array:
    """The quotient, 0 if undefined."""
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 1e-12)


# Metrics of groups of rows (MultiRC's exact match) are not here: for these, groups would have to be resampled.
ROW_METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "f1a": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "answer_f1": mean_mark,
    "answer_exact_match": mean_mark,
}
