"""E2E, WebNLG and DART: which rows a split has, and what bad files get."""

import json

import pytest

from kronlit.data import E2E

LINES = "a : 1 | b : 2||One text .\nc : 3||Another || with bars\n\na : 1 | b : 2 ||  A second text .  \n"
# As the data sets are released: an entry of WebNLG 2017 and one of DART v1.1.1, shortened
WEBNLG = {
    "entries": [
        {
            "1": {
                "category": "Airport",
                "modifiedtripleset": [
                    {"subject": "Aarhus", "property": "leaderName", "object": "Jacob"},
                    {"subject": "Aarhus", "property": "runway", "object": "2776.0"},
                ],
                "lexicalisations": [
                    {"comment": "good", "lex": "Jacob leads Aarhus.", "xml_id": "Id1"},
                    {"comment": "toFix", "lex": "Bad.", "xml_id": "Id2"},
                    {"comment": "good", "lex": "Aarhus has Jacob.", "xml_id": "Id3"},
                ],
            }
        },
        {
            "2": {
                "category": "City",
                "modifiedtripleset": [{"subject": "A", "property": "b", "object": "C"}],
                "lexicalisations": [{"comment": "good", "lex": "A b C.", "xml_id": "Id1"}],
            }
        },
    ]
}
DART = [
    {
        "tripleset": [["Mars Hill", "JOINED", "1973"], ["Mars Hill", "LOCATION", "NC"]],
        "annotations": [{"source": "x", "text": "It joined in 1973."}, {"source": "x", "text": "In NC."}],
    }
]


def written(tmp_path, **files):
    for name, content in files.items():
        file = tmp_path / name.replace("__", ".").replace("_", "-")
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(tmp_path)


def pairs(rows):
    return list(zip(rows["context"], rows["answers"], strict=True))


def test_training_keeps_every_text_and_the_rest_is_grouped(tmp_path):
    data = E2E("e2e", path=written(tmp_path, train__txt=LINES, valid__txt=LINES, test__txt=LINES))
    assert pairs(data.rows("train")) == [
        ("a : 1 | b : 2", ["One text ."]),
        ("c : 3", ["Another || with bars"]),
        ("a : 1 | b : 2", ["A second text ."]),
    ]
    for split in ("validation", "test"):
        assert pairs(data.rows(split)) == [
            ("a : 1 | b : 2", ["One text .", "A second text ."]),
            ("c : 3", ["Another || with bars"]),
        ]
    assert len(E2E("e2e", path=str(tmp_path), max_train_samples=2).rows("train")) == 2


@pytest.mark.parametrize(("task", "content"), [("webnlg", WEBNLG), ("dart", DART)])
def test_released_triples_read_as_in_the_papers_code(tmp_path, task, content):
    # microsoft/AdaMix d361e9d, NLG/src/format_converting_{webnlg,dart}.py
    name = "dart-v1.1.1-full-dev.json" if task == "dart" else "dev.json"
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    rows = pairs(E2E(task, path=str(tmp_path)).rows("validation"))
    if task == "dart":
        assert rows == [("Mars Hill : joined : 1973 | Mars Hill : location : NC", ["It joined in 1973.", "In NC."])]
    else:
        context = "Aarhus : leaderName : Jacob | Aarhus : runway : 2776.0"
        assert rows == [(context, ["Jacob leads Aarhus.", "Aarhus has Jacob."]), ("A : b : C", ["A b C."])]


def test_lines_come_before_released_triples(tmp_path):
    path = written(tmp_path, train__txt=LINES, train__json=json.dumps(WEBNLG))
    assert len(E2E("webnlg", path=path).rows("train")) == 3


def test_a_file_that_windows_wrote_is_read(tmp_path):
    path = written(tmp_path, train__txt=b"\xef\xbb\xbfa : 1||One .\r\nb : 2||Two .\r\n")
    assert pairs(E2E("e2e", path=path).rows("train")) == [("a : 1", ["One ."]), ("b : 2", ["Two ."])]


@pytest.mark.parametrize(
    ("task", "name", "content", "words"),
    [
        ("e2e", "other", "", r"has no train\.txt, which this run needs, of lines `context\|\|text`"),
        ("e2e", "train__json", "[]", r"has no train\.txt"),
        ("e2e", "train__txt", "", r"train\.txt' has no rows"),
        ("e2e", "train__txt", "\n \n", r"train\.txt' has no rows"),
        (
            "e2e",
            "train__txt",
            "a : 1||One .\na : 2 | One .\n",
            r"train\.txt', line 2: no `\|\|` between context and text",
        ),
        ("e2e", "train__txt", "||One .\n", r"line 1: nothing before or after its `\|\|`"),
        ("e2e", "train__txt", "a : 1|| \n", r"line 1: nothing before or after its `\|\|`"),
        ("e2e", "train__txt", "a : Café||One .".encode("latin-1"), r"train\.txt' cannot be read as UTF-8 txt"),
        ("dart", "train__json", "[", r"train\.json' cannot be read as UTF-8 json"),
        ("dart", "train__json", "[]", r"train\.json' has no rows"),
        ("dart", "train__json", '[{"tripleset": [["a"]]}]', r"not of the form in which dart is released: IndexError"),
        ("webnlg", "train__json", "[]", r"not of the form in which webnlg is released: TypeError"),
        ("webnlg", "train__json", '{"entries": [{}]}', r"not of the form in which webnlg is released: KeyError"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, task, name, content, words):
    with pytest.raises(ValueError, match=words):
        E2E(task, path=written(tmp_path, **{name: content})).rows("train")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: E2E("e2ee"), "`data.task`='e2ee' is no such task; there are e2e, webnlg, dart"),
        (lambda: E2E("dart"), "`data.path` is missing: dart is read from a folder with train.txt"),
        (lambda: E2E("e2e", batch_size=0), "`data.batch_size`=0"),
        (
            lambda: E2E("e2e").rows("train"),
            r"tuetschek/e2e_nlg has no default/train that can be reached.*`--data.path`",
        ),
        (lambda: E2E("e2e", predict_file="no.csv").rows("predict"), "there is no file 'no.csv'.*the column context"),
    ],
)
def test_bad_arguments_name_themselves(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_hubs_columns_are_read(monkeypatch):
    # As the card of tuetschek/e2e_nlg names them
    hub = {"meaning_representation": ["name[A]", "name[B]", "name[A]"], "human_reference": ["x", "y", "z"]}
    asked = []
    monkeypatch.setattr("kronlit.data.e2e.benchmark.read_split", lambda *arguments: asked.append(arguments) or hub)
    assert pairs(E2E("e2e").rows("test")) == [("name[A]", ["x", "z"]), ("name[B]", ["y"])]
    assert asked == [("tuetschek/e2e_nlg", "default", "test", None, "refs/convert/parquet")]
