"""Predictions that took long to make are kept, whatever happens when they are written."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only

from kronlit.modules import SequenceClassification
from kronlit.training.predictions import PredictionWriter, write_new


@pytest.fixture
def predict(kronlit, config, tmp_path):
    """Predicts three rows of one's own to out/mine.jsonl, or what else is named."""
    rows = [{"id": n, "sentence1": "the cat", "sentence2": "a dog"} for n in range(3)]
    rows[1]["id"] = "a whole 😀 pair"
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(out="out/mine.jsonl"):
        return kronlit("predict", "--config", config, "--data.predict_file", "mine.jsonl", "--predictions", out)

    return run


def at_the_end(monkeypatch, act):
    monkeypatch.setattr(SequenceClassification, "on_predict_epoch_end", lambda self: act(), raising=False)


def ids(path):
    return [json.loads(line)["id"] for line in Path(path).read_text().splitlines()]


EXPECTED = [0, "a whole 😀 pair", 2]


def test_a_character_that_has_no_encoding_comes_through(tmp_path):
    # No file of rows may hold one (tests/data/test_row_files.py), but the name of a class from a YAML may.
    lines = [{"label": "half \ud83d pair"}, {"label": "whole 😀 pair"}]
    write_new(tmp_path / "mine.jsonl", lines)
    assert [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text(encoding="utf-8").splitlines()] == lines
    write_new(tmp_path / "mine.csv", lines)
    with (tmp_path / "mine.csv").open(newline="", encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["half \\ud83d pair", "whole 😀 pair"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv", "mine.jsonl"]


def test_predictions_whose_folder_has_gone_are_in_that_of_the_run(predict, monkeypatch):
    at_the_end(monkeypatch, lambda: shutil.rmtree("out"))
    code, _, err = predict()
    assert code == 2
    kept = next(Path("runs/small/version_0").glob("predictions-*.jsonl"))
    assert err.strip().splitlines()[-1] == (
        "kronlit: `predictions`: 'out/mine.jsonl' cannot be written: No such file or directory. "
        f"All 3 of them are in {str(kept)!r}."
    )
    assert ids(kept) == EXPECTED


def test_a_file_that_came_meanwhile_is_not_overwritten(predict, monkeypatch):
    at_the_end(monkeypatch, lambda: Path("out/mine.jsonl").write_text("another's"))
    code, _, err = predict()
    assert code == 2
    assert "it exists by now" in err
    assert Path("out/mine.jsonl").read_text() == "another's"
    assert ids(next(Path("runs/small/version_0").glob("predictions-*.jsonl"))) == EXPECTED


def test_rows_whose_file_has_gone_meanwhile_are_still_told_apart(predict, monkeypatch):
    at_the_end(monkeypatch, lambda: Path("mine.jsonl").unlink())
    code, _, err = predict()
    assert code == 0, err
    assert ids("out/mine.jsonl") == EXPECTED


def test_a_prediction_that_fails_leaves_no_empty_file(predict, monkeypatch):
    def wrong(*_):
        raise OverflowError

    monkeypatch.setattr(SequenceClassification, "predict_step", wrong)
    with pytest.raises(OverflowError):
        predict()
    assert not list(Path("out").iterdir())


def test_another_process_than_the_first_asks_for_no_place(tmp_path, monkeypatch):
    path = tmp_path / "predictions.jsonl"
    path.touch()  # of another run: this process does not know where the first writes
    with pytest.raises(ValueError, match="exists already"):
        PredictionWriter(path)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    PredictionWriter(path)
