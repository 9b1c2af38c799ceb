"""Scores at the edges of their definitions, against scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from kronlit.data.tasks import FEW_SHOT_TASKS, GLUE_TASKS, SUPER_GLUE_TASKS
from kronlit.metrics.classification import TaskMetrics
from kronlit.metrics.generation import METRICS as GENERATION
from kronlit.metrics.generation import fewest_edits


def computed(task, prediction, target):
    metrics = TaskMetrics(task)
    columns = (np.arange(len(target)), prediction, target, np.zeros(len(target)))
    metrics.update(*(torch.as_tensor(np.asarray(column)) for column in columns))
    return {name: value.item() for name, value in metrics.compute().items()}


@pytest.mark.parametrize("task", ["cola", "ax"])
@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        ([0, 1, 0, 1, 1], [1, 1, 1, 1, 1]),
        ([1, 1, 1, 1, 0], [0, 0, 0, 0, 0]),
        ([1, 1, 1], [1, 1, 1]),
        ([0, 0, 0], [1, 1, 1]),
        ([1, 1, 1, 1], [0, 1, 1, 0]),
        ([0, 1, 0], [1, 0, 1]),
        ([0, 1], [0, 1]),
    ],
)
def test_matthews_is_scikit_learns_also_where_one_side_is_constant(task, prediction, target):
    expected = sk.matthews_corrcoef(target, prediction)
    assert computed(GLUE_TASKS[task], prediction, target)["matthews"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("prediction", "target"), [([0, 0], [0, 0]), ([0, 0], [0, 1]), ([1, 1], [0, 0]), ([1], [1])])
def test_f1_is_scikit_learns_also_where_there_is_none_of_class_one(prediction, target):
    expected = sk.f1_score(target, prediction, zero_division=0)
    assert computed(GLUE_TASKS["mrpc"], prediction, target)["f1"] == pytest.approx(expected)


def test_correlations_of_small_numbers_are_scipys():
    target = np.round(np.linspace(2.0, 2.4, 9), 2)
    prediction = 2.2 + 1e-3 * np.sin(np.arange(9.0))
    values = computed(GLUE_TASKS["stsb"], prediction, target)
    assert values["pearson"] == pytest.approx(stats.pearsonr(prediction, target).statistic, abs=1e-6)
    assert values["spearman"] == pytest.approx(stats.spearmanr(prediction, target).statistic, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "scores"),
    [
        (GLUE_TASKS["mrpc"], "both"),
        (FEW_SHOT_TASKS["mrpc"], "f1"),
        (FEW_SHOT_TASKS["qqp"], "f1"),
        (GLUE_TASKS["qqp"], "both"),
    ],
)
def test_the_score_is_what_the_protocol_selects_by(task, scores):
    prediction, target = [1, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0]
    f1, accuracy = sk.f1_score(target, prediction), sk.accuracy_score(target, prediction)
    assert f1 != accuracy
    expected = f1 if scores == "f1" else (f1 + accuracy) / 2
    assert computed(task, prediction, target)["score"] == pytest.approx(expected)


def test_an_answer_of_no_class_is_a_class_that_macro_f1_does_not_average():
    target, prediction = [0, 1, 2, 2, 1], [0, -1, 2, 2, 1]
    expected = sk.f1_score(target, prediction, average="macro", labels=[0, 1, 2])
    assert computed(SUPER_GLUE_TASKS["cb"], prediction, target)["macro_f1"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "label"),
    [("-0.5", -0.5), (" 3.25\n", 3.25), ("5", 5), ("0.0", 0), ("1e3", -1), ("3,5", -1), (".5", -1), ("1" * 10, -1)],
)
def test_a_number_is_read_as_it_is_written(text, label):
    assert GLUE_TASKS["stsb"].parse(text) == label


def test_edits_are_counted_up_to_the_reference_that_could_still_be_nearer():
    texts, references = ["a b c d"], [["a b d c", "x y z w", "a b c"]]
    each = [GENERATION["ter"](texts, [[reference]]) for reference in references[0]]
    assert GENERATION["ter"](texts, references) == pytest.approx(min(each))
    for reference, rate in zip(references[0], each, strict=True):
        assert fewest_edits(texts[0], reference) <= rate + 1e-9
