"""Choices: the logits of plain Transformers, rows of different numbers of choices, and a run from file to model."""

import json

import pytest
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

import kronlit as api
from kronlit import FullFineTuning
from kronlit.data import ChoiceFiles
from kronlit.modules import MultipleChoice

ROWS = [
    {"question": "the cat sat on the", "choices": ["tree", "film and not good"], "label": 0},
    {"question": "a dog", "choices": ["ran", "red", "in the house and on"], "label": 2},
]


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_each_choice_is_scored_as_by_transformers(tiny_bert, tmp_path):
    file = jsonl(tmp_path / "my.jsonl", *ROWS)
    module = MultipleChoice(str(tiny_bert), FullFineTuning(), ChoiceFiles(file, validation=file).task)
    module.configure_model()
    module.eval()
    encoded = module.encode({name: [row[name] for row in ROWS] for name in ("question", "choices")})
    rows = [{k: v[n] for k, v in encoded.items()} | {"row": n, "label": ROWS[n]["label"]} for n in range(2)]
    batch, tokenizer = module.collate(rows), AutoTokenizer.from_pretrained(tiny_bert)
    plain = AutoModelForMultipleChoice.from_config(module.model.config).eval()
    plain.load_state_dict(module.model.state_dict())  # the head is drawn anew
    with torch.no_grad():
        logits, losses = module(batch), module.training_pass(batch)[0]
        for number, row in enumerate(ROWS):
            count = len(row["choices"])
            inputs = tokenizer([row["question"]] * count, row["choices"], padding=True, return_tensors="pt")
            out = plain(**{name: v[None] for name, v in inputs.items()}, labels=torch.tensor([row["label"]]))
            torch.testing.assert_close(logits[number, :count], out.logits[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(losses[number], out.loss, atol=1e-5, rtol=1e-5)
        scores = module.scores(batch)
    assert scores.shape == (2, 3)
    assert scores[0, 2] == 0
    assert scores.sum(-1).tolist() == pytest.approx([1, 1])


def test_rows_are_read_with_context_and_with_names_of_choices(tmp_path):
    rows = [row | {"context": "so :", "label": "ABC"[row["label"]]} for row in ROWS]
    file = jsonl(tmp_path / "my.jsonl", *rows)
    data = ChoiceFiles(file, validation=file, labels=("A", "B", "C")).rows("train")
    assert data["question"][:] == ["so : the cat sat on the", "so : a dog"]
    assert data["label"][:] == [0, 2]
    arc = jsonl(tmp_path / "arc.jsonl", *({**row, "choices": {"text": row["choices"]}} for row in ROWS))
    assert ChoiceFiles(arc, validation=arc).rows("train")["choices"][:] == [row["choices"] for row in ROWS]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["one"]}, r"in column 'choices' must be a list of two texts or more"),
        ({"choices": "one, two"}, r"in column 'choices' must be a list of two texts or more"),
        ({"label": 2}, r"the label 2 must be one of 0, 1, or the number of a choice, from 0"),
        ({"label": None}, r"the label null must be one of 0, 1"),
        ({"label": True}, r"the label true must be one of 0, 1"),
        ({"question": None}, r"no text in column 'question'"),
    ],
)
def test_a_row_that_is_wrong_is_named(change, message, tmp_path):
    file = jsonl(tmp_path / "my.jsonl", ROWS[0], ROWS[0] | change)
    with pytest.raises(ValueError, match=f"line 2, row 2: .*{message}"):
        ChoiceFiles(file, validation=file).rows("train")


def test_a_row_of_more_choices_than_in_training_is_refused(tmp_path):
    train, other = jsonl(tmp_path / "a.jsonl", ROWS[0]), jsonl(tmp_path / "b.jsonl", ROWS[1])
    with pytest.raises(ValueError, match=r"b\.jsonl', line 1, row 1: 3 choices, where training rows have 2 at most"):
        ChoiceFiles(train, validation=other).rows("validation")
    assert len(ChoiceFiles(train, validation=other, labels=("0", "1", "2")).rows("validation")) == 1


@pytest.mark.slow
def test_from_a_file_to_a_merged_model(kronlit, tiny_bert, tmp_path):
    jsonl(tmp_path / "my.jsonl", *(ROWS[0], ROWS[0] | {"choices": ROWS[0]["choices"][::-1], "label": 1}, ROWS[1]) * 8)
    words = ["--model", "MultipleChoice", "--model.plm", tiny_bert, "--model.lr", 0.02, "--model.method", "LoRA"]
    words += ["--model.method.rank", 4, "--data", "ChoiceFiles", "--data.train", "my.jsonl", "--data.test", 0.2]
    words += ["--data.batch_size", 8, "--run_dir", "run", "--trainer.accelerator", "cpu", "--trainer.devices", 1]
    words += ["--trainer.max_epochs", 8]
    code, _, err = kronlit("fit", *words, "--stop_after_epochs", 4)
    assert code == 75, err
    code, _, err = kronlit("fit", *words, "--ckpt_path", "last", "--test_after_fit", "true")
    assert code == 0, err
    assert json.loads((tmp_path / "run/version_0/summary.json").read_text())["scores"]["test/accuracy"] > 0.5

    new = jsonl(tmp_path / "new.jsonl", {"id": 1} | ROWS[0])
    code, _, err = kronlit("predict", "--ckpt_path", "run", "--data.predict_file", new, "--predictions", "p.jsonl")
    assert code == 0, err
    (line,) = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert (line["id"], line["label"], list(line["scores"])) == (1, "0", ["0", "1", "2"])
    assert line["scores"]["2"] == 0

    for command, *more in (["merge"], ["export", "--format", "kronlit"]):
        code, out, err = kronlit(command, "--ckpt_path", "run", "--output", command, *more)
        assert code == 0, err
        assert "not checked" not in out
    model, tokenizer = (
        AutoModelForMultipleChoice.from_pretrained("merge").eval(),
        AutoTokenizer.from_pretrained("merge"),
    )
    inputs = tokenizer([ROWS[0]["question"]] * 2, ROWS[0]["choices"], padding=True, return_tensors="pt")
    inputs = {name: value[None] for name, value in inputs.items()}
    with torch.no_grad():
        logits = model(**inputs).logits
        torch.testing.assert_close(api.load("export")(**inputs).logits, logits, atol=1e-5, rtol=1e-4)
    assert logits.softmax(-1)[0].tolist() == pytest.approx(list(line["scores"].values())[:2], abs=1e-4)
