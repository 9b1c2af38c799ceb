"""A training that is killed over and over, and always told to go on, ends as if it had never been.

Run as a program this file is what kills: it imports everything once, and forks a process for each life of a training,
which ends itself with SIGKILL at a call of a function that was drawn beforehand, wherever that may be: no clock says
when.
"""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures.runs import ROOT, environment, rows_of

CHOICES = (
    *(
        "--model.optimizer",
        "Adafactor",
        "--model.optimizer_args",
        '{"beta2_decay": -0.5}',
        "--model.schedule",
        "cosine",
    ),
    *("--model.warmup", "2", "--model.head_lr", "0.001", "--model.lr_multipliers", '{"b": 16}'),
)
"""Choices of training none of which is the default."""


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "choices"), [(4, ()), (12, CHOICES), (50, ())])
def test_a_training_that_is_killed_at_random_moments_ends_as_an_undisturbed_one(config, tmp_path, kills, choices):
    always = ["--config", config, "--data.batch_size", "8", "--trainer.log_every_n_steps", "1", "--model.lr", "0.01"]
    always += ["--trainer.val_check_interval", "0.5", "--trainer.enable_progress_bar", "false", *choices]
    words = [*map(str, [sys.executable, __file__, kills, *always])]
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    alone = environment(PYTHONPATH=path, TOKENIZERS_PARALLELISM="false")
    done = subprocess.run(words, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    whole, *others = sorted(tmp_path.glob("*/version_*/summary.json"), key=lambda path: path.stat().st_mtime)
    assert others
    assert done.stdout.count("killed") == kills
    assert len(rows_of(whole.parent)) > 12  # two epochs of six steps, and their validations
    for other in others:
        assert rows_of(other.parent) == rows_of(whole.parent)
        assert {path.name for path in other.parent.rglob("*.ckpt")} == {p.name for p in whole.parent.rglob("*.ckpt")}
        for path in whole.parent.rglob("*.ckpt"):
            ours = torch.load(other.parent / "checkpoints" / path.name, weights_only=True)["state_dict"]
            theirs = torch.load(path, weights_only=True)["state_dict"]
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def life(words, end):
    """One process of a training, which kills itself at its call number `end`; whether it came to its own end."""
    if pid := os.fork():
        status = os.waitpid(pid, 0)[1]
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL), Path("log").read_text()[-3000:]
        return code == 0
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += 1
        if calls == end:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.argv = ["kronlit", "fit", *words]
    code = 1
    try:
        sys.setprofile(count)
        main()
        sys.setprofile(None)
        Path("calls").write_text(str(calls))
        code = 0
    finally:
        os._exit(code)


def kill_over_and_over(kills, words):
    assert life([*words, "--run_dir", "whole"], None)
    calls = int(Path("calls").read_text())
    draw = random.Random(kills)
    training, lives, done = 0, 0, False
    while kills or not done:
        # Of a life's calls two thirds are its start
        end = draw.randrange(draw.choice([0, calls * 2 // 3]), calls) if kills else None
        done = life([*words, "--run_dir", f"killed-{training}", "--ckpt_path", "last"], end)
        lives += 1
        kills -= not done
        logged = sum(len(path.read_text().splitlines()) for path in Path().glob(f"killed-{training}/*/metrics.csv"))
        print(f"life {lives}:", "ended" if done else f"killed at call {end} of {calls}, {logged} lines logged")
        training += done


if __name__ == "__main__":
    import kronlit.cli.fit  # noqa: F401 - once, for all lives
    from kronlit.__main__ import main

    kill_over_and_over(int(sys.argv[1]), sys.argv[2:])
