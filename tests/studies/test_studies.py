"""Studies: what they run, and that nothing is lost or done twice however they end."""

import itertools
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fixtures.runs import ROOT, RUN

from kronlit.studies.plan import plan, points
from kronlit.studies.process import run_environment
from kronlit.studies.progress import seconds_left
from kronlit.studies.result import Result, read_result
from kronlit.studies.study import Study

# Stands for `kronlit fit` where only the study is under test: a loop of five steps, a checkpoint after each, and a
# score that is a function of the options.
FIT = """
import hashlib, json, sys, time
from pathlib import Path

words = sys.argv[1:]
options = dict(zip(words[1::2], words[2::2]))
folder = Path(options["--run_dir"])
if Path("broken").exists() and options.get("--fails") == "true":
    print("kronlit: `fails`=true must be false.")
    sys.exit(2)
found = sorted(folder.glob("version_*/last"))
version = found[-1].parent if found else folder / f"version_{len(list(folder.glob('version_*')))}"
version.mkdir(exist_ok=True)
step = int(found[-1].read_text()) if found else 0
while step < 5:
    while options.get("--held") == "true" and not Path("go").exists():
        time.sleep(0.02)
    time.sleep(float(options.get("--pause", 0)))
    step += 1
    (version / ".last").write_text(str(step))
    (version / ".last").replace(version / "last")
    with (folder / "steps").open("a") as file:
        file.write(f"{step}\\n")
shown = {k: v for k, v in options.items() if k not in ("--run_dir", "--pause", "--held")}
score = int(hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:6], 16) / 16**6
scores = {"val/score": score, "test/score": score / 2}
costs = {"trained_parameters": 10, "parameters": 1000, "per_cent": 1.0, "seconds": 1.0, "seconds_per_epoch": 0.5}
costs |= {"peak_memory_bytes": 5, "peak_memory_of": "process", "adapter_bytes": 40, "versions": {}}
(version / ".summary").write_text(json.dumps({"scores": scores} | costs))
(version / ".summary").replace(version / "summary.json")
"""


def study_file(tmp_path, **content):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"methods": ["A", "B"], "tasks": ["t"], "seeds": [1, 2]} | content))
    return path


def started(path, *arguments):
    """A study as a process group of its own."""
    words = [sys.executable, "-c", RUN, "study", "--config", path, "--processes", "2", *arguments]
    return subprocess.Popen(
        [*map(str, words)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finished(path, *arguments):
    process = started(path, *arguments)
    out = process.communicate()[0]
    assert process.returncode == 0, out
    return out


def wait_for(folder, pattern, count):
    while len(list(folder.glob(pattern))) < count:
        time.sleep(0.02)


def table(text):
    """The scores that a study printed."""
    return text.split("## Scores")[1].split("##")[0]


def results(root):
    return {path.parent.relative_to(root): read_result(path.parent) for path in root.rglob("run.json")}


# --- what a study is ---


def test_every_argument_of_a_study_has_its_help(kronlit):
    code, out, _ = kronlit("study", "--help")
    assert code == 0
    assert out.count("(required, type") == 2
    assert all(f"--{name} " in out for name in Study.__dataclass_fields__)
    assert "help: <not found>" not in out


def test_runs_are_the_product_of_all_axes():
    study = Study(
        ["A", "B"], ["s", "t"], seeds=[5, 6, 7], grid={"x": [1, 2], "y": [3, 4]}, method_grid={"B": {"x": [9]}}
    )
    runs = plan(study)
    expected = {
        (task, method, seed, x, y)
        for task in "st"
        for method in "AB"
        for seed in (5, 6, 7)
        for x, y in itertools.product([9] if method == "B" else [1, 2], [3, 4])
    }
    assert len(runs) == len(expected) == 36
    assert {(run.task, run.method, run.seed, run.point["x"], run.point["y"]) for run in runs} == expected
    assert len({run.folder for run in runs}) == 36


def test_a_command_is_put_together_from_the_general_to_the_particular():
    study = Study(
        methods={"M": ["m.yaml", {"o": "method"}]},
        tasks={"t": {"o": "task"}},
        configs=["base-{task}.yaml"],
        options={"o": "{method}", "list": [1, "a"], "flag": True, "none": None, "braces": '{"x": 1}'},
        cells={"M": {"t": {"o": "cell"}}},
        grid={"o": [0.001]},
        seeds=[13],
        seed_sets=["seed_everything", "data.split_seed"],
    )
    (run,) = plan(study)
    assert shlex.join(run.words) == (
        "--config base-t.yaml --o M --list '[1, \"a\"]' --flag true --none null --braces '{\"x\": 1}' --o task "
        "--config m.yaml --o method --o cell --o 0.001 --seed_everything 13 --data.split_seed 13"
    )


def test_later_words_win_with_kronlit_fit(kronlit, tmp_path, monkeypatch):
    # What the order of words is for: the real command line, a method that is named after a config names another.
    lines = "model: {class_path: SequenceClassification, init_args: {plm: x, lr: 0.5, method: {class_path: LoRA}}}"
    (tmp_path / "base.yaml").write_text(f"{lines}\ndata: MovieReviews\n")
    (tmp_path / "more.yaml").write_text("model: {init_args: {lr: 0.25}}\n")
    study = Study({"M": [{"model.lr": 0.1}, "more.yaml", {"model.method": "KronA"}]}, ["t"], ["base.yaml"], seeds=[7])
    code, out, _ = kronlit("fit", *plan(study)[0].words, "--print_config")
    config = yaml.safe_load(out)
    assert code == 0
    assert config["seed_everything"] == 7
    assert config["model"]["init_args"]["lr"] == 0.25
    assert config["model"]["init_args"]["method"]["class_path"].endswith("KronA")


def test_an_empty_grid_has_the_one_point_that_sets_nothing():
    assert points({}) == [{}]


MISTAKES = [
    ({"methods": []}, ["`methods`=[]"]),
    ({"seeds": [1, 1]}, ["`seeds`=[1, 1]"]),
    ({"sedes": [1]}, ["'sedes'", "did you mean 'seeds'?"]),
    ({"seeds": "many"}, ["seeds='many'"]),
    ({"select": "best"}, ["select='best'", "per_seed"]),
    ({"select": "per_seed", "select_by": "test/score"}, ["`select_by`='test/score'", "validation"]),
    ({"grid": {"x": []}}, ["'x' has no values"]),
    ({"configs": ["nowhere.yaml"]}, ["'nowhere.yaml'", "cannot be read"]),
    ({"cells": {"C": {}}}, ["`cells`: 'C'", "A, B"]),
    ({"cells": {"A": {"u": {}}}}, ["`cells`: 'u'", "there are t"]),
    ({"metric": {"u": "test/f1"}}, ["`metric`: 'u'"]),
    ({"published": {"source": "x", "scores": {"Aa": {"t": 1}}}}, ["`published.scores`: 'Aa'", "did you mean 'A'?"]),
    ({"methods": ["A,", "A."]}, ["both write", "t/A/seed-1"]),
]


@pytest.mark.parametrize(("content", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_gets_one_line_and_exit_code_2(kronlit, tmp_path, content, words):
    code, _, err = kronlit("study", "--config", study_file(tmp_path, **content), "--dry_run", "true")
    assert code == 2
    assert err.startswith("kronlit: ")
    assert len(err.strip().splitlines()) == 1
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processes", "0"], "`processes`=0"),
        (["--proceses", "2"], "did you mean 'processes'?"),
        (["--dir", "/dev/null"], "`dir`='/dev/null' cannot be written"),
    ],
)
def test_a_mistake_on_the_command_line_gets_one_line_too(kronlit, tmp_path, words, said):
    code, _, err = kronlit("study", "--config", study_file(tmp_path), *words)
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert said in err


def test_comments_and_places_of_configs_make_no_other_run(tmp_path):
    def config_hash(name, text, option=1):
        (tmp_path / name).write_text(text)
        return plan(Study(["A"], ["t"], [str(tmp_path / name)], {"o": option}, seeds=[1]))[0].config_hash()

    same = {config_hash("a.yaml", "# one\nlr: 1\n"), config_hash("b.yaml", "lr: 1  # two\n")}
    assert len(same) == 1
    others = {config_hash("a.yaml", "lr: 2\n"), config_hash("a.yaml", "lr: 1\n", option=2)}
    assert len(same | others) == 3


# --- how it runs ---


def test_what_is_done_is_not_done_again(kronlit, tmp_path, stand_in):
    path = study_file(tmp_path)
    code, first, _ = kronlit("study", "--config", path, "--processes", "2")
    assert code == 0
    root = tmp_path / "runs/studies/small"
    before = results(root)
    code, again, _ = kronlit("study", "--config", path)
    assert code == 0
    assert "4 runs, 4 of them done before" in again
    assert table(again) == table(first)
    assert results(root) == before

    # More seeds: the old ones stay.
    code, more, _ = kronlit("study", "--config", path, "--seeds", "[1, 2, 3]")
    assert "6 runs, 4 of them done before" in more
    assert {folder: result for folder, result in results(root).items() if folder in before} == before


def test_a_result_has_all_that_the_schema_says(kronlit, tmp_path, stand_in):
    subprocess.run(["git", "init", "-q", "."], check=True)
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m", "--allow-empty"], check=True
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    kronlit("study", "--config", study_file(tmp_path, grid={"x": [0.5]}), "--dir", "s")
    content = json.loads((tmp_path / "s/t/A/x=0.5/seed-1/run.json").read_text())
    import kronlit.studies.result as documented

    assert all(f"`{key}`" in documented.__doc__ for key in content)
    assert content["schema"] == 1
    assert (content["task"], content["method"], content["seed"], content["point"]) == ("t", "A", 1, {"x": 0.5})
    assert (content["status"], content["attempts"], content["exit_code"], content["error"]) == ("done", 1, 0, None)
    assert content["revision"].startswith(head)
    assert content["command"].startswith("kronlit fit --x 0.5 --seed_everything 1 --run_dir s/t/A/x=0.5/seed-1")
    assert content["started"] <= content["ended"]
    assert content["summary"] == json.loads((tmp_path / "s/t/A/x=0.5/seed-1/version_0/summary.json").read_text())


def test_a_failure_is_recorded_and_stops_nothing(kronlit, tmp_path, stand_in):
    path = study_file(tmp_path, methods={"A": {}, "bad": {"fails": True}}, seeds=[1])
    (tmp_path / "broken").touch()
    code, out, err = kronlit("study", "--config", path)
    assert code == 1
    assert "1 runs failed" in err
    assert "| A |" in out
    assert "| bad | missing |" in out
    folder = tmp_path / "runs/studies/small/t/bad/seed-1"
    result = read_result(folder)
    assert (result.status, result.exit_code, result.error) == ("failed", 2, "kronlit: `fails`=true must be false.")
    assert (folder / "log.txt").read_text().endswith("kronlit: `fails`=true must be false.\n")
    assert str(Path("runs/studies/small/t/bad/seed-1/log.txt")) in out.replace("\\_", "_")

    (tmp_path / "broken").unlink()
    assert kronlit("study", "--config", path)[0] == 1  # not asked to
    assert read_result(folder) == result
    assert kronlit("study", "--config", path, "--retry_failed", "true")[0] == 0
    assert (read_result(folder).status, read_result(folder).attempts) == ("done", 2)


def test_other_settings_make_a_run_anew_and_the_old_ones_bring_the_old_one_back(kronlit, tmp_path, stand_in):
    path = study_file(tmp_path, options={"o": 1}, seeds=[1])
    root = tmp_path / "runs/studies/small"
    kronlit("study", "--config", path)
    first = results(root)
    kronlit("study", "--config", path, "--options", "{o: 2}")
    second = {folder: result for folder, result in results(root).items() if "old" not in str(folder)}
    assert {result.hash for result in first.values()}.isdisjoint(result.hash for result in second.values())
    assert all(result.attempts == 1 for result in second.values())
    assert all(first[folder].scores != second[folder].scores for folder in first)
    _, out, _ = kronlit("study", "--config", path)
    assert "2 runs, 2 of them done before" in out
    assert {folder: result for folder, result in results(root).items() if "old" not in str(folder)} == first


def test_a_study_that_is_killed_at_random_moments_gives_the_same_table(tmp_path, stand_in):
    path = study_file(tmp_path, options={"pause": 0.1}, seeds=[1, 2, 3])
    whole = finished(path, "--dir", "whole")
    draw = random.Random(0)

    def steps():
        return sum(len(file.read_text().split()) for file in tmp_path.glob("killed/t/*/*/steps"))

    for _ in range(4):  # kills by steps, not by the clock: a fast machine would end first, a slow one never
        process = started(path, "--dir", "killed")
        goal = steps() + draw.randint(1, 5)
        while steps() < goal:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.1))
        assert process.poll() is None
        kill(process)
    out = finished(path, "--dir", "killed")
    assert table(out) == table(whole)
    runs = results(tmp_path / "killed")
    assert any(result.attempts > 1 for result in runs.values())
    for folder in runs:  # no step twice
        steps = (tmp_path / "killed" / folder / "steps").read_text().split()
        assert len(steps) == len(set(steps))
    assert not list((tmp_path / "killed").rglob("old-*"))


def test_two_studies_in_one_folder_do_not_mix(tmp_path, stand_in):
    path = study_file(tmp_path, options={"held": True})
    first = started(path, "--dir", "s")
    wait_for(tmp_path, "s/t/*/seed-1/version_0", 2)
    second = started(path, "--dir", "s")
    out = second.communicate()[0]
    assert second.returncode == 2
    assert f"`dir`='s' is in use by the study of process {first.pid}" in out

    os.kill(first.pid, signal.SIGKILL)  # the study alone: its runs live on, and hold the folder
    first.wait()
    third = started(path, "--dir", "s")
    out = third.communicate()[0]
    assert third.returncode == 2
    assert "or by runs that it left" in out
    (tmp_path / "go").touch()
    while (last := started(path, "--dir", "s")).wait() == 2:  # until they have ended
        last.communicate()
    assert "4 runs, 2 of them done before" in last.communicate()[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_stopped_ends_its_runs_and_can_go_on(tmp_path, stand_in, number):
    path = study_file(tmp_path, options={"held": True})
    process = started(path, "--dir", "s")
    wait_for(tmp_path, "s/t/*/seed-1/version_0", 2)
    while not all(result.pid for result in results(tmp_path / "s").values()):
        time.sleep(0.02)
    os.kill(process.pid, number)  # the study alone, as `kill` does
    out = process.communicate()[0]
    assert process.returncode == 128 + number
    assert out.strip().endswith("kronlit: stopped; the same command goes on from here.")
    for result in results(tmp_path / "s").values():
        assert result.status == "running"
        assert result.pid
        with pytest.raises(ProcessLookupError):
            os.kill(result.pid, 0)
    (tmp_path / "go").touch()
    assert "4 runs, 0 of them done before" in finished(path, "--dir", "s")


def test_a_run_that_is_killed_alone_has_failed(kronlit, tmp_path, stand_in):
    path = study_file(tmp_path, options={"held": True}, methods=["A"], seeds=[1])
    process = started(path, "--dir", "s")
    folder = tmp_path / "s/t/A/seed-1"
    wait_for(folder, "version_0", 1)
    while not read_result(folder).pid:
        time.sleep(0.02)
    os.kill(read_result(folder).pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == 1
    assert read_result(folder).exit_code == -9
    assert read_result(folder).error.startswith("killed by SIGKILL (the system does that when memory is short)")


@pytest.mark.parametrize(("text", "words"), [("{", "is not a result"), ('{"schema": 9}', "has schema 9, not 1")])
def test_a_result_that_cannot_be_read_is_named(kronlit, tmp_path, stand_in, text, words):
    folder = tmp_path / "s/t/A/seed-1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(text)
    code, _, err = kronlit("study", "--config", study_file(tmp_path), "--dir", "s")
    assert code == 2
    assert "s/t/A/seed-1/run.json" in err
    assert words in err


def test_cores_and_devices_are_shared_out(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert run_environment(1, None, 0)["OMP_NUM_THREADS"] == str(cores)
    assert run_environment(2 * cores, None, 0)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert run_environment(2, None, 0)["OMP_NUM_THREADS"] == "7"
    assert [run_environment(3, [4, 6], slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["4", "6", "4"]


def test_a_wrong_option_is_said_before_any_run_starts(kronlit, config, tmp_path):
    methods = {"right": {"model.lr": 0.01}, "wrong": {"model.lrr": 0.01}}
    fits = str(config.rename(tmp_path / "fit.yaml"))
    path = study_file(tmp_path, configs=[fits], tasks=["rte"], methods=methods)
    code, _, err = kronlit("study", "--config", path, "--dir", tmp_path / "out")
    assert code == 2
    assert "rte · wrong · seed 1: " in err
    assert "lrr" in err
    assert not (tmp_path / "out").exists()


def test_the_time_left_is_the_mean_of_the_tasks_own_runs():
    def done(task, seconds):
        times = {
            "started": "2026-01-01T23:59:00+00:00",
            "ended": f"2026-01-02T00:{seconds // 60:02}:{seconds % 60:02}+00:00",
        }
        return Result("done", "", task, "", 1, {}, "", 0, 1, revision=None, **times)

    runs = plan(Study(["A"], ["short", "long", "new"], seeds=[1]))
    seen = [done("short", 10), done("short", 20), done("long", 100)]  # and a minute before midnight each
    assert seconds_left([], runs, [], 2) is None
    assert seconds_left(seen, runs, [], 2) == pytest.approx((75 + 160 + 310 / 3) / 2)
    assert seconds_left(seen, runs[:1], [(runs[1], 60.0)], 1) == pytest.approx(75 + 100)
    assert seconds_left(seen, [], [(runs[1], 161.0)], 1) == 0


# --- with the real thing ---


@pytest.fixture
def real(tmp_path, tiny_bert, glue, monkeypatch):
    """A study of a real run on a tiny model."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    base = {
        "model": {"class_path": "SequenceClassification", "init_args": {"plm": str(tiny_bert)}},
        "data": {"class_path": "GLUE", "init_args": {"path": str(glue), "splits": "mahabadi", "batch_size": 8}},
        "trainer": {"max_epochs": 4, "accelerator": "cpu", "devices": 1},
        "test_after_fit": True,
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    options = {"data.task": "{task}", "model.method": "{method}", "scored_rows": True}
    return study_file(tmp_path, configs=["base.yaml"], options=options, methods=["KronA"], tasks=["rte"], seeds=[1])


def killed_when(path, moment, *arguments):
    """Start a study, and kill it with its runs as soon as `moment()` is true."""
    process = started(path, *arguments)
    while not moment() and process.poll() is None:
        time.sleep(0.01)
    kill(process)


@pytest.mark.slow
def test_a_real_study_goes_on_from_its_checkpoints_number_for_number(real, tmp_path):
    whole = finished(real, "--dir", "whole")
    root = tmp_path / "killed"

    def files(pattern):
        return lambda: bool(list(root.rglob(pattern)))

    killed_when(real, files("last.ckpt"), "--dir", "killed")
    killed_when(real, files("test_rows.csv"), "--dir", "killed")
    out = finished(real, "--dir", "killed")
    assert table(out) == table(whole)
    assert any(result.attempts > 1 for result in results(root).values())
    for folder, result in results(root).items():
        other = read_result(tmp_path / "whole" / folder)
        assert result.scores == other.scores
        assert len(result.scores) == 6
        for one, two in ((root, result), (tmp_path / "whole", other)):
            rows = (one / folder / two.fit / "test_rows.csv").read_text()
            assert rows == (tmp_path / "whole" / folder / other.fit / "test_rows.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_real_study_that_is_killed_at_random_moments_gives_the_same_table(real, tmp_path, seed):
    more = ["--methods", "[KronA, LoRA]"]
    whole = finished(real, "--dir", "whole", *more)
    draw = random.Random(seed)
    for _ in range(5):
        process = started(real, "--dir", "killed", *more)
        try:
            process.communicate(timeout=draw.uniform(4, 12))
        except subprocess.TimeoutExpired:
            kill(process)
    assert table(finished(real, "--dir", "killed", *more)) == table(whole)


def test_only_the_cells_that_are_named_run(tmp_path, stand_in):
    path = study_file(tmp_path, tasks=["s", "t"])
    out = finished(path, "--dir", tmp_path / "study", "--only", "A/t")
    assert set(results(tmp_path / "study")) == {Path("t/A/seed-1"), Path("t/A/seed-2")}
    assert "2 runs, 0 of them done before" in out
    finished(path, "--dir", tmp_path / "study")  # the same study goes on with the rest
    assert len(results(tmp_path / "study")) == 8
