"""A command that is ended from outside says so in a line, with the exit code of the signal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures.runs import environment

from kronlit.modules import SequenceClassification
from kronlit.studies.process import failure_reason
from kronlit.training import processes, signals


@pytest.fixture(autouse=True)
def _nothing_heard(monkeypatch):
    monkeypatch.setattr(signals, "_received", [])
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(monkeypatch, hook, *numbers):
    """Has signals come in a hook of the module."""
    real = getattr(SequenceClassification, hook)

    def sent(self, *arguments):
        for number in numbers:
            os.kill(os.getpid(), number)
        return real(self, *arguments)

    monkeypatch.setattr(SequenceClassification, hook, sent)


def test_a_fit_that_is_terminated_saves_ends_with_its_code_and_goes_on(kronlit, config, monkeypatch):
    always = ["fit", "--config", config, "--data.batch_size", "8"]
    with monkeypatch.context() as patch:
        send(patch, "on_train_batch_start", signal.SIGTERM)
        code, out, err = kronlit(*always)
    assert code == 143
    assert "asked to stop: saved" in out
    assert "Traceback" not in err
    path = "runs/small/version_0/checkpoints/last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == 1
    signals._received.clear()
    code, out, _ = kronlit(*always, "--ckpt_path", "last")
    assert (code, "starting afresh" in out) == (0, False)


def test_a_second_sigterm_ends_a_fit_at_once(kronlit, config, monkeypatch):
    monkeypatch.setattr(signals, "AGAIN", -1)
    send(monkeypatch, "on_train_batch_start", signal.SIGTERM, signal.SIGTERM)
    code, _, err = kronlit("fit", "--config", config)
    assert code == 143
    assert err.strip().splitlines()[-1] == "kronlit: ended by SIGTERM."
    assert not list(Path("runs").rglob("*.ckpt"))


STEPS = {"validate": "validation_step", "test": "test_step", "predict": "predict_step"}
ENDINGS = [(*step, signal.SIGTERM, "ended by SIGTERM") for step in STEPS.items()]
ENDINGS += [(*step, signal.SIGINT, "interrupted") for step in (STEPS | {"fit": "on_fit_start"}).items()]
"""Before a fit trains, SIGTERM ends it as it ends any process, without a line."""


@pytest.mark.parametrize(("command", "hook", "number", "line"), ENDINGS)
def test_what_is_ended_says_so(kronlit, config, monkeypatch, command, hook, number, line):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    send(monkeypatch, hook, number)
    code, _, err = kronlit(command, "--config", config)
    assert code == 128 + number
    assert err.strip().splitlines()[-1] == f"kronlit: {line}."
    assert "Traceback" not in err


@pytest.mark.parametrize("code", [-signal.SIGTERM, 128 + signal.SIGTERM])
def test_a_study_says_what_ended_a_run(tmp_path, code):
    (tmp_path / "log.txt").write_text("the last words\n")
    assert failure_reason(code, tmp_path / "log.txt") == "killed by SIGTERM"
    assert failure_reason(2, tmp_path / "log.txt") == "the last words"


def started(*words, **more):
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stderr=subprocess.PIPE, text=True, env=environment(), **more
    )


def test_ctrl_c_while_the_libraries_are_imported_is_one_line():
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
class Import:
    def find_spec(self, name, *rest):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)
from kronlit.__main__ import main
sys.meta_path.insert(0, Import())
main()
"""
    process = started("-c", code, "fit", "--config", "small.yaml")
    assert process.communicate()[1] == "kronlit: interrupted.\n"
    assert process.returncode == 130


@pytest.mark.parametrize(("words", "code"), [(["--help"], 141), (["configs", "list"], 141), (["study", "--help"], 0)])
def test_a_closed_pipe_is_silence(words, code):  # argparse takes it as no error
    reader, writer = os.pipe()
    os.close(reader)
    process = started("-m", "kronlit", *words, stdout=writer)
    os.close(writer)
    said = process.communicate()[1]
    assert (process.returncode, said) == (code, "")


GONE = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234"


def test_only_what_another_process_did_is_kept_quiet():
    assert processes.has_lost_another(RuntimeError(GONE))
    assert not processes.has_lost_another(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not processes.has_lost_another(ConnectionResetError("[Errno 104] Connection reset by peer"))


# Which of two processes fail where, what is said, and the exit code
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "hook", "error", "code"),
    [
        ((1,), "training_step", "UserError", 2),
        ((0, 1), "setup", "UserError", 2),
        ((1,), "training_step", "OverflowError", 1),
        ((0,), "training_step", "OverflowError", 1),
    ],
)
def test_of_two_processes_one_says_what_went_wrong(config, tmp_path, ranks, hook, error, code):
    (tmp_path / "main.py").write_text(f"""
from kronlit.__main__ import main
from kronlit.modules import SequenceClassification as Module
real = Module.{hook}
from kronlit.config.user_error import UserError
names = dict(__name__="kronlit.wrong", UserError=UserError)
exec("def wrong(): raise {error}('this is wrong')", names)
def spoilt(self, *arguments, **named):
    if self.trainer.global_rank in {ranks}:
        names["wrong"]()
    return real(self, *arguments, **named)
Module.{hook} = spoilt
main()
""")
    words = ["fit", "--config", config, "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    words += ["--trainer.num_sanity_val_steps", "0"]
    process = started(tmp_path / "main.py", *words, stdout=subprocess.DEVNULL, cwd=tmp_path)
    said = process.communicate()[1]
    assert process.returncode == code, said
    assert said.count("this is wrong") == 1
    assert said.count("Traceback") == (error == "OverflowError")
    assert "peer" not in said


@pytest.mark.slow
def test_two_processes_end_together_when_one_is_terminated(config, tmp_path):
    (tmp_path / "main.py").write_text("""
import os, signal
from kronlit.__main__ import main
from kronlit.modules import SequenceClassification as Module
def ask(self, batch, batch_idx):
    if self.global_rank == 1 and batch_idx == 1:
        os.kill(os.getpid(), signal.SIGTERM)
Module.on_train_batch_start = ask
main()
""")
    words = ["fit", "--config", config, "--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "4"]
    process = started(tmp_path / "main.py", *words, stdout=subprocess.PIPE, cwd=tmp_path)
    out, said = process.communicate()
    assert process.returncode == 143, said
    assert out.count("asked to stop: saved") == 1
    assert "Traceback" not in said
