"""What the system refuses is one line that names the file; what is whole is still used, and nothing half is left."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

import kronlit
from kronlit.exchange.new_folder import new_file, new_folder
from kronlit.exchange.saved_run import saved_run
from kronlit.training.checkpoint import AtomicCheckpoint

LONG = "a" * 300


@pytest.fixture
def kronlit_(kronlit):
    """The command line, beside the package of that name."""
    return kronlit


def the_line(code, err):
    (line,) = [line for line in err.splitlines() if line.startswith("kronlit: ")]
    assert code == 2, err
    assert "Traceback" not in err
    return line


# --- writing ---


@pytest.mark.parametrize("command", ["merge", "export"])
@pytest.mark.parametrize("left", [0, 5_000, 20_000, 60_000])
def test_a_full_disk_is_said_and_nothing_is_left(kronlit_, run_of, tiny_bert, small_disk, command, left):
    run, _ = run_of(tiny_bert, "KronA")
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        filler.write(bytes(shutil.disk_usage(small_disk).free - left))
    output = small_disk / "out"
    code, _, err = kronlit_(command, "--ckpt_path", run, "--output", output)
    if code == 0:
        assert command == "export"  # which is small
        return
    assert f"`output`={str(output)!r} cannot be written: No space left on device" in the_line(code, err)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


RUST = "No space left on device (os error 28)"


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (
            "transformers.PreTrainedModel.save_pretrained",
            SafetensorError(f"Error while serializing: {RUST}"),
        ),
        ("transformers.PreTrainedModel.save_pretrained", OSError(errno.ENOSPC, "No space left on device")),
        ("transformers.PreTrainedTokenizerFast.save_pretrained", Exception(RUST)),  # what tokenizers raises
        ("kronlit.exchange.trained.model_card", PermissionError(errno.EACCES, "Permission denied")),
    ],
    ids=["safetensors", "system", "tokenizers", "card"],
)
def test_whoever_cannot_write_it_is_one_line(kronlit_, run_of, tiny_bert, tmp_path, monkeypatch, target, error):
    run, _ = run_of(tiny_bert, "KronA")

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(target, refuse)
    code, _, err = kronlit_("merge", "--ckpt_path", run, "--output", "out")
    assert "`output`='out' cannot be written: " in (line := the_line(code, err))
    assert "No space left on device" in line or "Permission denied" in line
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize(
    ("output", "reason"),
    [(LONG, "File name too long"), ("file/out", "Not a directory"), ("file/deep/out", "Not a directory")],
    ids=["long", "below a file", "deep below a file"],
)
@pytest.mark.parametrize("command", ["merge", "export"])
def test_where_nothing_can_be_written_is_said_before_the_work(
    kronlit_, run_of, tiny_bert, monkeypatch, output, reason, command
):
    run, _ = run_of(tiny_bert, "KronA")
    Path("file").write_text("")
    monkeypatch.setattr(f"kronlit.exchange.{command}.open_trained", None)  # the work
    code, _, err = kronlit_(command, "--ckpt_path", run, "--output", output)
    assert f"`output`={output!r} cannot be written: {reason}." in the_line(code, err)


def test_a_folder_that_may_not_be_written_is_said_before_the_work(kronlit_, run_of, tiny_bert, tmp_path, monkeypatch):
    run, _ = run_of(tiny_bert, "KronA")
    monkeypatch.setattr("kronlit.exchange.merge.open_trained", None)
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write anywhere
    code, _, err = kronlit_("merge", "--ckpt_path", run, "--output", "deep/out")
    assert "`output`='deep/out' cannot be written: Permission denied." in the_line(code, err)


@pytest.mark.parametrize("make", [new_folder, new_file])
def test_what_cannot_be_read_meanwhile_is_not_said_of_the_output(tmp_path, make):
    for number, file in ((errno.EACCES, "other"), (errno.ENOENT, "other"), (errno.EIO, None)):
        with pytest.raises(OSError, match="other" if file else "output") as caught, make(tmp_path / "out"):
            raise OSError(number, "the output?", file and str(tmp_path / file))
        assert caught.value.errno == number
    with pytest.raises(OSError, match="can't load"), make(tmp_path / "out"):
        raise OSError("can't load")
    with pytest.raises(ValueError, match="cannot be written: Permission"), make(tmp_path / "out") as partial:
        raise PermissionError(errno.EACCES, "Permission denied", str(partial / "x"))
    with pytest.raises(ValueError, match="cannot be written: No space"), make(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "other"))
    assert not list(tmp_path.iterdir())


def test_a_name_of_almost_the_longest_is_written(kronlit_, run_of, tiny_bert):
    run, _ = run_of(tiny_bert, "KronA")
    assert kronlit_("export", "--ckpt_path", run, "--output", "a" * 255)[0] == 0
    assert Path("a" * 255, "adapter_config.json").is_file()


# --- reading ---


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"scores": 3}', b'{"scores": {"val/accuracy": "high"}}'],
    ids=["empty", "cut", "list", "no text", "deep", "no scores", "no number"],
)
@pytest.mark.parametrize("command", ["merge", "export", "info"])
def test_a_damaged_summary_costs_the_scores_alone(kronlit_, run_of, tiny_bert, command, content):
    run, _ = run_of(tiny_bert, "KronA")
    (run / "summary.json").write_bytes(content)
    words = [run] if command == "info" else ["--ckpt_path", run, "--output", "out"]
    code, out, err = kronlit_(command, *words)
    assert code == 0, err
    assert f"{run / 'summary.json'} is damaged: going on without its scores." in err
    assert "none recorded" in out if command == "info" else "None are recorded" in Path("out/README.md").read_text()


def test_links_to_nothing_are_passed_over_or_said(kronlit_, run_of, tiny_bert):
    run, _ = run_of(tiny_bert, "KronA")
    (run / "summary.json").unlink()
    (run / "summary.json").symlink_to("nowhere")
    (run / "checkpoints/best-gone.ckpt").symlink_to("nowhere")
    (run / "checkpoints/best-loop.ckpt").symlink_to("best-loop.ckpt")
    assert kronlit_("export", "--ckpt_path", run, "--output", "out")[0] == 0
    Path("link").symlink_to("nowhere")
    for words in (
        ["merge", "--ckpt_path", "link", "--output", "new"],
        ["merge", "--ckpt_path", run / "checkpoints/best-gone.ckpt", "--output", "new"],
        ["merge", "--ckpt_path", run, "--output", "link"],
        ["info", "link"],
    ):
        the_line(*kronlit_(*words)[::2])
    (run / "config.yaml").unlink()
    (run / "config.yaml").symlink_to("nowhere")
    code, _, err = kronlit_("merge", "--ckpt_path", run, "--output", "new")
    assert "has no config.yaml" in the_line(code, err)


@pytest.mark.parametrize(
    "words",
    [
        ["merge", "--ckpt_path", LONG, "--output", "new"],
        ["export", "--ckpt_path", LONG, "--output", "new"],
        ["info", LONG],
        ["info", f"{LONG}.yaml"],
        ["submission", "--predictions", LONG, "--output", "new.zip"],
        ["configs", "copy", LONG],
        ["configs", "copy", "krona_rte.yaml", "--output", LONG],
        ["configs", "check", LONG],
        ["fit", "--config", LONG],
    ],
    ids=lambda words: " ".join(word for word in words if "aaa" not in word),
)
def test_a_name_that_is_too_long_is_one_line(kronlit_, words):
    code, _, err = kronlit_(*words)
    assert LONG in the_line(code, err)


def test_a_name_that_is_too_long_is_no_adapter(tmp_path):
    with pytest.raises(ValueError, match=r"`source`='aaa.* is no folder"):
        kronlit.load(LONG)


@pytest.mark.parametrize("command", ["merge", "info"])
def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(
    kronlit_, run_of, tiny_bert, tmp_path, monkeypatch, command
):
    run, _ = run_of(tiny_bert, "KronA")
    deny(monkeypatch, ".ckpt")
    code, _, err = kronlit_(command, *([run] if command == "info" else ["--ckpt_path", run, "--output", "new"]))
    line = the_line(code, err)
    assert f"the checkpoint {str(saved_run(str(run)).checkpoint)!r} cannot be read: Permission denied." in line
    assert "damaged" not in line


def deny(monkeypatch, end):
    """Let no file whose name ends so be opened: root may open any."""
    real = open

    def refuse(file, *args, **kwargs):
        if str(file).endswith(end):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        AtomicCheckpoint().load_checkpoint(tmp_path)


def test_a_run_does_not_go_on_from_an_older_checkpoint_where_the_last_may_not_be_read(kronlit_, config, monkeypatch):
    assert kronlit_("fit", "--config", config, "--trainer.max_epochs", "1")[0] == 0
    deny(monkeypatch, "last.ckpt")
    code, _, err = kronlit_("fit", "--config", config, "--ckpt_path", "last")
    assert "last.ckpt' cannot be read: Permission denied." in the_line(code, err)


def test_damaged_weights_of_the_pretrained_model_are_named(kronlit_, run_of, tiny_bert, tmp_path):
    plm = shutil.copytree(tiny_bert, tmp_path / "plm")
    run, _ = run_of(plm, "KronA")
    content = (plm / "model.safetensors").read_bytes()
    for damaged in (b"", content[:100], content[:-100], b"\xff" * 100):
        (plm / "model.safetensors").write_bytes(damaged)
        code, _, err = kronlit_("merge", "--ckpt_path", run, "--output", "new")
        assert f"`model.plm`={str(plm)!r} cannot be loaded" in the_line(code, err)
    (plm / "model.safetensors").write_bytes(content)
    assert kronlit_("merge", "--ckpt_path", run, "--output", "new")[0] == 0


def test_a_submission_onto_a_full_disk_leaves_nothing(kronlit_, monkeypatch, tmp_path):
    monkeypatch.setattr("kronlit.exchange.submission.write.TASKS", {"glue": {}})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.close", full)
    Path("predictions").mkdir()
    code, _, err = kronlit_("submission", "--predictions", "predictions", "--output", "out.zip")
    assert "`output`='out.zip' cannot be written: No space left on device" in the_line(code, err)
    assert {path.name for path in tmp_path.iterdir()} == {"predictions"}


def test_a_deep_json_file_is_one_line(kronlit_, run_of, tiny_bert):
    run, _ = run_of(tiny_bert, "KronA")
    kronlit_("export", "--ckpt_path", run, "--output", "own", "--format", "kronlit")
    Path("own/adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        kronlit.load("own")
    assert json.loads(Path(run / "summary.json").read_text())
