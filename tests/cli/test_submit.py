"""What `kronlit submit` asks of Slurm; tests/slurm has a real one."""

import os
import shlex
import subprocess

import pytest
import yaml
from fixtures.runs import ROOT, environment

LAYERS = sorted((ROOT / "configs/slurm").glob("*.yaml"))


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a program of that name, of lines of shell, the first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name, lines):
        (folder / name).write_text(f"#!/usr/bin/env bash\n{lines}\n")
        (folder / name).chmod(0o755)

    return make


def options(text):
    return [shlex.split(line)[1] for line in text.splitlines() if line.startswith("#SBATCH")]


def test_a_fit_is_one_job_of_nodes_and_processes(kronlit, config):
    words = ["--nodes", "2", "--gpus-per-node=4", "--slurm.time", "90", "--sbatch", '["--account=me"]']
    code, out, _ = kronlit("submit", "--config", config, "--model.lr", "0.5", *words, "--dry_run")
    assert code == 0
    assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--time=90", "--account=me"} <= set(options(out))
    assert {"--requeue", "--open-mode=append", "--output=runs/small/slurm-%j.log"} <= set(options(out))
    assert "--model.lr 0.5 --trainer.num_nodes 2 --trainer.devices 4 --ckpt_path last" in out
    assert 'runs/small/"job-$SLURM_JOB_ID"' in out


def test_a_study_is_one_array_that_knows_its_runs(kronlit, program, tmp_path):
    study = {"tasks": ["a", "b"], "methods": ["x"], "seeds": [1, 2, 3], "slurm": {"time": "9:00:00", "at_once": 2}}
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(study))
    program("sbatch", "cat > script; echo '12;cluster'")
    code, out, _ = kronlit("submit", "study", "--config", "many.yaml", "--dir", "there")
    assert code == 0
    assert "submitted job 12;" in out
    text = (tmp_path / "script").read_text()
    assert {"--array=0-5%2", "--time=9:00:00", "--output=there/slurm-%A_%a.log"} <= set(options(text))
    program("srun", 'while [[ $1 = --* ]]; do shift; done; "$@" --dry_run true')  # the command of task 4
    job = environment(SLURM_ARRAY_TASK_ID="4")
    done = subprocess.run(["bash", "script"], capture_output=True, text=True, env=job, check=True)
    assert done.stdout.count("kronlit fit") == 6
    assert yaml.safe_load((tmp_path / "there/study.yaml").read_text())["seeds"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "state", "again"),
    [(75, "RUNNING", True), (75, "COMPLETING", False), (0, "RUNNING", False), (1, "RUNNING", False)],
)
@pytest.mark.parametrize(("command", "job"), [("fit", "7"), ("study", "5_3")])
def test_a_job_is_queued_again_under_its_own_id_when_it_was_asked_to_stop(
    kronlit, program, tmp_path, config, code, state, again, command, job
):
    (tmp_path / "many.yaml").write_text("{tasks: [a], methods: [x]}")
    words = ["--config", config] if command == "fit" else ["study", "--config", "many.yaml"]
    text = kronlit("submit", *words, "--dry_run")[1]
    program("srun", f"exit {code}")
    program("squeue", f"[[ $* = *' {job} '* ]] && echo {state}")
    program("scontrol", 'echo "$@" > asked')
    ids = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}
    assert subprocess.run(["bash"], input=text, text=True, env=os.environ | ids).returncode == code
    asked = (tmp_path / "asked").read_text().split() if (tmp_path / "asked").exists() else None
    assert asked == (["requeue", job] if again else None)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--nodes", "0"], "kronlit: `nodes`=0 must be at least 1."),
        (["--gpus_per_node", "many"], "kronlit: gpus_per_node='many' must be of type int."),
        (["--gpus_per_node", "4", "--tasks_per_node", "2"], "kronlit: `tasks_per_node`=2 must be `gpus_per_node`=4"),
        (["--trainer.devices", "3"], "kronlit: `trainer.devices` is what `kronlit submit` sets: leave it out."),
        (["--time", "1 hour"], "kronlit: `time`='1 hour' must be one word."),
        (["--sbatch", '["-A me"]'], "kronlit: `sbatch`='-A me' must be an option of sbatch"),
        (["--sbatch", '["--a=1\\nrm -r x"]'], "kronlit: '--a=1\\nrm -r x' must be one line."),
        (["--run_dir", "a\nrm -r x"], "kronlit: '--output=a\\nrm -r x/slurm-%j.log' must be one line."),
        (["--config", "time.yaml"], "kronlit: `slurm.time` in 'time.yaml' must be in quotes"),
        (["--config", "typo.yaml"], "kronlit: there is no option 'nodse'; did you mean 'nodes'?"),
        (["--config", "none.yaml"], "kronlit: `config`='none.yaml' cannot be read: No such file or directory."),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_a_mistake_is_found_before_anything_is_submitted(kronlit, config, program, tmp_path, words, line):
    (tmp_path / "time.yaml").write_text("slurm: {time: 1:30:00}")
    (tmp_path / "typo.yaml").write_text("slurm: {nodse: 3}")
    program("sbatch", "touch submitted")
    code, _, err = kronlit("submit", "--config", config, *words)
    assert code == 2
    assert err.startswith(line)
    assert not (tmp_path / "submitted").exists()


def test_sbatch_that_refuses_or_is_not_there_is_said(kronlit, config, program, monkeypatch, tmp_path):
    program("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    code, _, err = kronlit("submit", "--config", config)
    assert (code, err) == (2, "kronlit: sbatch refused the job: sbatch: error: invalid partition\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = kronlit("submit", "--config", config)
    assert code == 2
    assert "there is no `sbatch` here" in err


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.name)
def test_the_command_in_a_layers_header_gives_a_script(kronlit, path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("# kronlit submit")]
    code, out, err = kronlit(*shlex.split(line)[2:], "--dry_run")
    assert code == 0, err
    assert f"--time={yaml.safe_load(path.read_text())['slurm']['time']}" in options(out)


def test_a_fit_takes_a_layer_and_passes_over_what_is_slurms(kronlit, config, tmp_path):
    (tmp_path / "layer.yaml").write_text("slurm: {nodes: 4, time: '1:00:00'}\ntrainer: {fast_dev_run: true}\n")
    assert kronlit("fit", "--config", config, "--config", "layer.yaml")[0] == 0
