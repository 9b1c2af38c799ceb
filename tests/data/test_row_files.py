"""What CSV and JSONL files may hold: read as it is meant, or refused in one line that names the line of the file."""

import csv
import json
import re

import pandas
import pytest
from datasets import Dataset
from fixtures.data import ROWS

from kronlit.data import E2E, GLUE, FewShot, SuperGLUE, TextFiles
from kronlit.data.class_counts import class_counts
from kronlit.data.row_file import read_row_file

LONG = "a long text, " * 20_000


def text_files(tmp_path, name, content, **arguments):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return TextFiles(str(path), validation=str(path), **arguments)


def rows(data, split="train"):
    found = data.rows(split)
    return list(zip(found["text"], (data.task.labels[label] for label in found["label"]), strict=True))


# --- what works ---


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", b"\xef\xbb\xbftext,label\na,x\nb,y\n"),
        ("crlf.csv", "text,label\r\na,x\r\nb,y\r\n"),
        ("mac.csv", "text,label\ra,x\rb,y\r"),
        ("blank.csv", "\ntext,label\na,x\n\nb,y\n\n   \n\r\n"),
        ("no-newline.csv", "text,label\na,x\nb,y"),
        ("spreadsheet.csv", "text,label,,\na,x,,\nb,y,,\n"),
        ("UPPER.CSV", "text,label\na,x\nb,y\n"),
        ("spaces.csv", "text,label\na, x \nb,\ty\n"),
        ("bom.jsonl", b'\xef\xbb\xbf{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}'),
        ("crlf.jsonl", '{"text": "a", "label": "x"}\r\n\r\n{"text": "b", "label": "y"}\r\n  \r\n'),
        ("other.jsonl", '{"text": "a", "label": "x", "n": [1, {"m": 1e999}]}\n{"label": "y", "text": "b"}\n'),
        ("escaped.jsonl", '{"te\\u0078t": "a", "label": "x"}\n{"text": "b", "label": "\\u0079"}\n'),
    ],
)
def test_a_file_is_read_however_it_was_saved(tmp_path, name, content):
    assert rows(text_files(tmp_path, name, content)) == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_every_text_comes_back_as_it_was(tmp_path, kind):
    texts = [
        LONG,
        "two\nlines",
        "two\r\nlines",
        'a "quoted" word',
        '"',
        "a\0b",
        "💥\ud7ff",
        "a\u2028b",
        " a ",
        "NA",
        "'",
    ]
    path = tmp_path / f"my.{kind}"
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((text, n % 2) for n, text in enumerate(texts))])
    else:
        path.write_text("".join(json.dumps({"text": text, "label": n % 2}) + "\n" for n, text in enumerate(texts)))
    data = TextFiles(str(path), validation=str(path))
    assert rows(data) == [(text, str(n % 2)) for n, text in enumerate(texts)]


def test_a_column_that_is_not_read_may_have_a_space_around_its_name(tmp_path):
    assert rows(text_files(tmp_path, "my.csv", "text,label, note\na,x,1\nb,y,2\n")) == [("a", "x"), ("b", "y")]


# --- what is refused ---

HEADER = b"text,label\n"
QUOTE = "a quotation mark that is not closed, or is alone"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "a,x\ngood, bad,y\n",
            r"my.csv', line 3: 3 cells where 2 are expected: put a text that has a comma in it in q",
        ),
        ('"a\n\nb",x\nc\n', r"line 5: 1 cell where 2 are expected: write what is missing"),
        ('a,x\n"b,y\nc,x\n', rf"line 3: {QUOTE} .*on line 4"),
        ('a,x\n"b,y\nc,"x"\nd,y\n', rf"line 3: {QUOTE} .*on line 4"),
        ('a,x\nb,"y\nc,x\nd,"\n', r'line 3, row 2: the label "y\\nc,x\\nd," must be a text in one line'),
        (
            'a,x\n"b,y\nc"\nd,x\n',
            r"line 3: 1 cell where 2 are expected, one of them of several lines: if .* text, close its quot",
        ),
        ('"she said \\"no\\"",x\nb,y\n', f"line 2: {QUOTE}"),
        (b"a,x\ncaf\xe9,y\n", r"cannot be read as UTF-8 csv: byte 0xe9 on line 3; save it as UTF-8 .*`iconv -f LATIN1"),
        (b"a,x\nb,y\n\xe2\x82", r"byte 0xe2 on line 4"),
        ("a,x\nb,nan\n", r"line 3, row 2: the label is nan, which stands in rows without.*skip; .*`data.labels`"),
        ("a,x\nb,NaN\n", r"line 3, row 2: the label is NaN"),
        (
            'a,x\n"b\n1",y\n,x\n',
            r"line 5, row 3: no text in column 'text': write one, or leave .*`data.empty_rows`=skip",
        ),
        ("a,x\n  ,y\n", r"line 3, row 2: no text in column 'text'"),
        ("a,x\nb, \n", r"line 3, row 2: no label in column 'label', which is empty there"),
        ("a,\nb,\n", r"line 2, row 1: no label in column 'label', which is empty there"),
    ],
)
def test_a_fault_in_a_csv_is_told_by_its_line(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        text_files(tmp_path, "my.csv", HEADER + (content if isinstance(content, bytes) else content.encode()))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("text,label,text", r"line 1: 3 columns are named|line 1: 2 columns are named 'text': rename one"),
        ("text, label,n", r"no label in column 'label'; it has text,  label, n. ' label' has a space around its name"),
        ("text ,label,n", r"no text in column 'text'; it has text , label, n. 'text ' has a space around its name"),
        ("text;label;n", r"line 1: |line 2: 3 cells where 1 is expected"),
    ],
)
def test_a_fault_in_a_header_is_told(tmp_path, header, words):
    with pytest.raises(ValueError, match=words):
        text_files(tmp_path, "my.csv", f"{header}\na,x,1\nb,y,1\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["my.csv", "my.jsonl"])
def test_utf_16_is_called_so(tmp_path, encoding, name):
    content = "text,label\na,x\n" if name == "my.csv" else '{"text": "a", "label": "x"}\n'
    with pytest.raises(ValueError, match=r"it begins as UTF-16 does; save it as UTF-8 \(`iconv -f UTF-16"):
        text_files(tmp_path, name, content.encode(encoding))


ONE = '{"text": "a", "label": "x"}\n\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1, 2]", r"my.jsonl', line 3: \[1, 2\] is no JSON object"),
        ('"a"', r'line 3: "a" is no JSON object'),
        ("null", r"line 3: null is no JSON object"),
        ('{"text": "a"', r"line 3: no JSON object \(Expecting ',' delimiter, character 14\): each line must be one"),
        ('{"text": "a"} {"text": "b"}', r"line 3: no JSON object \(Extra data, character 15\)"),
        ('{"text": "a", "label": "x", "text": "b"}', r"line 3: the key 'text' is there twice"),
        ('{"text": "a \\ud83d", "label": "x"}', r"line 3: \\ud83d is half a character: write both halves, or \\ufffd"),
        ('{"text": "a", "label": "x", "n": {"\\uDE00": 1}}', r"line 3: \\ude00 is half a character"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", r"line 3: Exceeds the limit \(4300 digits\)"),
        ('{"text": "a", "label": "x", "n": ' + "[" * 100_000 + "]" * 100_000 + "}", r"line 3: values lie in values"),
        ('{"text": "a", "label": "x", "n": ' + "[" * 300 + "1" + "]" * 300 + "}", r"line 3: values lie in values more"),
        ('{"text": "a", "label": NaN}', r"line 3, row 2: the label is nan, which stands in rows without a label"),
        ('{"text": "a", "label": null}', r"line 3, row 2: no label in column 'label', which is empty there"),
        ('{"text": "a"}', r"line 3, row 2: no label in column 'label', which is empty there"),
        ('{"text": "a", "label": ["x"]}', r'line 3, row 2: the label \["x"\] must be a text in one line'),
        ('{"text": null, "label": "y"}', r"line 3, row 2: no text in column 'text': write one, or leave such"),
        ('{"text": 5, "label": "y"}', r"line 3, row 2: no text in column 'text', but 5: quote it"),
        ('{"text": true, "label": "y"}', r"line 3, row 2: no text in column 'text', but true: quote it"),
        ('{"text": {"a": "b"}, "label": "y"}', r"""line 3, row 2: no text in column 'text', but \{"a": "b"\}"""),
    ],
)
def test_a_fault_in_a_jsonl_is_told_by_its_line(tmp_path, line, words):
    with pytest.raises(ValueError, match=words):
        text_files(tmp_path, "my.jsonl", f"{ONE}{line}\n").rows("train")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    data = text_files(tmp_path, "my.csv", "text,label\na,x\nb,y\n")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)
    with pytest.raises(ValueError, match=r"my.csv' cannot be read: Permission denied"):
        data.rows("train")


# --- labels ---


def test_nan_is_a_class_where_it_is_named(tmp_path):
    data = text_files(tmp_path, "my.csv", "text,label\na,pita\nb,nan\n", labels=("pita", "nan"))
    assert rows(data) == [("a", "pita"), ("b", "nan")]


def test_a_number_of_any_length_may_be_a_class(tmp_path):
    long = "9" * 5000
    assert text_files(tmp_path, "my.csv", f"text,label\na,{long}\nb,1\n").task.labels == ("1", long)


def test_many_different_labels_are_told_at_once(tmp_path):
    content = "text,label\n" + "".join(f"a,{n}x\n" for n in range(100_000))
    with pytest.raises(ValueError, match="has 100000 different labels in 100000 rows"):
        text_files(tmp_path, "my.csv", content)


def test_empty_rows_are_skipped_where_that_is_asked_for(tmp_path, capsys):
    content = 'text,label\na,x\n"two\nlines",\n,y\nb,y\nc,nan\nd,z\n'
    data = text_files(tmp_path, "my.csv", content, empty_rows="skip", labels=("x", "y"))
    with pytest.raises(ValueError, match=r"line 8, row 6: the label 'z' is none of x, y"):
        data.rows("train")
    data = text_files(tmp_path, "my.csv", content, empty_rows="skip")
    assert rows(data) == [("a", "x"), ("b", "y"), ("d", "z")]
    assert "my.csv', line 3, row 2: the first of 3 empty rows, which are skipped." in capsys.readouterr().out
    with pytest.raises(ValueError, match="has no row with a text and a label"):
        text_files(tmp_path, "no.csv", "text,label\n,x\na,\n", empty_rows="skip")


def test_one_of_two_texts_may_be_empty(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("text,body,label\na,,x\n,b,y\n")
    data = TextFiles(str(path), validation=str(path), columns=("text", "body"))
    assert list(data.rows("train")["body"]) == ["", "b"]
    path.write_text("text,body,label\na,,x\n,,y\n")
    with pytest.raises(ValueError, match="row 2: no text in column 'text' or 'body'"):
        TextFiles(str(path), columns=("text", "body"))


def test_classes_are_counted_and_the_majority_is_scored():
    # By hand: of 5 validation rows 2 are of the class that most training rows are of
    lines = class_counts(("bad", "good", "so"), {"train": [1, 1, 1, 0], "validation": [0, 1, 0, 1, 2]}).splitlines()
    assert lines[0] == "train: 4 rows: good 3, bad 1; none of so"
    assert lines[1].startswith("validation: 5 rows: bad 2, good 2, so 1; 'good' for all of them")
    assert lines[1].endswith("has accuracy 0.400")


def test_many_classes_are_counted_in_part():
    names = tuple(f"c{n}" for n in range(15))
    line = class_counts(names, {"train": list(range(15))})
    assert line == f"train: 15 rows: {', '.join(f'c{n} 1' for n in range(12))} and 3 more"


def test_a_fit_counts_classes_and_warns_of_those_it_never_predicts(kronlit, tmp_path, tiny_bert):
    # Nine of ten rows are of one class, and the texts are all alike: nothing but the majority can be learned.
    lines = [("same", "rare" if n % 10 == 0 else "usual") for n in range(40)]
    with (tmp_path / "my.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *lines])
    words = ["--model", "SequenceClassification", "--model.plm", tiny_bert, "--model.method", "HeadOnly"]
    words += ["--data", "TextFiles", "--data.train", tmp_path / "my.csv", "--data.validation", tmp_path / "my.csv"]
    words += ["--run_dir", "mine", "--model.lr", "0.1", "--trainer.max_epochs", "4", "--data.batch_size", "40"]
    words += ["--data.test", tmp_path / "my.csv"]
    code, out, err = kronlit("fit", *words)
    assert code == 0, err
    assert "train: 40 rows: usual 36, rare 4" in out
    assert "'usual' for all of them, the majority in train, has accuracy 0.900" in out
    assert err.count("validation: never predicted: rare.") == 1
    code, out, err = kronlit("test", *words, "--ckpt_path", "last")
    assert code == 0, err
    assert "test: never predicted: rare." in err


# --- rows to predict, and few-shot pools ---


def test_rows_to_predict_may_be_empty_but_not_torn(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text('sentence1,sentence2,more\n,b,"1\n2"\nc,,3\n')
    data = GLUE("rte", predict_file=str(path))
    assert list(data.rows("predict")["sentence1"]) == ["", "c"]
    assert data.row_identity("predict") == {"sentence1": ["", "c"], "sentence2": ["b", ""], "more": ["1\n2", "3"]}
    path.write_text('sentence1,sentence2,more\na,b,"1\n2"\nc,d,e,3\n')
    with pytest.raises(ValueError, match="line 4: 4 cells where 3 are expected"):
        data.rows("predict")


def pool(lm_bff, task):
    """LM-BFF's own rows of a task, by column, read with pandas."""
    if task == "mr":
        table = pandas.read_csv(lm_bff / "mr/train.csv", header=None, names=["label", "text"])
    else:
        table = pandas.read_csv(lm_bff / "RTE/train.tsv", sep="\t", quoting=csv.QUOTE_NONE)
        table = table.set_axis(["idx", "sentence1", "sentence2", "label"], axis=1)
    return table


@pytest.mark.parametrize("task", ["mr", "rte"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "named.jsonl"])
@pytest.mark.parametrize("seed", [13, 42])
def test_a_seed_draws_the_same_rows_from_a_file_of_any_kind(lm_bff, tmp_path, task, kind, seed):
    theirs = FewShot(task, path=str(lm_bff), split_seed=seed)
    table = pool(lm_bff, task)
    if task == "rte":
        numbers = table["label"].map({"entailment": 0, "not_entailment": 1})
        table = table if kind == "named.jsonl" else table.assign(label=numbers)
    elif kind == "named.jsonl":
        table = table.assign(label=table["label"].map({0: "negative", 1: "positive"}))
    (tmp_path / task).mkdir()
    path = tmp_path / task / f"train.{kind.split('.')[-1]}"
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    ours = FewShot(task, path=str(tmp_path), split_seed=seed)
    for split in ("train", "validation"):
        for column in (*ours.task.columns, "label"):
            assert list(ours.rows(split)[column]) == list(theirs.rows(split)[column])


@pytest.mark.parametrize("name", ["sst2/validation.jsonl", "sst2/dev.jsonl", "SST-2/dev.csv", "sst2/test.csv"])
def test_ones_own_test_rows_go_by_the_hubs_name_or_lm_bffs(tmp_path, name):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text("text,label\na,1\n" if name.endswith("csv") else '{"text": "a", "label": 1}\n')
    found = FewShot("sst2", path=str(tmp_path)).rows("test")
    assert (list(found["text"]), list(found["label"])) == (["a"], [1])


def test_a_published_split_may_be_jsonl(tmp_path):
    (tmp_path / "mr/16-13").mkdir(parents=True)
    (tmp_path / "mr/16-13/train.jsonl").write_text('{"label": "positive", "text": "a"}\n')
    data = FewShot("mr", path=str(tmp_path), split_seed=13, sampling="published")
    assert (list(data.rows("train")["text"]), list(data.rows("train")["label"])) == (["a"], [1])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "train.jsonl",
            '{"text": "a", "label": "x"}\n',
            r"""line 1, row 1: the label "x" must be one of negative, pos""",
        ),
        ("train.jsonl", '{"text": "a", "label": 0.5}\n', r"line 1, row 1: the label 0.5 must be one of"),
        ("train.jsonl", '{"text": "a", "label": null}\n', r"line 1, row 1: the label null must be one of"),
        ("train.jsonl", '{"text": "a"}\n', r"line 1, row 1: no label in column 'label'; it has text"),
        ("train.jsonl", '{"text": "a", "label": ' + "9" * 400 + "}\n", r"line 1, row 1: the label 9{40}… must be"),
        ("train.jsonl", '{"text": "a", "label": 7}\n', "mr/train has the label 7; mr has 0 to 1"),
        ("train.csv", "text,label\na,b,1\n", "line 2: 3 cells where 2 are expected"),
        ("train.csv", "1,good , film\n0,bad\n", "line 1: 3 cells where 2 are expected"),
        ("train.csv", "1,good\nx,bad\n", "line 2: the label 'x' must be the class's number"),
        ("train.csv", '1,"good\n0,bad\n', f"line 1: {QUOTE}"),
    ],
)
def test_a_fault_in_a_pool_is_told_by_its_line(tmp_path, name, content, words):
    (tmp_path / "mr").mkdir()
    (tmp_path / "mr" / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        FewShot("mr", path=str(tmp_path)).rows("train")


# --- files in a form of their own ---


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("record", {"entities": None}),
        ("record", {"answers": "a"}),
        ("record", {"passage": 3}),
        ("multirc", {"idx": 3}),
        ("multirc", {"paragraph": ["a"]}),
        ("wsc", {"span1_index": "a"}),
        ("wsc", {"span1_index": 10**15}),
        ("wsc", {"text": {"a": "b"}}),
    ],
)
def test_a_column_of_another_kind_in_superglue_is_told(tmp_path, task, changes):
    (tmp_path / task).mkdir()
    row = ROWS[task][0] | ({} if task == "record" else {"label": 1}) | changes
    Dataset.from_list([row]).to_parquet(tmp_path / task / "train.parquet")
    with pytest.raises(
        ValueError, match=rf"{task}/train(: column 'answers'| is not of the form in which SuperGLUE has)"
    ):
        SuperGLUE(task, path=str(tmp_path)).rows("train")


@pytest.mark.parametrize(
    ("task", "name", "content", "words"),
    [
        ("dart", "train.json", "[" * 100_000, "cannot be read as UTF-8 json"),
        ("dart", "train.json", "9" * 5000, r"cannot be read as UTF-8 json: Exceeds the limit \(4300 digits\)"),
        (
            "dart",
            "train.json",
            [{"tripleset": [["a", "b", "c"]], "annotations": [{"text": 3}]}],
            "text 1: 3 is no text",
        ),
        (
            "dart",
            "train.json",
            [{"tripleset": [["a", "b", "c"]], "annotations": [{"text": "x"}, {"text": "\ud83d"}]}],
            r"train.json', text 2: '\\ud83d' has half a character",
        ),
        ("e2e", "train.txt", "a||b\n".encode("utf-16"), "cannot be read as UTF-8 txt: it begins as UTF-16 does"),
        ("e2e", "train.txt", b"a||b\na||\xe9\n", r"cannot be read as UTF-8 txt: byte 0xe9 on line 2"),
    ],
)
def test_a_fault_in_texts_from_data_is_told(tmp_path, task, name, content, words):
    content = json.dumps(content) if isinstance(content, list) else content
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words):
        E2E(task, path=str(tmp_path)).rows("train")


@pytest.mark.parametrize(
    ("row", "cure"),
    [
        ("a,x,", "the last of them empty: take away the commas at the line's end"),
        ('"a\nb",c,x', "else put a text that has a comma in it in quotation marks"),
    ],
)
def test_the_cure_for_a_cell_too_many_is_one_that_works(tmp_path, row, cure):
    (tmp_path / "mine.csv").write_text(f"text,label\n{row}\n")
    with pytest.raises(ValueError, match=re.escape(cure)):
        read_row_file(tmp_path / "mine.csv", ["text", "label"])
