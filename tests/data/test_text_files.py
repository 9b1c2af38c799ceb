"""One's own CSV and JSONL files: what is read, what is held out, and what a slip in them gets."""

import csv
import json

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from kronlit.data import TextFiles

ROWS = [("a good film", "good"), ("a bad one", "bad"), ("so so", "middling"), ("good, good", "good")] * 10


@pytest.fixture
def reviews(tmp_path):
    """Forty rows as a CSV file, with a byte-order mark as Excel writes it."""
    path = tmp_path / "reviews.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *ROWS])
    return str(path)


def pairs(data, split):
    rows = data.rows(split)
    return [(text, data.task.labels[label]) for text, label in zip(rows["text"], rows["label"], strict=True)]


def test_classes_are_those_of_the_file_and_rows_come_as_they_are(reviews):
    data = TextFiles(reviews, validation=reviews)
    assert data.task.labels == ("bad", "good", "middling")
    assert (data.task.name, data.task.metrics) == ("reviews", ("accuracy",))
    assert pairs(data, "train") == ROWS
    assert pairs(data, "validation") == ROWS


@pytest.mark.parametrize(
    ("found", "classes"), [(["10", "9", "-2"], ("-2", "9", "10")), (["10", "9", "a"], ("10", "9", "a"))]
)
def test_classes_that_are_numbers_are_sorted_as_numbers(tmp_path, found, classes):
    (tmp_path / "my.csv").write_text("text,label\n" + "".join(f"t,{one}\n" for one in found))
    assert TextFiles(str(tmp_path / "my.csv")).task.labels == classes


def test_a_jsonl_file_has_labels_of_any_kind(tmp_path):
    lines = [{"q": "a", "p": "b", "y": True}, {"q": "c", "p": "d", "y": False}, {"q": "e", "p": "f", "y": "True"}]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = TextFiles(str(tmp_path / "my.jsonl"), test=str(tmp_path / "my.jsonl"), columns=("q", "p"), label="y")
    assert data.task.labels == ("False", "True")
    assert list(data.rows("test")["label"]) == [1, 0, 1]
    assert data.task.source_text({"q": "a", "p": "b"}) == "q: a p: b"


def test_classes_that_differ_in_case_are_taken_when_they_are_named(tmp_path):
    (tmp_path / "my.csv").write_text("text,label\na,US\nb,us\n")
    data = TextFiles(str(tmp_path / "my.csv"), validation=str(tmp_path / "my.csv"), labels=("us", "US"))
    assert list(data.rows("train")["label"]) == [1, 0]


def test_prediction_needs_the_training_file_for_its_classes_alone(tmp_path):
    (tmp_path / "new.csv").write_text("text\na\n")
    gone = str(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"gone.csv': there is no such file .* as `data.labels`"):
        TextFiles(gone)
    data = TextFiles(gone, labels=("x", "y"), predict_file=str(tmp_path / "new.csv"))
    assert list(data.rows("predict")["text"]) == ["a"]


def test_shares_are_held_out_of_the_training_rows_by_a_seed(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("text,label\n" + "".join(f"{n},{n % 2}\n" for n in range(40)))

    def parts(**arguments):
        data = TextFiles(str(path), validation=0.1, test=0.25, **arguments)
        return [list(map(int, data.rows(split)["text"])) for split in ("train", "validation", "test")]

    assert [len(part) for part in parts()] == [26, 4, 10]
    assert sorted(number for part in parts() for number in part) == list(range(40))
    assert parts() == parts()
    assert parts(split_seed=1)[1] != parts()[1]


def test_a_number_is_regressed_within_its_span(tmp_path):
    path = tmp_path / "stars.csv"
    path.write_text("text,label\ngood,4.5\nbad,1\n")
    data = TextFiles(str(path), validation=str(path), span=(1.0, 5.0))
    assert data.task.is_regression
    assert data.task.metrics == ("pearson", "spearman")
    assert list(data.rows("train")["label"]) == [4.5, 1.0]
    path.write_text("text,label\ngood,5.5\n")
    with pytest.raises(ValueError, match=r"stars/train has the label 5.5; stars has 1.0 to 5.0"):
        data.rows("train")


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("text,label\na,x\nb,y\n", {"validation": 1.5}, "`data.validation`=1.5 must be a file, or a share"),
        ("text,label\na,x\nb,y\n", {"validation": 0.5, "test": 0.5}, "leave no row"),
        ("text,label\na,x\nb,y\n", {"columns": ()}, r"`data.columns`=\[\] must name one column"),
        ("text,label\na,x\nb,y\n", {"columns": ("label",)}, "which `data.label` says is the label"),
        ("text,label\na,x\nb,y\n", {"columns": ("a.b",)}, "rename the column"),
        ("text,label\na,x\nb,y\n", {"columns": ("txt",)}, "row 1: no text in column 'txt'; it has text, label"),
        ("text,label\na,x\nb,y\n", {"label": "lable"}, "row 1: no label in column 'lable'; it has text, label"),
        ("text,label\na,x\nb,\n", {}, "row 2: no label in column 'label'"),
        ("text,label\na,x\nb\n", {}, "line 3: 1 cell where 2 are expected: write what is missing"),
        ("text,label\na,x\nb,x\n", {}, r"my.csv' has one label alone, 'x', in column 'label': give rows of two"),
        ("text,label\na,Pos\nb,neg\nc,pos\n", {}, "'label' that differ in their case alone, Pos and pos: write"),
        ("text,label\na,x\nb,x\n", {"labels": ("x",)}, r"`data.labels`=\['x'\] must be two or more classes"),
        ("text,label\na,x\nb,y\n", {"labels": ("x", "x")}, "must be two or more classes, each once"),
        ("text,label\na,x\nb,y\n", {"labels": ("x", "z")}, "row 2: the label 'y' is none of x, z"),
        ("text,label\na,1\nb,y\n", {"span": (0.0, 2.0)}, "row 2: the label 'y' is no number"),
        ("text,label\na,nan\nb,nan\n", {"span": (0.0, 2.0)}, "rows without a label"),
        ("text,label\na,1\n", {"span": (2.0, 0.0)}, "must be the least and the greatest"),
        ("text,label\na,1\n", {"span": (-1.0, 1.0)}, "stands for a hidden label"),
        ("text,label\na,1\n", {"span": (0.0, 1.0), "labels": ("a", "b")}, "give one of them"),
        ("text,label\na,x\nb,y\nc,z\n", {"metrics": ("f1",)}, "f1 is not for 3 classes"),
        ("text,label\na,x\nb,y\n", {"metrics": ("pearson",)}, "pearson is not for 2 classes"),
        ("text,label\na,1\n", {"span": (0.0, 1.0), "metrics": ("accuracy",)}, "accuracy is not for numbers"),
        ("text,label\n", {}, "has no rows"),
        ("text,label\n" + "".join(f"a,{n}\n" for n in range(1001)), {}, "1001 different.* in 1001 rows.*`data.span`"),
    ],
)  # fmt: skip
def test_a_slip_is_told_in_one_line(tmp_path, content, arguments, words):
    path = tmp_path / "my.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=words):
        TextFiles(str(path), **arguments).rows("train")


def test_no_test_rows_are_told_before_the_training(kronlit, tmp_path, tiny_bert, reviews):
    words = ["fit", "--model", "SequenceClassification", "--model.plm", tiny_bert, "--model.method", "KronA"]
    words += ["--data", "TextFiles", "--data.train", reviews, "--test_after_fit", "true"]
    code, _, err = kronlit(*words)
    assert code == 2
    assert "there are no test rows: give a file or a share of the training rows as `data.test`" in err


def test_a_model_of_ones_own_rows_is_trained_tested_and_predicts_its_own_classes(kronlit, tmp_path, tiny_bert, reviews):
    words = ["--model", "SequenceClassification", "--model.plm", tiny_bert, "--model.method", "KronA"]
    words += ["--model.lr", "0.01", "--data", "TextFiles", "--data.train", reviews, "--run_dir", "mine"]
    code, out, _ = kronlit("fit", *words, "--data.test", "0.2", "--test_after_fit", "true", "--trainer.max_epochs", "1")
    assert code == 0
    assert "test/accuracy" in out
    (tmp_path / "new.csv").write_text("text\nfine\n")
    words += ["--ckpt_path", "best", "--data.predict_file", tmp_path / "new.csv", "--predictions", "out.jsonl"]
    assert kronlit("predict", *words)[0] == 0
    (line,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert line["text"] == "fine"
    assert set(line["scores"]) == {"good", "bad", "middling"}
    assert line["label"] in line["scores"]


def test_a_parquet_file_names_its_classes_in_its_own_order(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["worst", "best", "fair"])})
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    rows.to_parquet(str(tmp_path / "my.parquet"))
    data = TextFiles(str(tmp_path / "my.parquet"), validation=str(tmp_path / "my.parquet"))
    assert data.task.labels == ("worst", "best", "fair")
    assert pairs(data, "train") == [("a", "best"), ("b", "worst"), ("c", "best")]


def test_a_folder_gives_each_split_its_file(tmp_path):
    for split, text in (("train", "a"), ("validation", "b"), ("test", "c")):
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{text},x\n{text},y\n")
    folder = str(tmp_path)
    data = TextFiles(folder, validation=folder, test=folder)
    assert [data.rows(split)["text"][0] for split in ("train", "validation", "test")] == ["a", "b", "c"]
