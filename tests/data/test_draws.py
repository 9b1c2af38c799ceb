"""What is drawn by class and by row: few-shot splits by hand, and demonstrations."""

import numpy as np
import pytest
from datasets import Dataset

from kronlit.data.demonstrations import DemonstrationSet
from kronlit.data.sampling import first_rows, lm_bff_order, rows_per_class, setfit_rows

CLASSES = np.array([0, 1, 1, -1, 0, 2, 1, 0, 2, -1, 2, 0])
ORDER = np.array([6, 3, 10, 0, 1, 4, 9, 8, 11, 5, 7, 2])
# In that order class 1 has rows 6, 1, 2; class 2 has 10, 8, 5; class 0 has 0, 4, 11, 7.


@pytest.mark.parametrize(
    ("first", "last", "rows"),
    [
        (0, 1, [6, 10, 0]),
        (0, 2, [6, 1, 10, 8, 0, 4]),
        (1, 2, [1, 8, 4]),
        (1, 3, [1, 2, 8, 5, 4, 11]),
        (2, 9, [2, 5, 11, 7]),
    ],
)
def test_rows_are_drawn_from_each_class_by_itself(first, last, rows):
    assert rows_per_class(CLASSES, ORDER, first, last) == rows


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_setfit_draws_k_of_every_class_from_all_its_rows(k, seed):
    rows = setfit_rows(CLASSES, k, seed)
    assert sorted(CLASSES[rows].tolist()) == [0] * k + [1] * k + [2] * k
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    "draw", [lambda seed: setfit_rows(CLASSES, 1, seed), lambda seed: first_rows(CLASSES, 3, seed)]
)
def test_every_labelled_row_is_drawn_sometime(draw):
    assert {row for seed in range(60) for row in draw(seed)} == set(np.flatnonzero(CLASSES >= 0).tolist())


def test_the_order_is_numpys_shuffle_and_colas_goes_on_from_the_seeds_before():
    lines = list(range(20))
    for seed in (100, 13, 21):  # the script's order of seeds
        np.random.seed(seed)
        np.random.shuffle(lines)
    assert lm_bff_order(20, 21, cumulative=True).tolist() == lines
    alone = list(range(20))
    np.random.seed(21)
    np.random.shuffle(alone)
    assert lm_bff_order(20, 21).tolist() == alone


def data(rows=30, **options):
    columns = {"demonstration_ids": [[i] for i in range(rows)], "word": [i % 3 for i in range(rows)]}
    pool = Dataset.from_dict(columns)
    return DemonstrationSet(pool, pool, ("a", "b", "c"), **options)


def drawn(one, key):
    return [tuple(tokens[0] for tokens in shown) for shown in one[key]["demonstrations"]]


def test_every_row_has_demonstrations_of_its_own():
    training, evaluation = data(own=True), data(sets=2, seed=3)
    assert len({drawn(training, (5, 0, row))[0] for row in range(30)}) > 20  # of 10 x 10 x 10
    assert len({tuple(drawn(evaluation, row)) for row in range(30)}) > 25


def test_the_demonstrations_of_the_labels_are_drawn_apart():
    # By one and the same number all would be the row of that number in their label.
    shown = [drawn(data(own=False), (0, epoch, 1))[0] for epoch in range(60)]
    assert len({tuple(row // 3 for row in rows) for rows in shown}) > 40


def test_seeds_epochs_and_rows_are_not_interchangeable():
    one = data(rows=300, own=False)
    keys = [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1), (6, 0, 0), (0, 6, 0), (0, 0, 6)]
    assert len({drawn(one, key)[0] for key in keys}) == len(keys)


def test_the_most_similar_rows_are_told_apart_by_little():
    # Angles of a thousandth: cosines that differ by a millionth or less, which 16 bits do not hold.
    angles = np.array([0.004, 0.001, 0.003, 0.002])
    vectors = np.stack((np.cos(angles), np.sin(angles)), 1).tolist()
    columns = {"demonstration_ids": [[i] for i in range(4)], "word": [0] * 4, "embedding": vectors}
    pool = Dataset.from_dict(columns)
    query = Dataset.from_dict({"embedding": [[1.0, 0.0]]})
    for rate, kept in ((0.25, {1}), (0.5, {1, 3}), (0.75, {1, 2, 3}), (1.0, {0, 1, 2, 3})):
        one = DemonstrationSet(query, pool, ("a",), sets=100, rate=rate)
        assert {rows[0] for rows in drawn(one, 0)} == kept
