"""A run means by classes and columns what it was trained on, whatever becomes of the files."""

import csv
import json

import lightning
import pytest
from transformers import AutoModelForSequenceClassification

import kronlit as package
from kronlit.data import TextFiles
from kronlit.methods import KronA
from kronlit.modules import SequenceClassification
from kronlit.training.checkpoint import AtomicCheckpoint

ROWS = [("a good film", "good"), ("a bad dog", "bad"), ("the red house", "middling"), ("good cat", "good")] * 5


def write(path, rows, header=("text", "label")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def trained(kronlit, tmp_path, tiny_bert, run_of):
    """A run on a file of three classes, the words that used it, and what the model says of two texts."""
    train = write(tmp_path / "train.csv", ROWS)
    new = write(tmp_path / "new.csv", [("a good film",), ("a bad dog",)], ("text",))
    words = ["--model", "SequenceClassification", "--model.plm", tiny_bert, "--model.method", "KronA"]
    words += ["--data", "TextFiles", "--data.train", train, "--run_dir", "mine"]
    run_of(tiny_bert, "KronA", data={"class_path": "TextFiles", "init_args": {"train": str(train)}})
    (tmp_path / "run").rename(tmp_path / "mine")
    change(next((tmp_path / "mine").rglob("*.ckpt")), lambda content: None)
    return words, predicted(kronlit, words, tmp_path / "before.jsonl"), new


def change(path, how):
    """Write a checkpoint anew, changed in place."""
    content = AtomicCheckpoint().load_checkpoint(path) | {"pytorch-lightning_version": lightning.__version__}
    how(content)
    AtomicCheckpoint().save_checkpoint(content, path)


def predicted(kronlit, words, out, *more):
    more = [*more, "--ckpt_path", "best", "--data.predict_file", "new.csv", "--predictions", out]
    code, _, err = kronlit("predict", *words, *more)
    assert code == 0, err
    return [json.loads(line)["scores"] for line in out.read_text().splitlines()]


def alike(ours, theirs):
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our == pytest.approx(their, rel=1e-4)


@pytest.mark.parametrize(
    "rows", [None, [("x", "good"), ("y", "zzz")], [("x", "aaa"), *ROWS], [("x", "1"), ("y", "2"), ("z", "3")]]
)
def test_a_run_predicts_its_own_classes_whatever_becomes_of_the_training_file(kronlit, tmp_path, trained, rows):
    words, before, _ = trained
    (tmp_path / "train.csv").unlink()
    if rows is not None:
        write(tmp_path / "train.csv", rows)
    alike(predicted(kronlit, words, tmp_path / "after.jsonl"), before)


def test_a_run_is_merged_exported_and_told_of_with_its_training_file_gone(kronlit, tmp_path, trained):
    _, before, _ = trained
    (tmp_path / "train.csv").unlink()
    for command in ("merge", "export"):
        more = ["--format", "kronlit"] if command == "export" else []
        code, _, err = kronlit(command, "--ckpt_path", "mine", "--output", command, *more)
        assert code == 0, err
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merge")
    for model in (merged, package.load(tmp_path / "export")):
        assert model.config.id2label == {0: "bad", 1: "good", 2: "middling"}
    code, out, err = kronlit("info", "mine")
    assert code == 0, err
    assert "bad, good, middling" in out
    assert before[0].keys() == {"bad", "good", "middling"}


def test_classes_that_are_given_in_another_order_are_matched_by_name(kronlit, tmp_path, trained):
    words, before, _ = trained
    alike(predicted(kronlit, words, tmp_path / "after.jsonl", "--data.labels", "[middling,good,bad]"), before)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--data.labels", "[good,bad,ugly]"],
            "of train, the classes bad, good, middling; `data` has the classes good",
        ),
        (["--data.span", "[0, 1]"], "the classes bad, good, middling; `data` has numbers"),
        (["--data.columns", "[text, more]"], "on the columns text; `data` has text, more"),
    ],
)
def test_other_classes_or_columns_are_one_line(kronlit, trained, more, said):
    words, _, new = trained
    code, _, err = kronlit("predict", *words, *more, "--ckpt_path", "best", "--data.predict_file", new)
    assert code == 2
    assert said in err.strip().splitlines()[-1]


def test_a_validation_file_is_scored_by_the_names_of_its_classes(kronlit, tmp_path, trained):
    words, before, _ = trained
    write(tmp_path / "train.csv", [("x", "other"), ("y", "another")])
    labels = [max(row, key=row.get) for row in before]
    mine = write(tmp_path / "mine.csv", [("a good film", labels[0]), ("a bad dog", labels[1])])
    code, _, err = kronlit("validate", *words, "--ckpt_path", "best", "--data.validation", mine)
    assert code == 0, err
    (rows,) = [list(csv.DictReader(path.open())) for path in sorted((tmp_path / "mine").glob("*/metrics.csv"))[-1:]]
    assert float(rows[-1]["val/accuracy"]) == 1.0


def test_columns_are_those_that_were_trained_on(kronlit, tmp_path, tiny_bert):
    rows = [("a good film", "the cat", "x"), ("a bad dog", "not", "y")] * 8
    train = write(tmp_path / "train.csv", rows, ("first", "second", "label"))
    words = ["--model", "SequenceClassification", "--model.plm", tiny_bert, "--model.method", "KronA"]
    words += ["--data", "TextFiles", "--data.train", train, "--run_dir", "mine"]
    columns = ["--data.columns", "[first,second]"]
    assert kronlit("fit", *words, *columns, "--trainer.max_steps", "1")[0] == 0
    write(tmp_path / "new.csv", [row[:2] for row in rows[:2]], ("first", "second"))
    train.unlink()
    before = predicted(kronlit, [*words, *columns], tmp_path / "a.jsonl")
    alike(predicted(kronlit, words, tmp_path / "b.jsonl"), before)
    alike(predicted(kronlit, [*words, "--data.columns", "[second,first]"], tmp_path / "c.jsonl"), before)
    write(tmp_path / "new.csv", [row[:2] for row in rows[:2]], ("one", "two"))  # a classifier reads no names
    alike(predicted(kronlit, [*words, "--data.columns", "[one,two]"], tmp_path / "d.jsonl"), before)


def test_a_t5_reads_the_names_of_columns_and_is_not_given_others(kronlit, tmp_path, tiny_t5):
    train = write(tmp_path / "train.csv", ROWS[:8], ("sentence", "label"))
    words = ["--model", "TextToText", "--model.plm", tiny_t5, "--model.method", "KronA"]
    words += ["--data", "TextFiles", "--data.train", train, "--run_dir", "mine", "--data.columns"]
    assert kronlit("fit", *words, "[sentence]", "--trainer.max_steps", "1")[0] == 0
    new = write(tmp_path / "new.csv", [("a good film",)], ("body",))
    more = ["--ckpt_path", "best", "--data.predict_file", new]
    code, _, err = kronlit("predict", *words, "[body]", *more)
    assert code == 2
    assert "trained on rows as ['sentence: {0}'], and `data` has them as ['body: {0}']" in err
    write(tmp_path / "new.csv", [("a good film",)], ("sentence",))
    assert kronlit("predict", *words, "[sentence]", *more)[0] == 0


def test_a_checkpoint_that_does_not_say_its_task_is_used_as_before(kronlit, tmp_path, trained):
    words, before, _ = trained
    change(
        next((tmp_path / "mine").rglob("*.ckpt")),
        lambda content: content.update(kronlit={name: content["kronlit"][name] for name in ("method", "plm")}),
    )
    alike(predicted(kronlit, words, tmp_path / "after.jsonl"), before)
    assert kronlit("merge", "--ckpt_path", "mine", "--output", "merged")[0] == 0


def test_classes_in_the_order_of_another_task_are_not_taken_for_its_own(kronlit, tmp_path, tiny_bert, trained):
    checkpoint = next((tmp_path / "mine").rglob("best*.ckpt"))
    change(checkpoint, lambda content: content["kronlit"]["task"].update(labels=("good", "bad", "middling")))
    module = SequenceClassification(str(tiny_bert), KronA(), TextFiles(str(tmp_path / "train.csv")).task)
    module.configure_model()
    with pytest.raises(
        ValueError, match="good, bad, middling, in this order; `data` has the classes bad, good, middling"
    ):
        module.check_checkpoint(AtomicCheckpoint().load_checkpoint(checkpoint))
