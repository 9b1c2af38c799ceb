"""What a run prints and leaves."""

import fcntl
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
