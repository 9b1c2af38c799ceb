"""Rows of tokens and tags: what is read of CoNLL's files, JSONL and parquet, and what a slip in them gets."""

import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from kronlit.data import TokenFiles

ROWS = [(["the", "red", "house"], ["O", "B-LOC", "I-LOC"]), (["a", "dog"], ["O", "B-PER"])]
LABELS = ("O", "B-LOC", "I-LOC", "B-PER")


def pairs(data, split="train"):
    rows = data.rows(split)
    return [(t, [data.task.labels[tag] for tag in tags]) for t, tags in zip(rows["tokens"], rows["label"], strict=True)]


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def jsonl(path, *rows):
    return written(path, "".join(json.dumps(row) + "\n" for row in rows))


CONLL = "-DOCSTART- -X- -X- O\n\nthe DT B-NP O\nred JJ I-NP B-LOC\nhouse NN I-NP I-LOC\n\n\n"
CONLL += "a DT B-NP O\ndog NN I-NP B-PER\n"
TABS = "the\tO\nred\tB-LOC\nhouse\tI-LOC\n \na\tO\ndog\tB-PER"


@pytest.mark.parametrize("text", [CONLL, TABS, CONLL.replace("\n", "\r\n"), "\ufeff" + TABS], ids=len)
def test_a_conll_file_is_read_as_it_is(text, tmp_path):
    file = written(tmp_path / "eng.train", text)
    data = TokenFiles(file, validation=file)
    assert pairs(data) == pairs(data, "validation") == ROWS
    assert data.task.labels == ("O", "B-LOC", "I-LOC", "B-PER")
    assert data.task.metrics[0] == "span_f1"


def test_columns_of_a_conll_file_go_by_number(tmp_path):
    file = written(tmp_path / "my.txt", CONLL)
    data = TokenFiles(file, validation=file, columns={"tokens": 0, "tags": 1})
    assert pairs(data)[0] == (["the", "red", "house"], ["DT", "JJ", "NN"])
    assert data.task.metrics == ("accuracy",)  # parts of speech are no spans
    assert pairs(TokenFiles(file, validation=file, columns={"tags": "-2"}))[1][1] == ["B-NP", "I-NP"]


def test_a_conllu_file_has_words_in_its_second_column(tmp_path):
    lines = ["# text = du bist", "1-2\tdubist\t_\t_", "1\tdu\tdu\tPRON", "2\tbist\tsein\tAUX", ""]
    file = written(tmp_path / "my.conllu", "\n".join(lines))
    assert pairs(TokenFiles(file, validation=file)) == [(["du", "bist"], ["PRON", "AUX"])]


def test_jsonl_has_lists_under_names_that_may_be_said(tmp_path):
    rows = [{"words": tokens, "ner": tags, "id": 1} for tokens, tags in ROWS]
    file = jsonl(tmp_path / "my.jsonl", *rows)
    assert pairs(TokenFiles(file, validation=file, columns={"tokens": "words", "tags": "ner"})) == ROWS


def test_the_hubs_columns_name_their_classes(tmp_path):
    # as eriktks/conll2003 has them: tokens, and ner_tags by number
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=[*LABELS, "I-PER"]))})
    rows = {"tokens": [t for t, _ in ROWS], "ner_tags": [[LABELS.index(tag) for tag in tags] for _, tags in ROWS]}
    for split in ("train", "validation"):
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    data = TokenFiles(str(tmp_path), validation=str(tmp_path))
    assert data.task.labels == (*LABELS, "I-PER")
    assert pairs(data, "validation") == ROWS
    plain = jsonl(
        tmp_path / "my.jsonl", *(dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True))
    )
    assert pairs(TokenFiles(plain, validation=plain, labels=LABELS)) == ROWS
    assert TokenFiles(plain, validation=plain).task.labels == ("0", "1", "2", "3")


def test_a_share_of_the_rows_is_held_out(tmp_path):
    file = jsonl(tmp_path / "my.jsonl", *({"tokens": [str(n), "a"], "tags": ["O", "B-X"]} for n in range(20)))
    data = TokenFiles(file, validation=0.2, test=0.1)
    found = [{row[0] for row in data.rows(split)["tokens"]} for split in ("train", "validation", "test")]
    assert [len(part) for part in found] == [14, 4, 2]
    assert len(set.union(*found)) == 20


GOOD = {"tokens": ["a", "dog"], "tags": ["O", "B-PER"]}
SLIPS = [
    ({"tokens": ["a", "dog"], "tags": ["O"]}, r"line 2, row 2: 2 tokens and 1 tags: give each token one tag\."),
    ({"tokens": "a dog", "tags": ["O", "O"]}, r'line 2, row 2: "a dog" in column \'tokens\' must be a list of tokens'),
    ({"tokens": [], "tags": []}, r"line 2, row 2: \[\] in column 'tokens' must be a list of tokens, one or more"),
    ({"tokens": ["a"], "tags": [None]}, r"line 2, row 2: \[null\] in column 'tags' must be a list of tags"),
]


@pytest.mark.parametrize(("row", "message"), SLIPS, ids=str)
def test_a_row_that_is_wrong_is_named(row, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TokenFiles(jsonl(tmp_path / "my.jsonl", GOOD, row))


def test_a_column_that_is_missing_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"no list of tags in column 'tags'; it has tokens, ner\. `data\.columns` says"
    ):
        TokenFiles(jsonl(tmp_path / "my.jsonl", {"tokens": ["a"], "ner": ["O"]}))


def test_a_tag_that_no_training_row_has_is_refused(tmp_path):
    train, other = jsonl(tmp_path / "a.jsonl", GOOD), jsonl(tmp_path / "b.jsonl", {"tokens": ["a"], "tags": ["B-LOC"]})
    with pytest.raises(ValueError, match=r"b\.jsonl', line 1, row 1: the tag 'B-LOC' is in no training row.*O, B-PER"):
        TokenFiles(train, validation=other).rows("validation")
    assert pairs(TokenFiles(train, validation=other, labels=LABELS), "validation") == [(["a"], ["B-LOC"])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a O\nb\n", r"line 2: 1 columns where other lines have 2"),
        ("\n\n", r"has no rows"),
        ("a O\n", r"`data\.labels`=\['O'\] must be two or more tags"),
    ],
)
def test_a_conll_file_that_is_wrong_is_refused(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TokenFiles(written(tmp_path / "my.conll", text))


def test_a_column_that_a_conll_file_has_not_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`data\.columns`: tags are in column 4, and .*has 2, counted from 0"):
        TokenFiles(written(tmp_path / "my.conll", TABS), columns={"tags": 4})
    with pytest.raises(ValueError, match=r"tags are in a CoNLL file by number, not 'ner'"):
        TokenFiles(written(tmp_path / "my.conll", TABS), columns={"tags": "ner"})


def test_metrics_of_spans_need_tags_of_spans(tmp_path):
    file = written(tmp_path / "my.conll", "a DT\ndog NN\n")
    with pytest.raises(ValueError, match=r"`data\.metrics`=\['span_f1'\].*are none of spans"):
        TokenFiles(file, metrics=("span_f1",))


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"`data\.train`: there is no file 'gone\.conll'"):
        TokenFiles("gone.conll")
