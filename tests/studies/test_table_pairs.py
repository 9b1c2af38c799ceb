"""What two methods are compared on: the seeds, rows and scores that both have."""

import csv

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from test_study_report import filled, rows_file

from kronlit.metrics.rows import ROW_METRICS
from kronlit.studies.report.differences import differences
from kronlit.studies.report.significance import ScoredSystem, holm, over_examples, over_seeds
from kronlit.studies.report.table import table
from kronlit.studies.study import Study

SCORES = {
    "A": {1: 0.71, 2: 0.75, 3: 0.70, 4: 0.90},
    "B": {1: 0.69, 2: 0.70, 3: 0.68, 4: 0.60},
}


def test_a_difference_is_over_the_seeds_that_both_have(tmp_path):
    study = Study(["A", "B"], ["t"], seeds=[1, 2, 3, 4])
    filled(tmp_path, study, lambda run: SCORES[run.method][run.seed], skip=[("t", "A", 1), ("t", "B", 4)])
    (found,) = differences(study, tmp_path, table(study, tmp_path), "B", None)
    ours, theirs = ([100 * SCORES[name][seed] for seed in (2, 3)] for name in "AB")
    assert found.seeds == 2
    assert found.difference == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert found.p_seeds == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_small_differences_that_vary_have_a_p():
    ours, theirs = [71.00, 71.03, 70.98], [71.01, 71.00, 71.00]
    assert over_seeds(ours, theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_a_point_whose_run_lacks_what_selects_is_missing_and_not_selected(tmp_path):
    study = Study(["A"], ["t"], seeds=[1], grid={"lr": [0.1, 0.2]}, select="per_seed")
    scores = {0.1: {"test/score": 0.4, "val/score": 0.3}, 0.2: {"test/score": 0.9}}
    filled(tmp_path, study, lambda run: scores[run.point["lr"]])
    cell = table(study, tmp_path)[0].cells["t"]
    assert cell.scores == pytest.approx({1: 40})
    assert [one.reason for one in cell.missing] == ["has no val/score; it has test/score"]


def test_without_a_choice_nothing_but_the_score_is_needed(tmp_path):
    study = Study(["A"], ["t"], seeds=[1])
    filled(tmp_path, study, lambda run: {"test/score": 0.4})
    assert table(study, tmp_path)[0].cells["t"].scores == pytest.approx({1: 40})


@pytest.mark.parametrize("changed", ["row", "target"])
def test_rows_of_other_numbers_or_targets_are_not_compared(tmp_path, changed):
    target, predictions = np.array([1.0, 0, 1, 0, 1, 1]), np.array([[1.0, 0, 1, 1, 1, 1], [1.0, 1, 1, 0, 0, 1]])
    ours = rows_file(tmp_path / "a.csv", predictions[0], target)
    theirs = rows_file(tmp_path / "b.csv", predictions[1], target)
    systems = [
        ScoredSystem([file], [{"test/accuracy": np.mean(one == target)}], ["test/accuracy"])
        for file, one in zip((ours, theirs), predictions, strict=True)
    ]
    assert over_examples(*systems) is not None
    with theirs.open() as file:
        lines = list(csv.DictReader(file))
    # As right as before by either's targets: the last one is another row, or a right row and a wrong one changed sides
    if changed == "row":
        lines[-1]["row"] = "9"
    else:
        for line in lines[:2]:
            line["target"] = str(1 - float(line["target"]))
    with theirs.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    assert over_examples(*systems) is None


def test_holms_corrected_values_rise_with_the_values():
    # p.adjust(c(0.01, 0.02, 0.022, 0.9), "holm") in R: 0.040 0.060 0.060 0.900
    assert holm([0.022, 0.9, 0.01, 0.02]) == pytest.approx([0.06, 0.9, 0.04, 0.06])


def test_macro_f1_is_over_the_classes_of_the_targets():
    target, prediction = np.array([0.0, 1, 2, 2, 1, 0]), np.array([0.0, 1, 1, 1, 1, 0])
    expected = sk.f1_score(target, prediction, average="macro", zero_division=0)
    assert ROW_METRICS["macro_f1"](prediction, target) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_correlation_of_small_numbers_is_that_of_large_ones(name):
    target = np.arange(20.0)
    prediction = np.sin(target)
    expected = getattr(stats, f"{name}r")(prediction, target).statistic
    assert ROW_METRICS[name](2.5 + 1e-4 * prediction, 1e-3 * target) == pytest.approx(expected)
