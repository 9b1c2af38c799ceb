"""Tests whether a difference is more than chance: over seeds, and over the scored rows.

Over seeds it is the paired t-test. With three to five seeds neither a rank test nor a permutation test can reach 0.05
(the smallest p value of five pairs is 2/2^5 = 0.0625), so we pay with the assumption of normal differences.
Over examples it is approximate randomisation (Noreen 1989; Yeh 2000, arXiv:cs/0008005), which assumes nothing. Each
row's predictions, of all seeds together, change sides with probability 1/2, and the score is computed again.
Several comparisons are corrected by Holm (1979). This bounds the chance of any false claim in a table, and does not
assume independent comparisons. scipy's own correction (Benjamini and Hochberg) bounds the share of false claims.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kronlit.metrics.rows import Array

RESAMPLES = 9_999
ENTRIES = 4_000_000
"""How many predictions are resampled at once: 32 MB of them."""


def over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The p value of the paired t-test; `None` for fewer than two pairs, or if all differences are equal."""
    from scipy.stats import ttest_rel

    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    if len(differences) < 2 or max(differences) - min(differences) < 1e-9:
        return None
    return float(ttest_rel(ours, theirs).pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Correct p values by Holm's method; `None` stays `None`."""
    there = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (p, i) in enumerate(there):
        least = max(least, min(1.0, (len(there) - rank) * p))
        corrected[i] = least
    return corrected


@dataclass(frozen=True)
class ScoredSystem:
    """The predictions of a method for the rows of a test set.

    Args:
        files: the files of scored rows, one for each seed.
        scores: the recorded scores of each seed, for all names in `metrics`.
        metrics: the metrics whose mean is compared.
    """

    files: Sequence[Path]
    scores: Sequence[dict[str, float]]
    metrics: Sequence[str]


def over_examples(ours: ScoredSystem, theirs: ScoredSystem, seed: int = 0) -> float | None:
    """The two-sided p value of approximate randomisation.

    It is `None` if there is no test: if files of the same rows are missing for some seed, if a metric is not computed
    row by row, or if the files do not reproduce the recorded scores.
    """
    import numpy as np
    from scipy.stats import permutation_test

    from kronlit.metrics.rows import ROW_METRICS, accuracy, mean_mark

    names = [name.split("/")[1] for name in ours.metrics]
    if not names or any(name not in ROW_METRICS for name in names) or len(ours.files) != len(theirs.files):
        return None
    loaded = [[read_scored_rows(file, names) for file in system.files] for system in (ours, theirs)]
    first = next((one for system in loaded for one in system if one), None)
    if first is None or any(one is None or not same_rows(one, first) for system in loaded for one in system):
        return None
    target, rows = first["target"], len(first["target"])
    both = {}  # of each metric, ours and theirs: (seeds, 2 * rows)
    for name, metric in zip(names, ours.metrics, strict=True):
        sides = [np.stack([one[name] for one in system if one]) for system in loaded]
        for side, system in zip(sides, (ours, theirs), strict=True):
            if not np.allclose(ROW_METRICS[name](side, target), [one[metric] for one in system.scores], atol=1e-5):
                return None
        both[name] = np.concatenate(sides, axis=-1)

    if all(ROW_METRICS[name] in (accuracy, mean_mark) for name in names):
        marks = [one == np.tile(target, 2) if ROW_METRICS[name] is accuracy else one for name, one in both.items()]
        return over_marks(np.mean(np.asarray(marks, dtype=float), axis=(0, 1)), seed)

    def score(chosen: "Array") -> "Array":
        # scipy permutes row numbers, so that the predictions of all seeds for a row change sides together
        chosen = chosen.astype(int)
        return np.mean([ROW_METRICS[name](one[:, chosen], target) for name, one in both.items()], axis=(0, 1))

    result = permutation_test(
        (np.arange(rows), np.arange(rows, 2 * rows)),
        lambda a, b, axis: score(a) - score(b),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, ENTRIES // both[names[0]].size),
        axis=-1,
        rng=seed,
    )
    return float(result.pvalue)


def over_marks(marks: "Array", seed: int) -> float:
    """The same for a score that is the mean of marks of the rows, ours and then theirs.

    To change sides is then to change the sign of the row's difference, and rows without one do not count. This takes
    a hundredth of the time.
    """
    import numpy as np
    from scipy.stats import permutation_test

    ours, theirs = np.split(marks, 2)
    differences = (ours - theirs)[np.abs(ours - theirs) > 1e-12]
    if not len(differences):
        return 1.0
    # The mean over all rows differs from this sum by a factor alone. Rounding makes sums exact that are equal.
    result = permutation_test(
        (differences,),
        lambda sample, axis: np.round(np.sum(sample, axis=axis), 9),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, ENTRIES // len(differences)),
        rng=seed,
    )
    return float(result.pvalue)


def read_scored_rows(path: Path, metrics: Sequence[str]) -> "dict[str, Array] | None":
    """Read a file of scored rows: row, target, and for each metric its marks or else the predictions.

    `None` if there is no such file. A file with marks has no targets; the row numbers take their place.
    """
    import numpy as np

    if not path.exists():
        return None
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    columns = {"row": "row", "target": "target" if "target" in lines[0] else "row"}
    columns |= {metric: metric if metric in lines[0] else "prediction" for metric in metrics}
    if not set(columns.values()) <= lines[0].keys():
        return None
    return {name: np.array([float(line[column]) for line in lines]) for name, column in columns.items()}


def same_rows(one: "dict[str, Array]", other: "dict[str, Array]") -> bool:
    """Whether two files have the same rows with the same targets."""
    import numpy as np

    return np.array_equal(one["row"], other["row"]) and np.array_equal(one["target"], other["target"])
