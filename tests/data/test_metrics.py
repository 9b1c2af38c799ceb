"""Every metric against scikit-learn or scipy, however the rows are spread."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from kronlit.data.tasks import GLUE_TASKS, Task
from kronlit.metrics.classification import TaskMetrics
from kronlit.training.scored_rows import ScoredRows

RNG = np.random.default_rng(0)


def both(classes):
    """Predictions that are right two times in three, and targets."""
    target = RNG.integers(classes, size=301)
    return np.where(RNG.random(301) < 0.67, target, RNG.integers(classes, size=301)), target


def computed(task, prediction, target, rows=None, loss=None):
    metrics = TaskMetrics(task)
    rows = np.arange(len(target)) if rows is None else rows
    loss = np.zeros(len(target)) if loss is None else loss
    for part in np.array_split(np.arange(len(target)), 7):
        metrics.update(*(torch.as_tensor(values[part]) for values in (rows, prediction, target, loss)))
    return {name: value.item() for name, value in metrics.compute().items()}


@pytest.mark.parametrize("task", ["sst2", "mnli", "qnli", "rte", "wnli"])
def test_accuracy(task):
    prediction, target = both(GLUE_TASKS[task].num_labels)
    assert computed(GLUE_TASKS[task], prediction, target)["accuracy"] == pytest.approx(
        sk.accuracy_score(target, prediction)
    )


@pytest.mark.parametrize("task", ["mrpc", "qqp"])
def test_f1_is_that_of_class_one(task):
    prediction, target = both(2)
    values = computed(GLUE_TASKS[task], prediction, target)
    assert values["f1"] == pytest.approx(sk.f1_score(target, prediction))
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(target, prediction))
    assert values["score"] == pytest.approx((values["f1"] + values["accuracy"]) / 2)


@pytest.mark.parametrize(("task", "classes"), [("cola", 2), ("ax", 3)])
def test_matthews(task, classes):
    prediction, target = both(classes)
    values = computed(GLUE_TASKS[task], prediction, target)
    assert values["matthews"] == pytest.approx(sk.matthews_corrcoef(target, prediction))


def test_matthews_of_a_constant_prediction_is_zero_as_in_scikit_learn():
    prediction, target = np.ones(301, dtype=int), both(2)[1]
    assert sk.matthews_corrcoef(target, prediction) == 0
    assert computed(GLUE_TASKS["cola"], prediction, target)["matthews"] == 0


def test_pearson_and_spearman():
    target = np.round(RNG.random(301) * 5, 1)  # with ties
    prediction = np.round(target + RNG.normal(size=301), 1)
    values = computed(GLUE_TASKS["stsb"], prediction, target)
    assert values["pearson"] == pytest.approx(stats.pearsonr(prediction, target).statistic, abs=1e-12)
    assert values["spearman"] == pytest.approx(stats.spearmanr(prediction, target).statistic, abs=1e-6)


def test_correlation_of_a_constant_prediction_is_zero():
    values = computed(GLUE_TASKS["stsb"], np.full(9, 2.5), np.arange(9.0))
    assert (values["pearson"], values["spearman"]) == (0, 0)


def test_a_row_without_a_prediction_is_wrong():
    target = np.array([0, 1, 1, 0, 1])
    prediction = np.array([0, 1, -1, -1, 0])
    assert computed(GLUE_TASKS["rte"], prediction, target)["accuracy"] == pytest.approx(2 / 5)
    # Compacter's code: it counts as the opposite of the target
    assert computed(GLUE_TASKS["mrpc"], prediction, target)["f1"] == pytest.approx(sk.f1_score(target, [0, 1, 0, 1, 0]))
    expected = sk.matthews_corrcoef(target, [0, 1, 2, 2, 0])
    assert computed(GLUE_TASKS["cola"], prediction, target)["matthews"] == pytest.approx(expected)


def test_a_row_that_came_twice_counts_once():
    prediction, target = both(2)
    loss = RNG.random(301)
    twice = np.concatenate([np.arange(301), [0, 0, 5, 300]])
    values = computed(GLUE_TASKS["rte"], prediction[twice], target[twice], twice, loss[twice])
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(target, prediction))
    assert values["loss"] == pytest.approx(loss.mean())


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        ("rte", "1", 1),
        ("rte", " 0 ", 0),
        ("rte", "2", -1),
        ("rte", "", -1),
        ("rte", "1 1", -1),
        ("rte", "-1", -1),
        ("mnli", "2", 2),
        ("stsb", "3.8", 3.8),
        ("stsb", "4", 4),
        ("stsb", "nan", -1),
        ("stsb", "inf", -1),
        ("stsb", "good", -1),
    ],
)
def test_what_a_model_wrote_is_parsed_as_the_papers_code_does(task, text, label):
    assert GLUE_TASKS[task].parse(text) == label


@pytest.mark.parametrize(
    ("task", "row", "source"),
    # As seq2seq/data/tasks.py of Compacter's code has them, without the task's name: adapters are trained
    [
        ("mrpc", {"sentence1": "a b", "sentence2": "c"}, "sentence1: a b sentence2: c"),
        ("cola", {"sentence": "a b"}, "sentence: a b"),
        ("qqp", {"question1": "a?", "question2": "b?"}, "question1: a? question2: b?"),
        ("qnli", {"question": "a?", "sentence": "b"}, "question: a? sentence: b"),
        ("mnli", {"premise": "a", "hypothesis": "b"}, "premise: a hypothesis b"),
        ("stsb", {"sentence1": "{a}", "sentence2": "%s"}, "sentence1: {a} sentence2: %s"),
    ],
)
def test_sources_read_as_the_papers_code_has_them(task, row, source):
    assert GLUE_TASKS[task].source_text(row) == source


@pytest.mark.parametrize(("label", "text"), [(3.8, "3.8"), (5.0, "5.0"), (2.666, "2.7"), (0.0, "0.0")])
def test_a_number_is_written_with_one_decimal(label, text):
    # np.round((label * 5) / 5, 1), as the papers' code has it
    assert GLUE_TASKS["stsb"].target_text(label) == text == str(np.round((label * 5) / 5, 1))


def test_a_task_of_ones_own_needs_no_table():
    task = Task("toxic", ("comment",), ("no", "yes"), ("f1",))
    prediction, target = both(2)
    assert computed(task, prediction, target)["score"] == pytest.approx(sk.f1_score(target, prediction))


def test_scored_rows_are_each_there_once_and_in_order():
    metrics = TaskMetrics(GLUE_TASKS["rte"])
    for rows in ([3, 0, 2], [2, 1, 3]):  # two of them seen twice
        rows = torch.tensor(rows)
        metrics.update(rows, rows % 2, rows // 2, rows * 0.5, rows + 10)
    found = {name: values.tolist() for name, values in metrics.scored_rows().items()}
    assert found == {
        "row": [0, 1, 2, 3],
        "prediction": [0, 1, 0, 1],
        "target": [0, 0, 1, 1],
        "loss": [0, 0.5, 1, 1.5],
        "group": [10, 11, 12, 13],
    }
    assert metrics.compute()["accuracy"] == 0.5  # they are still there


def test_scored_rows_are_refused_where_texts_are_scored_together(tmp_path):
    module = SimpleNamespace(test_metrics=None, task=SimpleNamespace(name="e2e"))
    with pytest.raises(ValueError, match=r"`scored_rows`=true: 'e2e' is scored on all its texts together"):
        ScoredRows(tmp_path).setup(None, module, "test")
    ScoredRows(tmp_path).setup(None, SimpleNamespace(test_metrics=TaskMetrics(GLUE_TASKS["rte"])), "test")
