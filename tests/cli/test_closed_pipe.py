"""What cannot be written, to a pipe or a folder, ends in silence or in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.runs import environment

from kronlit.__main__ import main


def test_a_reader_that_has_gone_ends_the_listing_in_silence():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "kronlit", "configs", "list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    os.close(writer)
    assert (done.stderr, done.returncode) == ("", 141)


def test_info_into_a_closed_pipe_is_silent(run_of, tiny_bert, monkeypatch):
    run, _ = run_of(tiny_bert, "KronA")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        monkeypatch.setattr(sys, "argv", ["kronlit", "info", str(run)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert stop.value.code == 141


@pytest.mark.parametrize("name", ["quickstart.yaml", "methods"])
def test_a_copy_that_cannot_be_written_is_a_line(kronlit, name):
    code, _, err = kronlit("configs", "copy", name, "--output", "/dev/null/x/y")
    assert code == 2
    assert err == "kronlit: `output`='/dev/null/x/y' cannot be written: Not a directory; name another place.\n"


@pytest.mark.parametrize("name", ["quickstart.yaml", "methods"])
def test_a_copy_that_stops_half_way_is_a_line(kronlit, monkeypatch, name):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    code, _, err = kronlit("configs", "copy", name, "--output", "mine")
    assert code == 2
    assert "`output`='mine' cannot be written: " in err
    assert "No space left on device" in err
    assert len(err.splitlines()) == 1
    assert not Path("mine").exists()
