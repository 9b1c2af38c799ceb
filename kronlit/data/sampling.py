"""Draws the rows of few-shot splits by the rules of LM-BFF, LiST and SetFit, with numpy's generators.

Gao et al., LM-BFF, 2021, arXiv:2012.15723; Wang et al., LiST, 2021, arXiv:2110.06274; Tunstall et al., SetFit, 2022,
arXiv:2209.11055. `RandomState.permutation` gives the same as LM-BFF's `np.random.seed` and `np.random.shuffle`.
"""

import numpy as np

LM_BFF_SEEDS = (100, 13, 21, 42, 87)
"""The seeds in the order of LM-BFF's script; CoLA's splits depend on it."""


def lm_bff_order(size: int, seed: int, cumulative: bool = False) -> np.ndarray:
    """The order of `size` training rows in LM-BFF's script, `(size,)`.

    Args:
        size: number of rows.
        seed: seed of the split.
        cumulative: whether to start from the order that the earlier seeds left. LM-BFF does so for CoLA: its file has
            no header, so the script shuffles the list itself instead of a copy without the header.
    """
    order = np.arange(size)
    replayed = LM_BFF_SEEDS[: LM_BFF_SEEDS.index(seed)] if cumulative and seed in LM_BFF_SEEDS else ()
    for one in (*replayed, seed):
        order = order[np.random.RandomState(one).permutation(size)]
    return order


def rows_per_class(classes: np.ndarray, order: np.ndarray, first: int, last: int) -> list[int]:
    """Take rows number `first` to `last` - 1 of each class in `order`, class after class as they first occur.

    Args:
        classes: class of each row, `(size,)`; -1 for a row without a class.
        order: order of the rows, `(size,)`.
        first: number of the first row of each class to take.
        last: number of the row after the last one.
    """
    by_class: dict[int, list[int]] = {}
    for row in order.tolist():
        by_class.setdefault(int(classes[row]), []).append(row)
    by_class.pop(-1, None)
    return [row for rows in by_class.values() for row in rows[first:last]]


def first_rows(classes: np.ndarray, k: int, seed: int) -> list[int]:
    """The first `k` labelled rows of a permutation. The classes may be unbalanced, as in LiST's splits."""
    order = np.random.RandomState(seed).permutation(len(classes))
    return [row for row in order.tolist() if classes[row] >= 0][:k]


def setfit_rows(classes: np.ndarray, k: int, seed: int) -> list[int]:
    """The first `k` rows of each class in a permutation, shuffled once more, as in SetFit's `sample_dataset`."""
    order = np.random.default_rng(seed).permutation(len(classes))
    drawn = [row for one in sorted(set(classes.tolist()) - {-1}) for row in order[classes[order] == one][:k].tolist()]
    return [drawn[i] for i in np.random.default_rng(seed).permutation(len(drawn))]
