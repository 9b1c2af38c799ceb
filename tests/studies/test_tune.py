"""Searches before a comparison: which points train, what is chosen, and that a kill changes nothing."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml
from fixtures.runs import ROOT, RUN

from kronlit.studies.cell_search import CellSearch, rungs
from kronlit.studies.edge import at_end, next_value
from kronlit.studies.result import Result, read_result
from kronlit.studies.search import scores_after
from kronlit.studies.study import Study
from kronlit.studies.tune import Tune, spread
from kronlit.studies.tuned import read_tuned
from kronlit.studies.worth import worth

# Stands for `kronlit fit`: its score is best at the rate `best`, and is more certain of it with each epoch. It writes
# metrics.csv, pauses as asked, and goes on from its last epoch.
FIT = """
import json, math, sys, time
from pathlib import Path

words = sys.argv[1:]
if "--print_config" in words:
    print("model: {init_args: {lr: 0.002, method: {init_args: {scale: 1.0}}}}\\ntrainer: {max_epochs: 4}")
    sys.exit()
options = dict(zip(words[1::2], words[2::2]))
folder = Path(options["--run_dir"])
if float(options.get("--model.lr", 0)) >= float(options.get("--diverges", "inf")):
    print("kronlit: the loss is not finite.")
    sys.exit(1)
epochs, until = int(options.get("--trainer.max_epochs", 4)), int(options.get("--stop_after_epochs", 99))
version = folder / "version_0"
version.mkdir(exist_ok=True)
last = version / "last"
epoch = int(last.read_text()) if last.exists() else 0
best, rate = float(options.get("--best", 3e-3)), float(options.get("--model.lr", 1e-3))
scale = float(options.get("--model.method.scale", 1))
rows = (version / "metrics.csv").read_text().splitlines() if epoch else []
rows = rows or ["epoch,val/score,val/loss"]
while epoch < min(epochs, until):
    time.sleep(float(options.get("--pause", 0)))
    off = abs(math.log10(rate * scale / best))
    rows.append(f"{epoch},{0.5 + 0.1 * epoch - 0.1 * off},{off}")
    (version / ".m").write_text("\\n".join(rows) + "\\n")
    (version / ".m").replace(version / "metrics.csv")
    epoch += 1
    (version / ".last").write_text(str(epoch))
    (version / ".last").replace(last)
    with (folder / "epochs").open("a") as file:
        file.write(f"{epoch}\\n")
if epoch < epochs:
    (version / "paused.json").write_text(json.dumps({"epochs": epoch}))
    sys.exit(75)
names = rows[0].split(",")
scores = dict(zip(names[1:], map(float, rows[-1].split(",")[1:])))
if options.get("--test_after_fit") != "false":
    scores["test/score"] = scores["val/score"]
costs = {"trained_parameters": 10, "parameters": 1000, "per_cent": 1.0, "seconds": 1.0, "seconds_per_epoch": 0.5}
costs |= {"peak_memory_bytes": 5, "peak_memory_of": "process", "adapter_bytes": 40, "versions": {}}
(version / ".summary").write_text(json.dumps({"scores": scores} | costs))
(version / ".summary").replace(version / "summary.json")
"""


def study_file(tmp_path, **content):
    path = tmp_path / "tuned.yaml"
    base = {
        "methods": {"A": {}, "B": {"best": 3e-2}},
        "tasks": ["t"],
        "seeds": [1, 2],
        "options": {"trainer.max_epochs": 4},
        "tune": {},
    }
    path.write_text(yaml.safe_dump(base | content))
    return path


# --- which points train ---


def searched(score, tune, epochs=4, own=None):
    """A search whose scores are a function of point and epochs: its steps as pairs, and itself."""
    cell, taken = CellSearch(tune, "t", "m", epochs, own or {}), []
    for steps in cell.steps():
        taken.append([(*step.point.values(), step.epochs) for step in steps])
        for step in steps:
            found = score(*step.point.values(), step.epochs)
            for seed in tune.seeds:
                cell.record(step.point, seed, step.epochs, None if found is None else {"val/score": found})
    return taken, cell


def peak(at):
    return lambda rate, epochs: -abs(math.log(rate / at)) + epochs


def test_half_of_the_points_go_on_at_each_rung():
    taken, cell = searched(peak(1e-2), Tune())
    assert taken == [
        [(rate, 1) for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)],
        [(3e-3, 2), (1e-2, 2), (3e-2, 2)],
        [(1e-2, 4), (3e-2, 4)],
    ]
    assert (cell.best(), cell.edge(cell.best())) == ({"model.lr": 1e-2}, [])
    assert [trial.status for trial in cell.cell().trials] == ["stopped"] * 4 + ["done"] * 2


def test_rungs_are_parts_of_a_whole_run():
    assert rungs(4, 2, 6) == [1, 2, 4]
    assert rungs(2, 2, 6) == [1, 2]
    assert rungs(1, 2, 6) == [1]
    assert rungs(10, 3, 9) == [1, 3, 10]
    assert rungs(100, 2, 6) == [25, 50, 100]  # not from the first epoch, when little is known
    assert rungs(4, 1, 6) == [4]


@pytest.mark.parametrize(
    ("at", "extend", "more", "edge"),
    [
        (0.1, 3, [0.1, 0.3], []),
        (1, 3, [0.1, 0.3, 1], ["model.lr"]),
        (3e-5, 3, [3e-5, 1e-5], []),
        (1, 0, [], ["model.lr"]),
    ],
)
def test_a_grid_grows_where_the_best_lies_at_its_edge(at, extend, more, edge):
    taken, cell = searched(peak(at), Tune(extend=extend, halving=1))
    assert taken[1:] == [[(pytest.approx(value), 4)] for value in more]
    assert cell.cell().edge == edge


def test_a_grid_of_whole_numbers_grows_by_whole_numbers():
    assert next_value([2, 4, 8], [2, 4, 8], "high") == 16
    assert next_value([2, 4, 8], [2, 4, 8], "low") == 1
    assert next_value([1, 2, 4], [1, 2, 4], "low") is None
    assert next_value([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], "high") is None  # not log-spaced
    assert next_value(["a", "b"], ["a", "b"], "high") is None
    assert at_end(1.05e-4, {"low": 1e-4, "high": 1e-2}) == "low"
    assert at_end(5.05e-3, {"low": 1e-4, "high": 1e-2}) is None


def test_no_more_points_than_trials_are_tried():
    taken, _ = searched(peak(1), Tune(trials=7, halving=1))
    assert [len(steps) for steps in taken] == [6, 1]


def test_a_point_that_fails_has_no_score_and_ends_the_growth():
    taken, cell = searched(lambda rate, epochs: rate if rate < 0.2 else None, Tune(halving=1))
    assert taken[1:] == [[(0.1, 4)], [(0.3, 4)]]
    assert cell.best() == {"model.lr": 0.1}
    assert cell.cell().trials[-1].status == "failed"
    assert cell.cell().edge == []
    _, cell = searched(lambda rate, epochs: math.nan, Tune())
    assert (cell.cell().chosen, {trial.status for trial in cell.cell().trials}) == ({}, {"failed"})


def test_the_configs_own_point_is_never_stopped():
    # It is the worst for two epochs, and the best in the end.
    def score(rate, epochs):
        return -1 if rate == 2e-3 and epochs < 4 else 1 if rate == 2e-3 else 0.1 * epochs - rate

    _, cell = searched(score, Tune(), own={"model.lr": 2e-3})
    assert cell.cell().chosen == {"model.lr": 2e-3}


def test_equal_scores_are_ranked_by_loss():
    cell = CellSearch(Tune({"x": [1, 2]}, halving=1, extend=0), "t", "m", 1)
    for steps in cell.steps():
        for step in steps:
            loss = {1: 0.7, 2: 0.3}[step.point["x"]]
            cell.record(step.point, 0, 1, {"val/score": 0.5, "val/loss": loss})
    assert cell.best() == {"x": 2}


def test_a_range_stands_for_values_half_a_decade_apart():
    assert spread({"low": 1e-4, "high": 1e-2}) == pytest.approx([1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2], rel=1e-3)
    assert spread({"low": 0.0, "high": 0.4, "log": False}) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


# --- a tuned study ---


def epochs_of(root):
    return {str(path.parent.relative_to(root)): path.read_text().split() for path in sorted(root.rglob("epochs"))}


def test_a_tuned_study_compares_each_method_at_its_own_best(kronlit, tmp_path, stand_in):
    root = tmp_path / "s"
    code, out, _ = kronlit("study", "--config", study_file(tmp_path), "--dir", root, "--processes", "2")
    assert code == 0, out
    one, two = read_tuned(root)
    assert (one.method, one.chosen, one.edge) == ("A", {"model.lr": 3e-3}, [])
    assert (two.method, two.chosen, two.edge) == ("B", {"model.lr": 3e-2}, [])
    assert two.search["model.lr"] == [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1]
    for method, rate in (("A", "0.003"), ("B", "0.03")):
        for seed in (1, 2):
            result = read_result(root / f"t/{method}/seed-{seed}")
            assert f"--model.lr {rate} --seed_everything {seed}" in result.command
            assert "test_after_fit" not in result.command
    assert "| A | **80.00" in out
    # No epoch is trained twice: runs pause at a rung and go on from there.
    trained = epochs_of(root / "tune")
    assert all(epochs == sorted(set(epochs)) for epochs in trained.values())
    assert len(trained["t/A/lr=0.0001/seed-0"]) == 1
    assert len(trained["t/A/lr=0.003/seed-0"]) == 4
    for path in (root / "tune").rglob("run.json"):
        assert "--test_after_fit false" in read_result(path.parent).command
        assert not any(name.startswith("test") for name in read_result(path.parent).scores)

    code, again, _ = kronlit("study", "--config", study_file(tmp_path), "--dir", root)
    assert epochs_of(root / "tune") == trained
    assert again.split("## Scores")[1] == out.split("## Scores")[1]
    code, report, _ = kronlit("study", "report", root, "--plots", "false")
    assert code == 0
    assert "80.00" in report


def test_a_method_whose_points_all_fail_is_named_and_stops_no_other(kronlit, tmp_path, stand_in):
    path = study_file(tmp_path, methods={"A": {}, "bad": {"diverges": 0}})
    code, out, err = kronlit("study", "--config", path, "--dir", "s")
    assert code == 1
    assert "kronlit: no point of bad on t has a score: kronlit: the loss is not finite. (s/tune/t/bad/lr=" in err
    assert "| A | 80.00" in out
    assert "| bad | missing" in out
    assert not (tmp_path / "s/t/bad").exists()


def test_only_the_cells_that_are_named_are_searched(kronlit, tmp_path, stand_in):
    path = study_file(tmp_path)
    assert kronlit("study", "--config", path, "--dir", "s", "--only", "B/t")[0] == 0
    assert [cell.method for cell in read_tuned(tmp_path / "s")] == ["B"]
    assert kronlit("study", "--config", path, "--dir", "s")[0] == 0
    assert [cell.method for cell in read_tuned(tmp_path / "s")] == ["A", "B"]


def test_a_search_that_is_killed_chooses_the_same(tmp_path, stand_in):
    path = study_file(tmp_path, options={"trainer.max_epochs": 4, "pause": 0.05})
    words = [sys.executable, "-c", RUN, "study", "--config", path, "--processes", "2", "--dir"]
    whole = subprocess.run([*map(str, words), "whole"], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    root = tmp_path / "killed"
    for goal in (2, 8, 13):
        process = subprocess.Popen([*map(str, words), "killed"], start_new_session=True, stdout=subprocess.DEVNULL)
        while sum(map(len, epochs_of(root).values())) < goal:
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = subprocess.run([*map(str, words), "killed"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert read_tuned(root) == read_tuned(tmp_path / "whole")
    assert epochs_of(root) == epochs_of(tmp_path / "whole")


def test_the_score_at_a_rung_is_that_of_its_epochs_however_far_a_run_has_come(tmp_path):
    version = tmp_path / "version_0"
    version.mkdir()
    (version / "metrics.csv").write_text("epoch,val/score,val/loss\n0,0.5,1\n1,0.7,1\n2,0.9,1\n")
    result = Result("done", "", "t", "A", 0, {}, "", 0, 1, "2026-01-01T00:00:00+00:00", None, fit="version_0")
    result = replace(result, summary={"scores": {"val/score": 0.9}})
    found = [scores_after(tmp_path, result, until, Tune())["val/score"] for until in (1, 2, None)]
    assert found == [0.5, 0.7, 0.9]
    running = replace(result, status="running", fit=None, summary=None)
    assert scores_after(tmp_path, running, 1, Tune()) is None  # it has not paused
    (version / "paused.json").write_text('{"epochs": 1}')
    assert scores_after(tmp_path, running, 1, Tune())["val/score"] == 0.5
    assert scores_after(tmp_path, running, 2, Tune()) is None


MISTAKES = [
    ({"tune": {"seeds": [0, 1]}}, ["`tune.seeds`=[0, 1]", "`seeds`=[1, 2]", "share 1"]),
    ({"tune": {"search": {"model.lr": [-1e-3, 1e-3]}}}, ["'model.lr' has -0.001", "greater than 0"]),
    ({"tune": {"search": {"model.lr": []}}}, ["'model.lr' has []"]),
    ({"tune": {"search": {}}}, ["`tune.search`={}"]),
    ({"tune": {"search": {"x": {"low": 2, "high": 1}}}}, ["`low` must be less than `high`"]),
    ({"tune": {"method_search": {"C": {}}}}, ["`tune.method_search`: 'C'"]),
    ({"tune": {"trials": 5}}, ["`tune.trials`=5 must be at least 6"]),
    ({"tune": {"halving": 0}}, ["`tune.halving`=0"]),
    ({"tune": {"select_by": "test/score"}}, ["`tune.select_by`='test/score'"]),
    ({"tune": {"options": {"test_after_fit": True}}}, ["never reads the test rows"]),
    ({"grid": {"x": [1]}}, ["`grid` and `tune` exclude each other"]),
]


@pytest.mark.parametrize(("content", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_gets_one_line_and_exit_code_2(kronlit, tmp_path, content, words):
    code, _, err = kronlit("study", "--config", study_file(tmp_path, **content), "--dry_run", "true")
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert all(word in err for word in words), err


def test_a_dry_run_prints_how_the_search_begins(kronlit, tmp_path):
    code, out, _ = kronlit("study", "--config", study_file(tmp_path), "--dry_run", "true")
    *commands, then = out.splitlines()
    assert code == 0
    assert len(commands) == 12
    assert all("--test_after_fit false" in line and line.endswith("--stop_after_epochs 1") for line in commands)
    assert "4 runs" in then


def test_a_study_at_one_rate_says_what_it_is_worth():
    rate = {"model.lr": 3e-3}
    assert "model.lr=0.003" in worth(Study(["A", "B"], ["t"], options=rate))
    assert "one default rate" in worth(Study(["A", "B"], ["t"]))
    assert worth(Study(["A"], ["t"], options=rate)) is None
    assert worth(Study(["A", "B"], ["t"], options=rate, tune=Tune())) is None
    assert worth(Study({"A": rate, "B": {"model.lr": 1e-3}}, ["t"])) is None
    assert worth(Study({"A": rate, "B": rate}, ["t"])) is None  # said for each, and so meant
    assert worth(Study(["A", "B"], ["t"], grid={"model.lr": [1e-3, 3e-3]})) is None


# --- kronlit tune ---


@pytest.fixture
def fit_file(tmp_path):
    path = tmp_path / "fit.yaml"
    path.write_text("trainer: {max_epochs: 4}\nmodel: {lr: 0.002}\n")
    return path


def test_tune_improves_on_the_config_and_leaves_its_best(kronlit, tmp_path, stand_in, fit_file):
    code, out, err = kronlit("tune", "--config", fit_file, "--best", "0.1", "--processes", "2")
    assert code == 0, err
    root = tmp_path / "runs/tune/fit"
    assert {"best.yaml", "tuned.json", "scores.svg"} <= {path.name for path in root.iterdir()}
    assert yaml.safe_load((root / "best.yaml").read_text()) == {"model": {"lr": 0.1}}
    assert "of the config's own lr=0.002: 0.63" in (root / "best.yaml").read_text()  # 0.5 + 0.3 - 0.1 log10(50)
    lines = out.splitlines()
    assert any(line.split() == ["lr=0.1", "80.00", "4", "of", "4", "best"] for line in lines), out
    assert f"kronlit fit --config {fit_file} --best 0.1 --config runs/tune/fit/best.yaml  # trains the best" in lines
    (cell,) = read_tuned(root)
    assert 0.002 in cell.search["model.lr"]


def test_tune_searches_what_is_named(kronlit, tmp_path, stand_in, fit_file):
    words = ["--search.model.lr", "1e-3", "3e-3", "--search.model.method.scale", "[1, 4]", "--halving", "1"]
    code, _, err = kronlit("tune", "--config", fit_file, "--best", "0.012", "--extend", "0", "--dir", "d", *words)
    assert code == 0, err
    (cell,) = read_tuned(tmp_path / "d")
    assert len(cell.trials) == 6  # 1e-3, 2e-3 of the config, 3e-3; 1, 4
    assert cell.chosen == {"model.lr": 3e-3, "model.method.scale": 4}
    assert yaml.safe_load((tmp_path / "d/best.yaml").read_text()) == {"model": {"lr": 0.003, "method": {"scale": 4}}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--search.model.lr", "-1"], "'model.lr' has -1"),
        (["--search.model.lrr", "1"], "no option 'model.lrr'"),
        (["--search.model.lr"], "'model.lr' has []"),
        (["--trials", "3"], "must be at least 7"),
        (["--run_dir", "x"], "`run_dir` is what `kronlit tune` sets"),
        (["--seeds", "[0, 0]"], "[0, 0] must hold one or more"),
        (["--x"], "`x` has no value"),
    ],
)
def test_a_mistake_in_tune_gets_one_line(kronlit, stand_in, fit_file, words, said):
    code, _, err = kronlit("tune", "--config", fit_file, *words)
    assert (code, len(err.strip().splitlines())) == (2, 1), err
    assert said in err


# --- Optuna ---


def test_optuna_finds_a_peak_within_two_ranges_and_draws_the_same_after_a_kill():
    pytest.importorskip("optuna")
    search = {"lr": {"low": 1e-4, "high": 1.0}, "scale": {"low": 1e-2, "high": 1e2}}
    tune = Tune(search, sampler="optuna", trials=32)

    def score(rate, scale, epochs):
        return epochs - math.log10(rate / 1e-2) ** 2 - math.log10(scale / 3) ** 2

    own = {"lr": 0.5, "scale": 1.0}
    taken, cell = searched(score, tune, own=own)
    again, _ = searched(score, tune, own=own)
    assert taken == again
    assert len(cell.points) == 32
    assert cell.points[0] == own
    assert cell.trial(own).status == "done"
    assert {trial.status for trial in cell.cell().trials} == {"done", "stopped"}
    best = cell.cell().chosen
    assert score(*best.values(), 4) > 4 - 0.25  # of a grid of 32 points no one need be as near
    _, failing = searched(lambda *_: None, tune)
    assert failing.cell().chosen == {}


def test_optuna_that_is_missing_is_named(kronlit, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    path = study_file(tmp_path, tune={"sampler": "optuna"})
    code, _, err = kronlit("study", "--config", path, "--dry_run", "true")
    assert code == 2
    assert "`tune.sampler`='optuna' needs optuna" in err
    assert "kronlit[tune]" in err


def test_a_tuned_study_is_submitted_as_one_job(kronlit, tmp_path):
    code, out, _ = kronlit("submit", "study", "--config", study_file(tmp_path), "--dry_run", "--only", "A/*")
    assert code == 0
    assert "--array" not in out
    assert "-m kronlit study --config runs/studies/tuned/study.yaml --dir runs/studies/tuned --only 'A/*'" in out


# --- with the real thing ---


@pytest.fixture
def without_test_rows(tmp_path, config, glue, monkeypatch):
    """A config that asks for a test whose rows are not there."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    copy = tmp_path / "glue"
    shutil.copytree(glue, copy)
    gone = [path for path in (copy / "rte").rglob("*") if "test" in path.name]
    assert gone
    for path in gone:
        path.unlink()
    content = yaml.safe_load(config.read_text()) | {"test_after_fit": True}
    content["data"]["init_args"] |= {"path": str(copy), "splits": "official", "batch_size": 8}
    config.write_text(yaml.safe_dump(content))
    return config


@pytest.mark.slow
def test_a_search_reads_no_test_rows_and_its_best_is_laid_over_the_config(kronlit, tmp_path, without_test_rows):
    config = without_test_rows
    words = ["--search.model.lr", "1e-3", "1e-2", "--search.model.method.scale", "1", "4", "--extend", "0"]
    code, out, err = kronlit("tune", "--config", config, "--dir", "d", "--side_by_side", "2", *words)
    assert code == 0, out + err
    assert kronlit("fit", "--config", config, "--run_dir", "r")[0] == 2  # the test rows are needed, and not there
    laid = ["--config", config, "--config", "d/best.yaml", "--test_after_fit", "false", "--seed_everything", "0"]
    assert kronlit("fit", *laid, "--run_dir", "r")[0] == 0
    (cell,) = read_tuned(tmp_path / "d")
    (run,) = (tmp_path / "r").glob("version_*/summary.json")
    chosen = next(trial for trial in cell.trials if trial.point == cell.chosen)
    assert json.loads(run.read_text())["scores"]["val/score"] == chosen.scores[0]
    saved = yaml.safe_load((run.parent / "config.yaml").read_text())["model"]["init_args"]
    assert saved["lr"] == cell.chosen["model.lr"]
    assert saved["method"]["init_args"]["scale"] == cell.chosen["model.method.scale"]


@pytest.mark.slow
def test_a_real_tuned_study_compares_at_the_chosen_points(kronlit, tmp_path, config, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = study_file(
        tmp_path,
        configs=[str(config)],
        options={"model.method": "{method}", "test_after_fit": True, "data.batch_size": 8},
        methods=["KronA", "LoRA"],
        seeds=[1],
        tune={"search": {"model.lr": [1e-3, 1e-2]}, "extend": 0},
    )
    code, out, err = kronlit("study", "--config", path, "--dir", "s", "--processes", "2")
    assert code == 0, out + err
    for cell in read_tuned(tmp_path / "s"):
        result = read_result(tmp_path / f"s/t/{cell.method}/seed-1")
        assert f"--model.lr {cell.chosen['model.lr']}" in result.command
        assert "test/score" in result.scores


@pytest.mark.slow
def test_a_real_search_that_is_killed_leaves_the_same(tmp_path, without_test_rows):
    words = [sys.executable, "-c", RUN, "tune", "--config", without_test_rows, "--search.model.lr", "1e-3", "1e-2"]
    words = [*map(str, words), "--trainer.max_epochs", "4", "--processes", "2", "--extend", "1", "--dir"]
    whole = subprocess.run([*words, "whole"], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    for pattern in ("last.ckpt", "paused.json", "summary.json"):
        process = subprocess.Popen([*words, "killed"], start_new_session=True, stdout=subprocess.DEVNULL)
        while not list((tmp_path / "killed").rglob(pattern)):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = subprocess.run([*words, "killed"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert read_tuned(tmp_path / "killed") == read_tuned(tmp_path / "whole")
    one, two = ((tmp_path / name / "best.yaml").read_text().splitlines()[1:] for name in ("killed", "whole"))
    assert one == two
