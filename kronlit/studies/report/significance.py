"""Whether a difference is more than chance: over seeds, and over the rows that were scored.

Over seeds by the paired t-test: of three to five seeds neither a rank nor a permutation test can reach 0.05 (the least
p of five pairs is 2/2^5 = 0.0625), so that the assumption of normal differences is what there is to pay.
Over examples by approximate randomisation (Noreen 1989; Yeh 2000, arXiv:cs/0008005), which assumes nothing: each row's
predictions, those of all seeds together, change sides with probability 1/2, and the score itself is computed anew.
Several comparisons are corrected by Holm (1979), which bounds the chance of any false claim in a table without assuming
that the comparisons are independent; scipy's own correction (Benjamini and Hochberg) bounds the share of false claims.
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
"""Predictions that are resampled at once: 32 MB."""


def over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The p of the paired t-test; `None` of fewer than two pairs, or where all pairs differ alike."""
    from scipy.stats import ttest_rel

    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    if len(differences) < 2 or max(differences) - min(differences) < 1e-9:
        return None
    return float(ttest_rel(ours, theirs).pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """P values corrected by Holm's method, those that are `None` left alone."""
    there = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (p, i) in enumerate(there):
        least = max(least, min(1.0, (len(there) - rank) * p))
        corrected[i] = least
    return corrected


@dataclass(frozen=True)
class ScoredSystem:
    """What a method answered to the rows of a test set.

    Args:
        files: one of scored rows a seed.
        scores: what was recorded for each, for all names in `metrics`.
        metrics: whose mean is compared.
    """

    files: Sequence[Path]
    scores: Sequence[dict[str, float]]
    metrics: Sequence[str]


def over_examples(ours: ScoredSystem, theirs: ScoredSystem, seed: int = 0) -> float | None:
    """The p of approximate randomisation, two-sided.

    `None` where it cannot be had: without files of the same rows for all seeds of both, for a metric that is not of
    rows one by one, or where the files do not give the scores that were recorded.
    """
    import numpy as np
    from scipy.stats import permutation_test

    from kronlit.metrics.rows import ROW_METRICS

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

    def score(chosen: "Array") -> "Array":
        # scipy exchanges the numbers of rows, so that all seeds' predictions of a row go together
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


def read_scored_rows(path: Path, metrics: Sequence[str]) -> "dict[str, Array] | None":
    """Row and target of a file of scored rows, and by metric its marks or else the predictions.

    `None` if there is no such file. What has marks has no targets: the rows stand for them.
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
    """Whether two files are of the same rows with the same targets."""
    import numpy as np

    return np.array_equal(one["row"], other["row"]) and np.array_equal(one["target"], other["target"])
