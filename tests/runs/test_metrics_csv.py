"""What is written to a run's metrics.csv, whatever happens meanwhile, and read back from it."""

from pathlib import Path

import pytest

from kronlit.training.metrics_logger import MetricsFile
from kronlit.training.metrics_reader import best_scores, metrics_rows

# A step's line, the validations of three epochs of which two are equally good, and two tests
TEXT = """step,epoch,train/loss,val/score,val/loss,val_mismatched/score,test/score
0,0,0.9,,,,
1,0,,0.5,0.7,0.45,
3,1,,0.8,0.6,0.75,
5,2,,0.8,0.9,0.1,
6,2,,,,,0.25
6,2,,,,,0.75
"""


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "metrics.csv").write_text(TEXT)
    return metrics_rows(tmp_path / "metrics.csv")


def test_empty_cells_are_left_out(rows, tmp_path):
    assert rows[0] == {"step": 0, "epoch": 0, "train/loss": 0.9}
    assert metrics_rows(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    ("monitor", "mode", "expected"),
    [
        ("val/score", "max", [0.8, 0.6, 0.75]),  # the first of the best, as the checkpoint is
        ("val/loss", "min", [0.8, 0.6, 0.75]),
        ("val/loss", "max", [0.8, 0.9, 0.1]),
        (None, "max", [0.8, 0.9, 0.1]),
        ("val/f1", "max", [0.8, 0.9, 0.1]),
    ],
)
def test_scores_are_those_of_the_best_checkpoint_and_the_last_test(rows, monitor, mode, expected):
    names = ("val/score", "val/loss", "val_mismatched/score")
    assert best_scores(rows, monitor, mode) == dict(zip(names, expected, strict=True)) | {"test/score": 0.75}


def test_without_validation_there_is_the_test_alone(rows):
    assert best_scores(rows[-2:], "val/score", "max") == {"test/score": 0.75}
    assert best_scores([], "val/score", "max") == {}


def written(tmp_path, step=0):
    return MetricsFile(tmp_path, 3, step), tmp_path / "version_3/metrics.csv"


def test_rows_are_in_the_file_as_soon_as_they_are_logged(tmp_path):
    file, path = written(tmp_path)
    file.log_metrics({"train/loss": 0.1 + 0.2, "epoch": 0}, 9)
    assert path.read_bytes() == b"epoch,step,train/loss\r\n0,9,0.30000000000000004\r\n"
    file.log_metrics({"train/loss": 0.5, "epoch": 0}, 19)
    file.log_metrics({"val/score": 0.5, "epoch": 0}, 20)
    file.log_metrics({"train/loss": 0.25, "epoch": 1}, 29)
    lines = ["epoch,step,train/loss,val/score", "0,9,0.30000000000000004,", "0,19,0.5,", "0,20,,0.5", "1,29,0.25,", ""]
    assert path.read_text().split("\n") == lines
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.csv"]


def test_a_run_that_goes_on_keeps_the_rows_before_its_step(tmp_path):
    file, path = written(tmp_path)
    for step in range(4):
        file.log_metrics({"train/loss": step, "lost" if step == 3 else "kept": 1}, step)
    with path.open("a") as torn:
        torn.write("1,0")  # of a row of step 1000
    again, _ = written(tmp_path, step=3)
    again.log_metrics({"train/loss": 7}, 3)
    again.log_metrics({"train/loss": 8}, 4)
    expected = [{"step": step, "train/loss": step, "kept": 1} for step in range(3)]
    assert metrics_rows(path) == [*expected, {"step": 3, "train/loss": 7}, {"step": 4, "train/loss": 8}]
    assert "lost" not in path.read_text()


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_kill_while_the_file_is_written_anew_loses_no_row(tmp_path, monkeypatch, goes_on):
    file, path = written(tmp_path)
    for step in range(4):
        file.log_metrics({"train/loss": step}, step)
    before = path.read_bytes()
    if goes_on:
        file, _ = written(tmp_path, step=4)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            file.log_metrics({"val/loss": 5}, 4)
    assert path.read_bytes() == before
    again, _ = written(tmp_path, step=4)
    again.log_metrics({"val/loss": 5}, 4)
    assert metrics_rows(path) == [*({"step": n, "train/loss": n} for n in range(4)), {"step": 4, "val/loss": 5}]


def test_a_row_of_the_step_from_which_a_run_goes_on_is_written_anew(tmp_path):
    # Step 3 was in the file when the run was killed, and is done again: there is one row of it.
    file, path = written(tmp_path)
    for step in range(5):
        file.log_metrics({"train/loss": step}, step)
    again, _ = written(tmp_path, step=3)
    again.log_metrics({"train/loss": 30}, 3)
    assert [row["step"] for row in metrics_rows(path)] == [0, 1, 2, 3]
    assert metrics_rows(path)[-1] == {"step": 3, "train/loss": 30}


def test_rows_without_a_step_do_not_stop_a_run_that_goes_on(tmp_path):
    file, path = written(tmp_path)
    file.log_metrics({"train/loss": 1}, 0)
    with path.open("a") as file:
        file.write(",9.5\r\nx,8.5\r\n")
    again, _ = written(tmp_path, step=1)
    again.log_metrics({"train/loss": 2}, 1)
    assert metrics_rows(path) == [{"step": 0, "train/loss": 1}, {"step": 1, "train/loss": 2}]


def test_a_row_that_a_kill_has_torn_is_dropped_whatever_its_step(tmp_path):
    file, path = written(tmp_path)
    file.log_metrics({"train/loss": 0.5}, 0)
    with path.open("a") as torn:
        torn.write("1,0.1")  # of 0.125
    again, _ = written(tmp_path, step=2)
    again.log_metrics({"train/loss": 2}, 2)
    assert metrics_rows(path) == [{"step": 0, "train/loss": 0.5}, {"step": 2, "train/loss": 2}]
