"""What is read back from a run's metrics.csv."""

import pytest

from kronlit.metrics_csv import best_scores, metrics_rows

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
