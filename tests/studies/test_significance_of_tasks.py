"""The p over examples is of the very figure that a report shows, for every task of every protocol."""

import csv
from functools import cache
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from test_study_report import put

from kronlit.data.tasks import FEW_SHOT_TASKS, GLUE_TASKS, SUPER_GLUE_DIAGNOSTICS, SUPER_GLUE_TASKS
from kronlit.metrics.classification import TaskMetrics
from kronlit.studies.plan import plan
from kronlit.studies.report.differences import averaged_metrics
from kronlit.studies.report.write import report
from kronlit.studies.study import Study
from kronlit.training.scored_rows import ScoredRows

# What each protocol prints for a task: GLUE and SuperGLUE the mean of its metrics, LM-BFF one of them.
MEANS = {
    "mrpc": ("f1", "accuracy"),
    "qqp": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "cola": ("matthews",),
    "ax": ("matthews",),
    "axb": ("matthews",),
    "cb": ("macro_f1", "accuracy"),
    "record": ("mark", "whole"),
}
FEW_SHOT = MEANS | {"mrpc": ("f1",), "qqp": ("f1",), "stsb": ("pearson",)}
SUPER_GLUE = {name: task for name, task in SUPER_GLUE_TASKS.items() if name != "multirc"} | SUPER_GLUE_DIAGNOSTICS

CASES = [
    pytest.param(task, shown.get(task.name, ("accuracy",)), id=f"{protocol}-{name}")
    for protocol, tasks, shown in (
        ("glue", GLUE_TASKS, MEANS),
        ("super_glue", SUPER_GLUE, MEANS),
        ("few_shot", FEW_SHOT_TASKS, FEW_SHOT),
    )
    for name, task in tasks.items()
]

ORACLES = {
    "accuracy": lambda p, t: sk.accuracy_score(t, p),
    "f1": lambda p, t: sk.f1_score(t, p),
    "macro_f1": lambda p, t: sk.f1_score(t, p, average="macro"),
    "matthews": lambda p, t: sk.matthews_corrcoef(t, p),
    "pearson": lambda p, t: stats.pearsonr(p, t).statistic,
    "spearman": lambda p, t: stats.spearmanr(p, t).statistic,
    "mark": lambda p, t: p.mean(),
    "whole": lambda p, t: (p > 2.5).mean(),
}
DIFFERENT = 8
"""Rows that the two systems answer differently: of 256 exchanges half are all tried, the others mirror them."""


@cache
def answers(classes):
    """Those of two systems to 40 rows, and the targets; of no class, numbers."""
    generator = np.random.default_rng({0: 31, 2: 1}.get(classes, 0))  # draws in which the metrics' p are far apart
    if classes == 0:
        target = generator.random(40) * 5
        ours = target + generator.normal(size=40)
        theirs = ours.copy()
        theirs[:DIFFERENT] += generator.normal(size=DIFFERENT) * 4
    else:
        target = generator.integers(classes, size=40)
        ours = np.where(generator.random(40) < 0.7, target, generator.integers(classes, size=40))
        theirs = ours.copy()
        theirs[:DIFFERENT] = (ours[:DIFFERENT] + generator.integers(1, classes, size=DIFFERENT)) % classes
    return ours.astype(float), theirs.astype(float), target.astype(float)


@cache
def exact_p(figure, classes):
    """The p of all exchanges of the two systems' answers, by scikit-learn and scipy."""
    ours, theirs, target = answers(classes)
    rows = np.flatnonzero(ours != theirs)
    assert len(rows) == DIFFERENT

    def difference(swapped):
        a, b = ours.copy(), theirs.copy()
        a[swapped], b[swapped] = theirs[swapped], ours[swapped]
        return abs(np.mean([ORACLES[name](a, target) - ORACLES[name](b, target) for name in figure]))

    observed = difference(rows[:0])
    each = [difference(rows[1:][list(map(bool, swap))]) for swap in product((0, 1), repeat=DIFFERENT - 1)]
    return np.mean(np.array(each) >= observed - 1e-12)


def study_of(tmp_path, task, metric="test/score"):
    """A study of two methods whose runs answered as `answers` has it, and the classes of its task."""
    classes = 0 if task.is_regression or task.free_text else len(task.labels)
    study = Study(["A", "B"], ["t"], seeds=[1], metric=metric)
    *systems, target = (torch.tensor(values) for values in answers(classes))
    for run, prediction in zip(plan(study), systems, strict=True):
        metrics = TaskMetrics(task)
        given = torch.stack((prediction, prediction > 2.5), -1) if task.free_text else prediction
        metrics.update(torch.arange(len(target)), given, target, torch.zeros(len(target)))
        put(tmp_path, run, {f"test/{name}": value.float().item() for name, value in metrics.compute().items()})
        scored = ScoredRows(tmp_path / run.folder / "version_0")
        scored.on_test_epoch_end(SimpleNamespace(is_global_zero=True), SimpleNamespace(test_metrics=metrics))
    return study, classes


def reported(tmp_path, study):
    report(study, tmp_path, baseline="B", plots=False)
    with (tmp_path / "report/table.csv").open(newline="") as file:
        return {line["method"]: line for line in csv.DictReader(file)}


@pytest.mark.parametrize(("task", "figure"), CASES)
def test_the_p_over_examples_is_of_the_score_that_is_shown(tmp_path, task, figure):
    study, classes = study_of(tmp_path, task)
    line = reported(tmp_path, study)["A"]
    ours, theirs, target = answers(classes)
    shown = [100 * np.mean([ORACLES[name](one, target) for name in figure]) for one in (ours, theirs)]
    assert float(line["mean"]) == pytest.approx(shown[0], abs=1e-3)
    assert float(line["difference"]) == pytest.approx(shown[0] - shown[1], abs=1e-3)
    assert float(line["p_examples"]) == pytest.approx(exact_p(figure, classes), abs=0.015)  # 9,999 draws: 3 sigma


@pytest.mark.parametrize(("one", "both", "classes"), [("f1", ("f1", "accuracy"), 2), ("pearson", MEANS["stsb"], 0)])
def test_the_answers_tell_the_figures_apart(one, both, classes):
    assert abs(exact_p((one,), classes) - exact_p(both, classes)) > 0.1


@pytest.mark.parametrize("metric", ["f1", "accuracy", "score"])
def test_a_metric_that_is_named_has_a_p_of_its_own(tmp_path, metric):
    study, classes = study_of(tmp_path, FEW_SHOT_TASKS["mrpc"], f"test/{metric}")
    figure = ("f1",) if metric == "score" else (metric,)
    p = float(reported(tmp_path, study)["A"]["p_examples"])
    assert p == pytest.approx(exact_p(figure, classes), abs=0.015)


@pytest.mark.parametrize(("metric", "has"), [("f1a", True), ("exact_match", False), ("score", False)])
def test_what_is_scored_by_groups_has_no_p(tmp_path, metric, has):
    study, classes = study_of(tmp_path, SUPER_GLUE_TASKS["multirc"], f"test/{metric}")
    line = reported(tmp_path, study)["A"]
    assert bool(line["p_examples"]) == has
    assert not has or float(line["p_examples"]) == pytest.approx(exact_p(("f1",), classes), abs=0.015)


def test_metrics_whose_mean_the_score_is_are_told_by_all_runs():
    one = {"test/score": 0.5, "test/loss": 0.5, "test/f1": 0.5, "test/accuracy": 0.5, "val/score": 0.5}
    other = one | {"test/score": 0.7, "test/f1": 0.8, "test/accuracy": 0.6}
    f1, accuracy = ("test/f1",), ("test/accuracy",)
    assert averaged_metrics([one], "test/score") == [f1, accuracy, f1 + accuracy]
    assert averaged_metrics([one, other], "test/score") == [f1 + accuracy]
    assert averaged_metrics([one, other | {"test/score": 0.8}], "test/score") == [f1]
    assert averaged_metrics([one, other | {"test/score": 0.9}], "test/score") == []
    assert averaged_metrics([one, other], "val/accuracy") == [("val/accuracy",)]


def test_of_figures_that_the_scores_do_not_tell_apart_the_greatest_p_stands(tmp_path, monkeypatch):
    study, _ = study_of(tmp_path, FEW_SHOT_TASKS["mrpc"])
    monkeypatch.setattr(
        "kronlit.studies.report.differences.averaged_metrics", lambda *_: [("test/f1",), ("test/accuracy",)]
    )
    greatest = max(exact_p((name,), 2) for name in ("f1", "accuracy"))
    assert float(reported(tmp_path, study)["A"]["p_examples"]) == pytest.approx(greatest, abs=0.015)
