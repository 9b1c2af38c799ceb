"""The chance level against scikit-learn's classifier that always says the same."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier

from kronlit.data.tasks import GLUE_TASKS, SUPER_GLUE_TASKS, Task
from kronlit.training.chance import chance_level

TARGET = np.array([0, 0, 0, 1, 1, 0, 1, 0])


def constant(score, labels):
    """The best score of any constant answer."""
    rows = np.zeros((len(labels), 1))
    made = (DummyClassifier(strategy="constant", constant=one).fit(rows, labels) for one in np.unique(labels))
    return max(score(labels, one.predict(rows)) for one in made)


def test_it_is_what_the_best_constant_answer_scores():
    mrpc = chance_level(GLUE_TASKS["mrpc"], TARGET)
    accuracy, f1 = constant(sk.accuracy_score, TARGET), constant(sk.f1_score, TARGET)
    assert mrpc["accuracy"] == pytest.approx(accuracy)
    assert mrpc["accuracy"] == stats.mode(TARGET).count / len(TARGET)
    assert mrpc["f1"] == pytest.approx(f1)
    both = constant(lambda t, p: (sk.accuracy_score(t, p) + sk.f1_score(t, p)) / 2, TARGET)
    assert mrpc["score"] == pytest.approx(both)  # of one answer: not the mean of two answers' best


def test_of_three_classes_it_is_the_largest_share():
    labels = [0, 1, 2, 2, 2, 1]
    assert chance_level(GLUE_TASKS["mnli"], labels)["accuracy"] == pytest.approx(0.5)
    cb = chance_level(SUPER_GLUE_TASKS["cb"], labels)
    assert cb["macro_f1"] == pytest.approx(constant(lambda t, p: sk.f1_score(t, p, average="macro"), np.array(labels)))


@pytest.mark.parametrize(("name", "labels"), [("cola", TARGET), ("stsb", [0.0, 2.5, 5.0, 3.8])])
def test_a_correlation_with_a_constant_is_0(name, labels):
    assert set(chance_level(GLUE_TASKS[name], labels).values()) == {0.0}


def test_where_it_is_not_defined_there_is_none():
    assert chance_level(Task("answers", ("text",), (), metrics=("answer_f1",), free_text=True), TARGET) == {}
    assert chance_level(GLUE_TASKS["rte"], []) == {}
    assert chance_level(GLUE_TASKS["rte"], [-1, -1]) == {}
    multirc = chance_level(SUPER_GLUE_TASKS["multirc"], TARGET)  # exact match is of groups of rows
    assert set(multirc) == {"f1a"}
