"""The zip for gluebenchmark.com, checked by a validator written from the site's published rules."""

import json
import re
import sys
import zipfile

import pytest

from kronlit.__main__ import main
from kronlit.data.tasks import GLUE_TASKS
from kronlit.exchange.submission.write import write_submission

# gluebenchmark.com, "Submission instructions": names, number of rows of each test set, and what a prediction may be.
BINARY, WORDS, NLI = "0|1", "entailment|not_entailment", "entailment|neutral|contradiction"
RULES = {
    "CoLA.tsv": (1063, BINARY),
    "SST-2.tsv": (1821, BINARY),
    "MRPC.tsv": (1725, BINARY),
    "STS-B.tsv": (1379, r"[0-4]\.\d{3}|5\.000"),
    "MNLI-m.tsv": (9796, NLI),
    "MNLI-mm.tsv": (9847, NLI),
    "QNLI.tsv": (5463, WORDS),
    "RTE.tsv": (3000, WORDS),
    "WNLI.tsv": (146, BINARY),
    "QQP.tsv": (390_965, BINARY),
    "AX.tsv": (1104, NLI),
}


def read(path):
    """By file the predictions, if the site takes them."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(RULES)
        for name, (rows, allowed) in RULES.items():
            header, *lines = archive.read(name).decode().splitlines()
            assert header == "index\tprediction"
            assert [line.split("\t")[0] for line in lines] == [str(index) for index in range(rows)]
            found[name] = [line.split("\t")[1] for line in lines]
            assert {value for value in found[name] if not re.fullmatch(allowed, value)} == set(), name
    return found


@pytest.fixture
def predictions(tmp_path):
    """What `kronlit predict` writes for every test set, the classes of each in turn."""
    sizes = {"cola": 1063, "sst2": 1821, "mrpc": 1725, "stsb": 1379, "qnli": 5463, "rte": 3000, "wnli": 146}
    splits = {task: [("test", size)] for task, size in (sizes | {"qqp": 390_965, "ax": 1104}).items()}
    splits["mnli"] = [("test_matched", 9796), ("test_mismatched", 9847)]
    for task, parts in splits.items():
        labels = GLUE_TASKS[task].labels or (-0.2, 3.14159, 5.3)
        with (tmp_path / f"{task}.jsonl").open("w") as file:
            for split, size in parts:
                file.writelines(
                    json.dumps({"split": split, "label": labels[row % len(labels)]}) + "\n" for row in range(size)
                )
    return tmp_path


def test_the_site_takes_it(predictions, monkeypatch, capsys):
    words = ["--predictions", str(predictions), "--output", str(predictions / "out/glue.zip")]
    monkeypatch.setattr(sys, "argv", ["kronlit", "submission", *words])
    main()
    assert "ready" in capsys.readouterr().out
    found = read(predictions / "out/glue.zip")
    # The integers of the data set, nyu-mll/glue: 0 unacceptable, 1 acceptable; WNLI 0 not_entailment.
    assert found["CoLA.tsv"][:3] == ["0", "1", "0"]
    assert found["WNLI.tsv"][:2] == ["0", "1"]
    assert found["QNLI.tsv"][:2] == ["entailment", "not_entailment"]
    assert found["AX.tsv"][:3] == ["entailment", "neutral", "contradiction"]
    assert found["STS-B.tsv"][:3] == ["0.000", "3.142", "5.000"]
    assert not list(predictions.glob("out/.*"))


def edited(file, edit):
    file.write_text("".join(edit(file.read_text().splitlines(keepends=True))))


FAULTS = {
    "1,062 rows": (
        "cola",
        lambda lines: lines[:-1],
        "has 1062 rows of the split 'test', and the official test set has 1063",
    ),
    "another split": ("rte", lambda lines: [line.replace("test", "validation") for line in lines], "has 0 rows"),
    "a matched row for a mismatched": (
        "mnli",
        lambda lines: [line.replace("mis", "") for line in lines],
        "has 19643 rows of the split 'test_matched'",
    ),
    "no JSON": (
        "ax",
        lambda lines: [*lines[:4], "{\n", *lines[5:]],
        "line 5, is no line that `kronlit predict` writes",
    ),
    "no label": ("ax", lambda lines: ['{"split": "test"}\n', *lines[1:]], "line 1, is no line"),
    "a number": ("wnli", lambda lines: ['{"split": "test", "label": 1}\n', *lines[1:]], "1 is no label of wnli"),
    "a word": ("stsb", lambda lines: ['{"split": "test", "label": "5"}\n', *lines[1:]], "'5' is no label of stsb"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_it_would_not_take_is_refused(predictions, fault):
    task, edit, message = FAULTS[fault]
    edited(predictions / f"{task}.jsonl", edit)
    with pytest.raises(ValueError, match=re.escape(message)):
        write_submission(predictions, predictions / "glue.zip")
    assert not list(predictions.glob("*glue.zip*"))


def test_it_needs_every_test_set(predictions):
    for task in ("ax", "qqp"):
        (predictions / f"{task}.jsonl").unlink()
    with pytest.raises(ValueError, match=r"lacks ax\.jsonl, qqp\.jsonl"):
        write_submission(predictions, predictions / "glue.zip")


def test_a_zip_that_is_there_stays(predictions):
    (predictions / "glue.zip").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        write_submission(predictions, predictions / "glue.zip")
    assert (predictions / "glue.zip").read_text() == "mine"
