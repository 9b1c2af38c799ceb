"""Answers in a context: loss, windows and spans of plain Transformers, SQuAD's form, and a run from file to model."""

import json

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

import kronlit as api
from kronlit import FullFineTuning
from kronlit.data import QuestionFiles
from kronlit.modules import QuestionAnswering, SequenceClassification, TextToText
from kronlit.modules.question_answering import targets

LONG = " ".join(["the dog ran in the house and sat on a tree"] * 4) + " the cat was red and good"
ROWS = [
    {"id": "a", "question": "the cat", "context": "the cat sat on the red house", "answers": ["the red house"]},
    {"id": "b", "question": "a dog is", "context": LONG, "answers": ["red and good", "good"]},
    {"id": "c", "question": "film", "context": "not a film", "answers": ["film"]},
]


def squad(row):
    starts = [row["context"].find(text) for text in row["answers"]]
    return row | {"answers": {"text": row["answers"], "answer_start": starts}}


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def file(tmp_path):
    return jsonl(tmp_path / "my.jsonl", *map(squad, ROWS))


def ready(plm, file, **options):
    data = QuestionFiles(file, validation=file)
    module = QuestionAnswering(str(plm), FullFineTuning(), data.task, **{"max_length": 24, "stride": 4} | options)
    module.configure_model()
    rows = data.rows("train")
    columns = {name: rows[name][:] for name in rows.column_names}
    encoded = module.encode(columns) | {"answers": columns["answers"]}
    features = [{name: column[i] for name, column in encoded.items()} | {"row": i} for i in range(len(rows))]
    return module.eval(), features


def test_windows_are_those_of_the_tokenizer_and_each_has_the_answer_or_points_at_the_first_token(tiny_bert, file):
    _, rows = ready(tiny_bert, file)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    options = {"truncation": "only_second", "max_length": 24, "stride": 4, "return_overflowing_tokens": True}
    expected = tokenizer([ROWS[1]["question"]], [LONG], **options)["input_ids"]
    assert rows[1]["input_ids"] == expected
    assert len(expected) > 2
    seen = []
    for row, given in zip(rows, ROWS, strict=True):
        for ids, (begin, end) in zip(row["input_ids"], row["target"], strict=True):
            seen.append((begin, end) != (0, 0))
            assert tokenizer.decode(ids[begin : end + 1]) == (given["answers"][0] if seen[-1] else "[CLS]")
    assert seen == [True, *[False] * (len(expected) - 1), True, True]


def test_a_window_that_cuts_an_answer_has_not_got_it():
    # "ab cd ef gh" in windows of two words after a first token: "cd ef" is whole in the second alone
    first, last = [[-1, 0, 3], [-1, 3, 6], [-1, 6, 9]], [[-1, 2, 5], [-1, 5, 8], [-1, 8, 11]]
    assert targets(first, last, ["cd ef", "ab"], [3, 0]) == [[0, 0], [1, 2], [0, 0]]
    assert targets(first, last, ["b cd"], [1]) == [[1, 2], [0, 0], [0, 0]]  # a part of a token is that token
    assert targets(first, last, [""], []) == [[0, 0]] * 3


def test_the_loss_is_that_of_transformers(tiny_bert, file):
    module, rows = ready(tiny_bert, file)
    batch = module.collate(rows)
    plain = AutoModelForQuestionAnswering.from_pretrained(tiny_bert).eval()
    plain.load_state_dict(module.model.state_dict())  # the head is drawn anew
    expected = []
    for row in rows:
        for number, (begin, end) in enumerate(row["target"]):  # alone, a window is padded with nothing
            inputs = {name: torch.tensor([row[name][number]]) for name in ("input_ids", "token_type_ids")}
            places = {"start_positions": torch.tensor([begin]), "end_positions": torch.tensor([end])}
            expected.append(plain(**inputs, **places).loss)
    assert (batch["attention_mask"] == 0).any()
    with torch.no_grad():
        loss = module.training_pass(batch)[0].mean()
        torch.testing.assert_close(loss, torch.stack(expected).mean().detach(), atol=1e-5, rtol=1e-5)
        together = module.predictions(batch)[1]
        alone = torch.cat([module.predictions(module.collate([row]))[1] for row in rows])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_answer_is_the_best_span_of_all_windows(tiny_bert, file):
    module, rows = ready(tiny_bert, file, max_answer_length=3)
    with torch.no_grad():
        module.model.qa_outputs.weight.normal_(std=2)
        found = module.texts(module.collate(rows))
        for row, text in zip(rows, found, strict=True):
            scores = {}
            for number, ids in enumerate(row["input_ids"]):  # every span of every window, one by one
                logits = module(module.collate([row]))[number]
                places = [n for n in range(len(ids)) if row["first"][number][n] >= 0]
                for begin in places:
                    for end in [n for n in places if begin <= n < begin + 3]:
                        span = row["context"][row["first"][number][begin] : row["last"][number][end]]
                        scores[logits[0, begin].item() + logits[1, end].item()] = span
            assert text == scores[max(scores)]
    assert [module.texts(module.collate([row]))[0] for row in rows] == found


@pytest.mark.parametrize(("push", "empty"), [(1e4, True), (-1e4, False)])
def test_an_answer_is_none_where_the_first_token_scores_higher(push, empty, tiny_bert, file):
    module, rows = ready(tiny_bert, file, no_answer=True)
    forward = module.forward
    module.forward = lambda batch: forward(batch) + push * (torch.arange(batch["input_ids"].shape[1]) == 0)
    assert [text == "" for text in module.texts(module.collate(rows))] == [empty] * 3


def test_scores_are_squads_own(tiny_bert, file):
    # normalised: case, marks and articles do not count; of two right answers the better counts
    module, rows = ready(tiny_bert, file)
    module._answers = lambda batch, logits: ["Red house!", "good", "tree"]
    marks, _ = module.predictions(module.collate(rows))
    assert marks.tolist() == [[1, 1], [1, 1], [0, 0]]
    module._answers = lambda batch, logits: ["the red", "red or good", ""]
    marks, _ = module.predictions(module.collate(rows))
    assert marks[:, 0].tolist() == pytest.approx([2 / 3, 2 / 3, 0])


def test_a_question_that_leaves_no_room_is_refused(tiny_bert, file):
    with pytest.raises(ValueError, match=r"`model\.max_length`=8 leaves 3 tokens for the context .*`model\.stride`=4"):
        ready(tiny_bert, file, max_length=8)


def test_rows_may_be_answered_in_words_but_not_classified(tiny_bert, tiny_t5, file):
    task = QuestionFiles(file).task
    assert TextToText(str(tiny_t5), FullFineTuning(), task).answer_length == 128
    with pytest.raises(ValueError, match=r"for `QuestionAnswering` or `TextToText`, not for `SequenceClassification`"):
        SequenceClassification(str(tiny_bert), FullFineTuning(), task)


# --- data ---


def test_squads_own_file_and_its_rows_read_alike(file, tmp_path):
    questions = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": row["id"],
                    "question": row["question"],
                    "answers": [{"text": text, "answer_start": row["context"].find(text)} for text in row["answers"]],
                }
            ],
        }
        for row in ROWS
    ]
    (tmp_path / "squad.json").write_text(
        json.dumps({"version": "1.1", "data": [{"title": "x", "paragraphs": questions}]})
    )
    own, released = QuestionFiles(file, validation=file), QuestionFiles(str(tmp_path / "squad.json"), validation=file)
    assert own.rows("train").to_dict() == released.rows("train").to_dict()
    assert own.rows("train")["starts"][:] == [[15], [len(LONG) - 12, len(LONG) - 4], [6]]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            {"text": ["cat"], "answer_start": [5]},
            r'the answer "cat" does not lie in its context at `answer_start`=5.*lies at 4',
        ),
        (
            {"text": ["cow"], "answer_start": [0]},
            r'the answer "cow" does not lie in its context at `answer_start`=0, co.*0\.',
        ),
        ({"text": ["cat"], "answer_start": []}, r"must be answers such as"),
        ("cat", r'"cat" in column \'answers\' must be answers such as'),
        (None, r"null in column 'answers' must be answers such as"),
        ({"text": [""], "answer_start": [0]}, r"does not lie in its context"),
    ],
)
def test_answers_that_are_none_of_the_context_are_refused(answers, message, tmp_path):
    file = jsonl(tmp_path / "my.jsonl", squad(ROWS[0]), squad(ROWS[0]) | {"answers": answers})
    with pytest.raises(ValueError, match=rf"line 2, row 2: .*{message}"):
        QuestionFiles(file, validation=file).rows("train")


def test_a_context_may_have_no_answer(tiny_bert, tmp_path):
    row = squad(ROWS[0]) | {"answers": {"text": [], "answer_start": []}}
    module, rows = ready(tiny_bert, jsonl(tmp_path / "my.jsonl", row))
    assert rows[0]["target"] == [[0, 0]]
    module._answers = lambda batch, logits: [""]
    assert module.predictions(module.collate(rows))[0].tolist() == [[1, 1]]


def test_a_column_that_is_missing_is_named(tmp_path):
    file = jsonl(tmp_path / "my.jsonl", {"question": "a", "text": "b"})
    with pytest.raises(ValueError, match=r"no text in column 'context'; it has question, text"):
        QuestionFiles(file, validation=file).rows("train")


@pytest.mark.slow
def test_from_a_file_to_a_merged_model(kronlit, tiny_bert, tmp_path):
    places = ["house", "tree", "film"]
    rows = [
        {"question": "dog", "context": f"the cat sat and a dog ran in the {place}", "answers": [place]}
        for place in places * 8
    ]
    jsonl(tmp_path / "my.jsonl", *map(squad, rows))
    words = ["--model", "QuestionAnswering", "--model.plm", tiny_bert, "--model.lr", 0.02, "--model.max_length", 16]
    words += ["--model.stride", 4, "--model.method", "LoRA", "--model.method.rank", 4, "--data", "QuestionFiles"]
    words += ["--data.train", "my.jsonl", "--data.test", 0.2, "--data.batch_size", 8, "--run_dir", "run"]
    words += ["--trainer.accelerator", "cpu", "--trainer.devices", 1, "--trainer.max_epochs", 10]
    code, _, err = kronlit("fit", *words, "--stop_after_epochs", 5)
    assert code == 75, err
    code, _, err = kronlit("fit", *words, "--ckpt_path", "last", "--test_after_fit", "true", "--scored_rows", "true")
    assert code == 0, err
    scores = json.loads((tmp_path / "run/version_0/summary.json").read_text())["scores"]
    assert scores["test/answer_f1"] >= scores["test/answer_exact_match"] > 0.5
    assert (tmp_path / "run/version_0/test_rows.csv").read_text().startswith("row,answer_f1,answer_exact_match")

    new = jsonl(tmp_path / "new.jsonl", {"id": 1, "question": "dog", "context": "a dog ran in the house"})
    code, _, err = kronlit("predict", "--ckpt_path", "run", "--data.predict_file", new, "--predictions", "p.jsonl")
    assert code == 0, err
    (line,) = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert line["answer"] in line["context"]

    for command, *more in (["merge"], ["export", "--format", "kronlit"], ["export", "--format", "peft"]):
        code, out, err = kronlit(command, "--ckpt_path", "run", "--output", "-".join([command, *more[1:]]), *more)
        assert code == 0, err
        assert "not checked" not in out
    model, tokenizer = (
        AutoModelForQuestionAnswering.from_pretrained("merge").eval(),
        AutoTokenizer.from_pretrained("merge"),
    )
    inputs = tokenizer("dog", "a dog ran in the house", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).start_logits
        for folder in ("export-kronlit", "export-peft"):
            torch.testing.assert_close(api.load(folder)(**inputs).start_logits, logits, atol=1e-5, rtol=1e-4)
