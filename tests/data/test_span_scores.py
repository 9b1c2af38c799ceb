"""Spans of tags, and their scores, against published examples and counts by hand."""

import pytest
import torch

from kronlit.data.tasks import Task, are_span_tags, order_tags
from kronlit.metrics.spans import TagMetrics, spans

# The rules of conlleval's start_of_chunk and end_of_chunk (Sang and Buchholz, 2000), a case each.
CASES = [
    ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),  # seqeval's own example of get_entities
    ("I-PER I-PER O I-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),  # IOB1
    ("I-PER B-PER", [("PER", 0, 0), ("PER", 1, 1)]),  # IOB1: a B parts two spans that touch
    ("B-PER I-LOC", [("PER", 0, 0), ("LOC", 1, 1)]),  # the type changes
    ("B-PER I-PER E-PER S-LOC", [("PER", 0, 2), ("LOC", 3, 3)]),  # IOBES
    ("E-PER E-PER I-PER", [("PER", 0, 0), ("PER", 1, 1), ("PER", 2, 2)]),  # an E ends its span
    ("S-PER I-PER", [("PER", 0, 0), ("PER", 1, 1)]),
    ("B I O B", [("_", 0, 1), ("_", 3, 3)]),  # without types
    ("B-a-b I-a-b", [("a-b", 0, 1)]),
    ("O O", []),
]


@pytest.mark.parametrize(("tags", "expected"), CASES, ids=lambda case: str(case)[:30])
def test_spans_are_those_of_conlleval(tags, expected):
    assert list(spans(tags.split())) == expected


def scored(targets, predictions, **options):
    labels = ("O", "B-MISC", "I-MISC", "B-PER", "I-PER")
    metrics = TagMetrics(Task("x", ("tokens",), labels, **options))
    number = {**{label: place for place, label in enumerate(labels)}, "-": -1}
    rows = [[[number[tag] for tag in row.split()] for row in side] for side in (predictions, targets)]
    count = torch.tensor([len(row) for row in rows[1]])
    metrics.update(torch.arange(len(count)), count / 2, count, *rows)
    return {name: value.item() for name, value in metrics.compute().items()}, metrics


ALL = {"metrics": ("span_f1", "span_precision", "span_recall", "accuracy"), "selection": ("span_f1",)}


def test_scores_of_seqevals_readme_are_its_scores():
    # Its README: f1_score 0.50, accuracy_score 0.80, precision and recall 0.50.
    found, _ = scored(
        ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"], ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"], **ALL
    )
    assert found == {
        **{"span_f1": 0.5, "span_precision": 0.5, "span_recall": 0.5, "accuracy": pytest.approx(0.8)},
        **{"score": 0.5, "loss": 0.5},
    }


def test_precision_is_of_what_is_said_and_recall_of_what_is_true():
    found, _ = scored(["B-PER O B-MISC O B-PER O"], ["B-PER O O O O O"], **ALL)
    assert (found["span_precision"], found["span_recall"]) == (1, pytest.approx(1 / 3))
    assert found["span_f1"] == pytest.approx(0.5)


def test_a_token_that_was_not_read_is_wrong_and_in_no_span():
    found, _ = scored(["B-PER O B-PER I-PER"], ["B-PER O - -"], **ALL)
    assert (found["accuracy"], found["span_precision"], found["span_recall"]) == (0.5, 1, 0.5)


def test_a_row_counts_once_and_nothing_to_find_is_zero():
    found, metrics = scored(["O O", "B-PER O"], ["O O", "O O"], metrics=("accuracy", "span_f1"))
    assert found["span_f1"] == 0
    assert found["score"] == pytest.approx(0.375)
    metrics.update(torch.tensor([1]), torch.tensor([1.0]), torch.tensor([2]), [[0, 0]], [[3, 0]])  # padding's repeat
    assert metrics.compute()["accuracy"] == 0.75


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("O", "B-PER", "I-PER"), True),
        (("O", "B", "I"), True),
        (("NOUN", "VERB"), False),
        (("O", "BUY"), False),
        (("B-PER", "I-PER"), False),
        (("O", "B-"), False),
        (("O", "L-PER", "B-PER"), False),  # BILOU, which conlleval does not read
    ],
)
def test_tags_of_spans_are_told_from_others(labels, expected):
    assert are_span_tags(labels) is expected


def test_tags_stand_by_type_after_the_outside():
    assert order_tags({"I-PER", "B-LOC", "O", "B-PER", "I-LOC"}) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert order_tags({"10", "9", "0"}) == ("0", "9", "10")
