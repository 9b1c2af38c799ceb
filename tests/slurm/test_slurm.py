"""Jobs on a real Slurm of one node; run with `-m slurm`."""

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml

pytestmark = pytest.mark.slurm
HERE = Path(__file__).parent
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munge", "setpriv")
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT")


@pytest.fixture(scope="module", autouse=True)
def _slurm(tmp_path_factory):
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"no Slurm here: {', '.join(missing)} not found (Debian: apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one's own takes root")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", HERE / "start.sh", folder], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PYTHONPATH", str(HERE.parents[1]))
        patch.setenv("OMP_NUM_THREADS", "1")
        with socket.socket() as free:  # Lightning's own choice, by the job's number, may be taken on this machine
            free.bind(("127.0.0.1", 0))
            patch.setenv("MASTER_PORT", str(free.getsockname()[1]))
        yield
        subprocess.run(["bash", HERE / "stop.sh", folder], check=True)


def slurm(*words):
    return subprocess.run([*map(str, words)], capture_output=True, text=True, check=True).stdout


def queued(job):
    """State and reason of a job, or of each task of an array, that has not ended."""
    # All states, since a job that is being queued again is for a moment in none of those that squeue shows unasked.
    words = ["squeue", "--noheader", "--array", "--states", "all", "--jobs", job, "--format", "%i|%T|%r"]
    while (done := subprocess.run(words, capture_output=True, text=True)).returncode:
        if "Invalid job id" in done.stderr:  # it ended a while ago
            return {}
        time.sleep(0.2)  # a controller that is busy may hang up, or not be reached in time: that is no end of a job
    lines = [line.split("|") for line in done.stdout.splitlines()]
    return {number: (state, reason) for number, state, reason in lines if state not in ENDED}


def wait(job, until=lambda: False):
    """Wait until something is so, or a job has ended; one that was queued again need not wait for its two minutes."""
    hurried = set()
    while not until() and (tasks := queued(job)):
        for number, (state, reason) in tasks.items():
            if (state, reason) == ("PENDING", "BeginTime") and number not in hurried:
                hurried.add(number)
                # Not at once: a node refuses a job whose credential is of the second in which the last was revoked.
                # The update fails if the job runs by now.
                subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now+3"])
        time.sleep(0.2)


def submitted(kronlit, *words):
    code, out, err = kronlit("submit", *words)
    assert code == 0, err
    return re.search(r"submitted job (\d+)", out)[1]


def rows(path):
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if v and k != "train/epoch_seconds"} for row in csv.DictReader(file)]


def steps(path):
    """Steps that a run has logged."""
    return sum("train/loss" in row for row in rows(path)) if path.exists() else 0


def fit(kronlit, config):
    words = ["--tasks-per-node", "2", "--time", "60", "--data.batch_size", "4", "--trainer.log_every_n_steps", "1"]
    words += ["--trainer.max_epochs", "40", "--model.lr", "0.01", "--trainer.enable_progress_bar", "false"]
    job = submitted(kronlit, "--config", config, *words)
    return job, Path(f"runs/small/job-{job}/version_0").absolute(), Path(f"runs/small/slurm-{job}.log").absolute()


def test_a_job_of_two_processes_that_is_queued_again_ends_as_an_undisturbed_one(kronlit, config):
    whole_job, whole, _ = fit(kronlit, config)
    wait(whole_job)
    job, again, log = fit(kronlit, config)
    wait(job, lambda: steps(again / "metrics.csv") >= 20)
    slurm("scancel", "--signal=USR1", job)  # as --signal does before the time limit, and pre-emption on request
    wait(job, lambda: "PENDING" in str(queued(job)))
    wait(job)
    print(log.read_text())
    assert "Restarts=1" in slurm("scontrol", "show", "job", job)
    assert log.read_text().count("asked to stop: saved") == 1
    assert log.read_text().count("\nbest checkpoint: ") == 1  # the end of a fit, in the same log
    assert len(list(again.parent.iterdir())) == 1
    assert steps(whole / "metrics.csv") == 40 * 6  # 41 rows in batches of 8
    assert rows(again / "metrics.csv") == rows(whole / "metrics.csv")
    ours, theirs = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (again, whole))
    assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())


def test_a_job_that_is_pre_empted_saves_and_comes_back(kronlit, config):
    job, run, log = fit(kronlit, config)
    wait(job, lambda: steps(run / "metrics.csv") >= 20)
    other = slurm(
        "sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true"
    ).strip()
    wait(other)
    wait(job)
    assert "Restarts=1" in slurm("scontrol", "show", "job", job)
    assert log.read_text().count("asked to stop: saved") == 1
    assert steps(run / "metrics.csv") == 40 * 6


def test_a_job_that_is_cancelled_stays_so(kronlit, config):
    job, run, _ = fit(kronlit, config)
    wait(job, lambda: steps(run / "metrics.csv") >= 20)
    slurm("scancel", job)
    wait(job)
    assert "JobState=CANCELLED" in slurm("scontrol", "show", "job", job)


def test_one_run_of_a_study_that_is_queued_again_leaves_the_others_alone(kronlit, config, tmp_path):
    options = {"data.batch_size": 4, "trainer.log_every_n_steps": 1, "trainer.max_epochs": 40}
    study = {"configs": [str(config)], "tasks": ["rte"], "methods": {"lora": {"model.method": "LoRA"}}}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(study | {"options": options, "seeds": [1, 2]}))
    job = submitted(kronlit, "study", "--config", "two.yaml", "--dir", "two")
    run = tmp_path / "two/rte/lora"
    wait(job, lambda: steps(run / "seed-1/version_0/metrics.csv") >= 20)
    slurm("scancel", "--signal=USR1", f"{job}_0")
    wait(job)
    results = [json.loads((run / f"seed-{seed}/run.json").read_text()) for seed in (1, 2)]
    assert [result["status"] for result in results] == ["done", "done"], list(tmp_path.glob("two/*.log"))
    assert [result["attempts"] for result in results] == [2, 1]
    assert steps(run / "seed-1/version_0/metrics.csv") == 40 * 11
    assert "rte" in kronlit("study", "report", "two")[1]
