"""What a run prints and leaves."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from fixtures.runs import environment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def in_terminal(*words, columns=80):
    """What a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    surroundings = {**environment(), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "kronlit", *map(str, words)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=surroundings,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.close(ours)
    return process.wait(), written.decode()


def lines_of(written):
    """The lines that appear on a terminal, one after the other, without what steers it."""
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "\r", written)) if line.strip()]


def test_a_fit_fits_eighty_columns_and_says_what_comes_next(config):
    code, written = in_terminal("fit", "--config", config, "--data.batch_size", "8", "--test_after_fit", "false")
    assert code == 0, written
    lines = lines_of(re.sub(r"\x1b\[[0-9;]*m", "", written))
    bars = [line for line in lines if "━" in line]
    assert bars
    assert max(map(len, bars)) <= 80, "\n".join(map(repr, lines))
    assert any(line.startswith("epoch 1/2") for line in bars)
    assert any("batches/s" in line and "left" in line for line in bars)
    ended = [line for line in lines if re.match(r"epoch [12]/2 · train/loss", line)]
    assert [line[:9] for line in ended] == ["epoch 1/2", "epoch 2/2"]
    assert all("val/score" in line for line in ended)
    for noise in ("GPU available", "TPU available", "Seed set", "Loading `train", "Failed to load", "tip"):
        assert noise not in written
    assert "kronlit merge --ckpt_path runs/small/version_0 --output merged" in written
    run = config.parent / "runs/small/version_0"
    assert not (run / "lock").exists()
    assert not (run / "hparams.yaml").exists()
    assert (run / "metrics.csv").exists()


def test_tensorboard_has_the_settings_and_the_final_score(kronlit, config):
    assert kronlit("fit", "--config", config, "--trainer.max_steps", "2", "--model.lr", "0.004")[0] == 0
    run = config.parent / "runs/small/version_0"
    events = EventAccumulator(str(run)).Reload()
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(plugin).session_start_info.hparams
    assert settings["model.lr"].number_value == 0.004
    assert settings["model.method"].string_value == "KronA"
    scores = json.loads((run / "summary.json").read_text())["scores"]
    assert events.Scalars("final/val/score")[-1].value == pytest.approx(scores["val/score"])


def test_a_stopped_run_says_how_it_goes_on(kronlit, config):
    code, out, _ = kronlit("fit", "--config", config, "--stop_after_epochs", "1")
    assert code == 75
    command = out.split("it goes on with: kronlit ")[1].splitlines()[0].split()
    code, out, _ = kronlit(*command)
    assert code == 0
    assert "run directory: runs/small/version_0" in out


def test_rows_that_are_not_there_to_test_are_missed_before_training(kronlit, config, tmp_path):
    rows = tmp_path / "mine.csv"
    rows.write_text("text,label\n" + "good,1\nbad,0\n" * 10)
    words = ["fit", "--config", config, "--data", "TextFiles", "--data.train", rows, "--test_after_fit", "true"]
    code, out, err = kronlit(*words)
    assert code == 2
    assert "`test_after_fit`=True: there are no test rows" in err.splitlines()[-1]
    assert "epoch" not in out
