"""The zip for super.gluebenchmark.com, checked by a validator written from jiant, the benchmark's authors' code."""

import json
import re
import sys
import zipfile

import pytest

from kronlit.__main__ import main
from kronlit.exchange.submission.write import write_submission

# nyu-mll/jiant: benchmark_submission_formatter.py and each task's super_glue_format_preds. The sizes are those of
# the test sets in the hub's super_glue, datasets/super_glue/dataset_infos.json.
ENTAILS = ("entailment", "not_entailment")
RULES = {
    "BoolQ.jsonl": (3245, ("false", "true")),
    "CB.jsonl": (250, ("entailment", "contradiction", "neutral")),
    "COPA.jsonl": (500, (0, 1)),
    "RTE.jsonl": (3000, ENTAILS),
    "WiC.jsonl": (1400, ("false", "true")),
    "WSC.jsonl": (146, ("False", "True")),
    "AX-b.jsonl": (1104, ENTAILS),
    "AX-g.jsonl": (356, ENTAILS),
}
# The classes' names in the hub's data
LABELS = {
    "boolq": ("False", "True"),
    "cb": ("entailment", "contradiction", "neutral"),
    "copa": ("choice1", "choice2"),
    "rte": ENTAILS,
    "wic": ("False", "True"),
    "wsc": ("False", "True"),
    "axb": ENTAILS,
    "axg": ENTAILS,
}
FILES = dict(zip(LABELS, RULES, strict=True))


def read(path):
    """By file its objects, if the site takes them."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted([*RULES, "MultiRC.jsonl", "ReCoRD.jsonl"])
        for name in archive.namelist():
            found[name] = [json.loads(line) for line in archive.read(name).decode().splitlines()]
    for name, (rows, allowed) in RULES.items():
        assert [one["idx"] for one in found[name]] == list(range(rows))
        assert [one["label"] for one in found[name]] == [allowed[row % len(allowed)] for row in range(rows)]
    assert len(found["ReCoRD.jsonl"]) == 10_000
    assert all(one.keys() == {"idx", "label"} and isinstance(one["label"], str) for one in found["ReCoRD.jsonl"])
    answers = [a for one in found["MultiRC.jsonl"] for q in one["passage"]["questions"] for a in q["answers"]]
    assert len(answers) == 9693
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What `kronlit predict` writes for every test set, the classes of each in turn."""
    folder = tmp_path_factory.mktemp("written")
    lines = {
        task: [{"idx": row, "label": labels[row % len(labels)]} for row in range(RULES[FILES[task]][0])]
        for task, labels in LABELS.items()
    }
    # ReCoRD's queries are not numbered in a row; MultiRC's questions have one to three answers, a paragraph three.
    lines["record"] = [{"idx": {"passage": row // 4, "query": 7 * row}, "answer": f"An {row}"} for row in range(10_000)]
    lines["multirc"] = []
    question = 0
    while len(lines["multirc"]) < 9693:
        for answer in range(min(question % 3 + 1, 9693 - len(lines["multirc"]))):
            idx = {"paragraph": question // 3, "question": question, "answer": answer}
            lines["multirc"].append({"idx": idx, "answer": "text", "label": ("False", "True")[answer % 2]})
        question += 1
    for task, rows in lines.items():
        (folder / f"{task}.jsonl").write_text("".join(json.dumps({"split": "test"} | row) + "\n" for row in rows))
    return folder


@pytest.fixture
def predictions(written, tmp_path):
    """A copy to spoil."""
    for file in written.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_the_site_takes_it(predictions, monkeypatch, capsys):
    words = ["--benchmark", "super_glue", "--predictions", predictions, "--output", predictions / "out.zip"]
    monkeypatch.setattr(sys, "argv", ["kronlit", "submission", *map(str, words)])
    main()
    assert "ready for super.gluebenchmark.com" in capsys.readouterr().out
    found = read(predictions / "out.zip")
    assert found["ReCoRD.jsonl"][2] == {"idx": 14, "label": "An 2"}
    one, two, three = [[{"idx": n, "label": n % 2} for n in range(size)] for size in (1, 2, 3)]
    assert found["MultiRC.jsonl"][1] == {
        "idx": 1,
        "passage": {"questions": [{"idx": n, "answers": a} for n, a in ((3, one), (4, two), (5, three))]},
    }


FAULTS = {
    "a row less": ("cb", lambda lines: lines[:-1], "has 249 rows of the split 'test', and the official"),
    "a row twice": ("cb", lambda lines: [lines[0], *lines[:-1]], "cb: 1 rows have the `idx` of another"),
    "no idx": ("wic", lambda lines: ['{"split": "test", "label": "True"}\n', *lines[1:]], "line 1, is no line"),
    "no answer": ("record", lambda lines: [lines[0].replace("answer", "label"), *lines[1:]], "line 1, is no line"),
    "a word": ("wsc", lambda lines: [lines[0].replace("False", "no"), *lines[1:]], "'no' is no label of wsc"),
    "no class": ("multirc", lambda lines: [lines[0].replace("False", "0"), *lines[1:]], "'0' is no label of multirc"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_it_would_not_take_is_refused(predictions, fault):
    task, edit, message = FAULTS[fault]
    file = predictions / f"{task}.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.unlink()
    file.write_text("".join(edit(lines)))
    with pytest.raises(ValueError, match=re.escape(message)):
        write_submission(predictions, predictions / "out.zip", "super_glue")
    assert not list(predictions.glob("*out.zip*"))


def test_it_needs_the_diagnostics(predictions):
    (predictions / "axg.jsonl").unlink()
    with pytest.raises(ValueError, match=r"lacks axg\.jsonl; super\.gluebenchmark\.com.*axb and axg with RTE's run"):
        write_submission(predictions, predictions / "out.zip", "super_glue")
