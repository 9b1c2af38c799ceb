"""Which rows of a training set are the few of a few-shot split: rules of LM-BFF, LiST and SetFit, drawn by numpy.

Gao et al., LM-BFF, 2021, arXiv:2012.15723; Wang et al., LiST, 2021, arXiv:2110.06274; Tunstall et al., SetFit, 2022,
arXiv:2209.11055. `RandomState.permutation` is what LM-BFF's `np.random.seed` and `np.random.shuffle` amount to.
"""

import numpy as np

LM_BFF_SEEDS = (100, 13, 21, 42, 87)
"""In the order in which LM-BFF's script goes through them."""


def lm_bff_order(size: int, seed: int, cumulative: bool = False) -> np.ndarray:
    """The order in which LM-BFF's script goes through `size` training rows, `(size,)`.

    Args:
        size: number of rows.
        seed: of the split.
        cumulative: whether the shuffle starts from the order that the seeds before left. It does for CoLA: that file
            has no header, so the script shuffles the very list that it has read.
    """
    order = np.arange(size)
    replayed = LM_BFF_SEEDS[: LM_BFF_SEEDS.index(seed)] if cumulative and seed in LM_BFF_SEEDS else ()
    for one in (*replayed, seed):
        order = order[np.random.RandomState(one).permutation(size)]
    return order


def rows_per_class(classes: np.ndarray, order: np.ndarray, first: int, last: int) -> list[int]:
    """Rows number `first` to `last` - 1 of each class in `order`, class by class as they come up in it.

    Args:
        classes: class of each row, `(size,)`; -1 for a row that belongs to none.
        order: of the rows, `(size,)`.
        first: how many rows of each class are left out before.
        last: how many there are with them.
    """
    by_class: dict[int, list[int]] = {}
    for row in order.tolist():
        by_class.setdefault(int(classes[row]), []).append(row)
    by_class.pop(-1, None)
    return [row for rows in by_class.values() for row in rows[first:last]]


def first_rows(classes: np.ndarray, k: int, seed: int) -> list[int]:
    """The first `k` rows of a permutation, whatever their classes, as LiST's splits are unbalanced."""
    order = np.random.RandomState(seed).permutation(len(classes))
    return [row for row in order.tolist() if classes[row] >= 0][:k]


def setfit_rows(classes: np.ndarray, k: int, seed: int) -> list[int]:
    """The first `k` rows of each class in a permutation, shuffled, as SetFit's `sample_dataset` draws them."""
    order = np.random.default_rng(seed).permutation(len(classes))
    drawn = [row for one in sorted(set(classes.tolist()) - {-1}) for row in order[classes[order] == one][:k].tolist()]
    return [drawn[i] for i in np.random.default_rng(seed).permutation(len(drawn))]
