"""Which row is best and which are not significantly worse, against scipy; and the sentence that says so."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from test_study_report import filled, rows_file

from kronlit.studies.plan import plan
from kronlit.studies.report.significance import over_marks
from kronlit.studies.report.standing import standings
from kronlit.studies.report.table import table
from kronlit.studies.report.verdict import verdict
from kronlit.studies.study import Study

SCORES = {
    "A": [0.90, 0.91, 0.92, 0.905],
    "B": [0.89, 0.90, 0.915, 0.91],  # about as good
    "C": [0.80, 0.81, 0.815, 0.80],  # worse
    "D": [0.60, 0.85, 0.95, 0.70],  # varies too much to tell
}


def study_of(names, tasks=("t",), seeds=(1, 2, 3, 4), **more):
    return Study(list(names), list(tasks), seeds=list(seeds), **more)


def stand(tmp_path, study, score, metric=None, **more):
    filled(tmp_path, study, score, **more)
    rows = table(study, tmp_path, metric)
    return rows, standings(study, tmp_path, rows, metric)


def of(run):
    return SCORES[run.method][run.seed - 1]


def test_without_scored_rows_it_is_the_paired_t_test_with_holms_correction(tmp_path):
    _, found = stand(tmp_path, study_of(SCORES), of)
    one = found["t"]
    raw = {name: stats.ttest_rel(SCORES[name], SCORES["A"]).pvalue for name in "BCD"}
    order = sorted(raw, key=raw.get)
    steps = np.maximum.accumulate([min(1, (3 - i) * raw[name]) for i, name in enumerate(order)])  # Holm, 1979
    assert (one.best, one.test) == (["A"], "seeds")
    assert one.p == pytest.approx(dict(zip(order, steps, strict=True)))
    assert one.p_seeds == pytest.approx(raw)
    assert one.places == {"A": "best", "B": "not worse", "C": "worse", "D": "not worse"}


def test_one_seed_tells_nothing_even_with_scored_rows(tmp_path):
    study = study_of("AC", seeds=[1], metric="test/accuracy")
    target = np.ones(100)
    for run in plan(study):
        right = np.arange(100) < (90 if run.method == "A" else 10)
        (tmp_path / run.folder).mkdir(parents=True)
        (tmp_path / run.folder / "version_0").mkdir()
        rows_file(tmp_path / run.folder / "version_0/test_rows.csv", right.astype(float), target)
    rows, found = scored(tmp_path, study, {"A": 0.9, "C": 0.1})
    assert found["t"].places == {"A": "best", "C": "unknown"}
    assert verdict(study, rows, found, None, None) == (
        "A is best on t with test/accuracy of 90.00, 80.00 ahead of C, the next; one seed is too few to say whether "
        "that is more than chance."
    )


def scored(tmp_path, study, level):
    """Write run.json beside scored rows that are there already."""
    from kronlit.studies.result import Result

    for run in plan(study):
        value = level[run.method]
        summary = {"scores": {"test/accuracy": value, "test/score": value, "val/score": value}}
        Result(
            "done", "", run.task, run.method, run.seed, run.point, "kronlit fit", 1, 1, "", None, fit="version_0",
            summary=summary,
        ).write(tmp_path / run.folder)  # fmt: skip
    rows = table(study, tmp_path)
    return rows, standings(study, tmp_path, rows, None)


def test_with_scored_rows_it_is_over_examples(tmp_path):
    # Two seeds that answer alike: each row that differs is a fair coin, and the p value is the binomial test's.
    study = study_of("ABC", seeds=[1, 2], metric="test/accuracy")
    right = {"A": np.arange(60) < 50, "B": np.arange(60) < 47, "C": np.arange(60) < 30}
    for run in plan(study):
        (tmp_path / run.folder / "version_0").mkdir(parents=True)
        rows_file(tmp_path / run.folder / "version_0/test_rows.csv", right[run.method].astype(float), np.ones(60))
    rows, found = scored(tmp_path, study, {name: one.mean() for name, one in right.items()})
    one = found["t"]
    assert one.test == "examples"
    assert one.p["C"] == pytest.approx(2 * stats.binomtest(20, 20, 0.5).pvalue, abs=0.001)
    assert one.p["B"] == pytest.approx(stats.binomtest(3, 3, 0.5).pvalue, abs=0.02)
    assert one.places == {"A": "best", "B": "not worse", "C": "worse"}
    (tmp_path / "t/C/seed-2/version_0/test_rows.csv").unlink()
    # one test for the whole column; and the seeds, whose differences are all the same, cannot tell
    assert standings(study, tmp_path, rows, None)["t"].test == ""


def test_marks_that_change_sides_are_all_sign_patterns():
    marks = np.random.default_rng(0).integers(0, 4, size=(2, 9)) / 3
    differences = marks[0] - marks[1]
    sums = np.array([np.dot(signs, differences) for signs in product((-1, 1), repeat=9)])
    exact = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9)
    assert over_marks(marks.ravel(), 0) == pytest.approx(exact, abs=0.02)
    assert over_marks(np.ones(8), 0) == 1.0


@pytest.mark.parametrize(("metric", "best"), [("test/loss", "B"), ("test/score", "A")])
def test_of_losses_the_smallest_is_best(tmp_path, metric, best):
    study = study_of("AB", metric=metric)
    _, found = stand(tmp_path, study, lambda run: dict.fromkeys((metric, "val/score"), 0.5 + 0.1 * (run.method == "A")))
    assert found["t"].best == [best]


def test_means_that_are_equal_but_for_rounding_are_both_best(tmp_path):
    values = {"A": [0.1, 0.3], "B": [0.2, 0.1 + 0.2 - 0.1]}
    rows, found = stand(tmp_path, study_of("AB", seeds=[1, 2]), lambda run: values[run.method][run.seed - 1])
    assert found["t"].best == ["A", "B"]
    assert verdict(study_of("AB"), rows, found, None, None) == (
        "A and B are equal and best on t with test/score of 20.00."
    )


@pytest.mark.parametrize(
    ("names", "skip", "baseline", "sentence"),
    [
        (
            "ABC",
            [],
            "C",
            "A is best on t with test/score of 90.88, 0.50 ahead of B, the next (not significant over seeds, p = 0.252)"
            " and 10.25 ahead of C, the baseline (significant over seeds, p < 0.001).",
        ),
        ("A", [], None, "A has test/score of 90.88 on t, and the study has no other method to compare it with."),
        (
            "AB",
            [("t", "B", seed) for seed in (1, 2, 3, 4)],
            None,
            "A has test/score of 90.88 on t, and no other method has a score there yet.",
        ),
        (
            "AB",
            [("t", name, seed) for name in "AB" for seed in (1, 2, 3, 4)],
            None,
            "No run has a score yet, so there is nothing to compare.",
        ),
    ],
)
def test_the_verdict_is_a_sentence(tmp_path, names, skip, baseline, sentence):
    study = study_of(names)
    rows, found = stand(tmp_path, study, of, skip=skip)
    assert stats.ttest_rel(SCORES["A"], SCORES["B"]).pvalue == pytest.approx(0.252, abs=5e-4)
    assert 2 * stats.ttest_rel(SCORES["A"], SCORES["C"]).pvalue < 0.001
    assert verdict(study, rows, found, baseline, None) == sentence


def test_the_verdict_over_tasks_is_on_their_average(tmp_path):
    study = study_of("AC", tasks=["t", "u"])
    rows, found = stand(tmp_path, study, lambda run: of(run) - 0.2 * (run.method == "A" and run.task == "u"))
    means = [100 * np.mean([np.mean(SCORES[name]), np.mean(SCORES[name]) - 0.2 * (name == "A")]) for name in "AC"]
    p = stats.ttest_rel(np.array(SCORES["A"]) - 0.1, SCORES["C"]).pvalue
    assert verdict(study, rows, found, None, None) == (
        f"A is best on average over 2 tasks with a mean of {means[0]:.2f}, {means[0] - means[1]:.2f} ahead of C, the "
        f"next (not significant over seeds, p = {p:.3f}); it leads on 1 of the 2 tasks."
    )
