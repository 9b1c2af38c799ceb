"""One's own rows for a language model: what is read, from where, and what a slip in them gets."""

import csv
import json
import re
import shutil

import pytest
from datasets import Dataset
from datasets.exceptions import DatasetGenerationError
from fixtures.chat import SITES, byte_tokenizer, pairs, talks, write_jsonl

import kronlit.data.row_source
from kronlit.config.user_error import UserError
from kronlit.data import InstructionFiles


def read(rows):
    return [(prompt, answers) for prompt, answers in zip(rows["prompt"], rows["answers"], strict=True)]


PAIRS = pairs(10)
EXPECTED = [(row["prompt"], [row["completion"]]) for row in PAIRS]


def as_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_pairs_are_read_alike_from_every_kind_of_file(tmp_path, kind):
    path = tmp_path / f"mine.{kind}"
    if kind == "csv":
        as_csv(path, PAIRS)
    elif kind == "jsonl":
        write_jsonl(path, PAIRS)
    else:
        Dataset.from_list(PAIRS).to_parquet(path)
    data = InstructionFiles(str(path), validation=str(path))
    assert read(data.rows("train")) == read(data.rows("validation")) == EXPECTED
    assert (data.task.name, data.task.form, data.task.columns) == ("mine", "prompt", ("prompt",))


def test_all_files_of_a_folder_are_read(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", PAIRS[:4])
    as_csv(tmp_path / "b.csv", PAIRS[4:])
    (tmp_path / "notes.txt").write_text("no rows")
    assert read(InstructionFiles(str(tmp_path), validation=str(tmp_path)).rows("train")) == EXPECTED


def test_files_of_a_folder_that_are_named_after_splits_are_these(tmp_path):
    write_jsonl(tmp_path / "train-00.jsonl", PAIRS[:3])
    write_jsonl(tmp_path / "train-01.jsonl", PAIRS[3:6])
    write_jsonl(tmp_path / "dev.jsonl", PAIRS[6:8])
    write_jsonl(tmp_path / "test.jsonl", PAIRS[8:])
    folder = str(tmp_path)
    data = InstructionFiles(folder, validation=folder, test=folder)
    assert [read(data.rows(split)) for split in ("train", "validation", "test")] == [
        EXPECTED[:6],
        EXPECTED[6:8],
        EXPECTED[8:],
    ]
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(ValueError, match=r"`data.validation`=.* has no file named validation or valid or dev or eval"):
        data = InstructionFiles(folder, validation=folder).rows("validation")


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("me/mine", ("me/mine", None, "train", None)),
        ("me/mine:train_sft", ("me/mine", None, "train_sft", None)),
        ("me/mine/en@v2:train[:10%]", ("me/mine", "en", "train[:10%]", "v2")),
    ],
)
def test_a_data_set_of_the_hub_is_loaded_by_datasets(monkeypatch, source, asked):
    seen = []

    def load(name, configuration, split, revision):
        seen.append((name, configuration, split, revision))
        return Dataset.from_list(PAIRS)

    monkeypatch.setattr(kronlit.data.row_source, "load_dataset", load)
    assert read(InstructionFiles(source, validation=0.2, test=0.2).rows("test")) != []
    assert set(seen) == {asked}


def test_without_the_hub_a_name_is_told_in_one_line():
    with pytest.raises(ValueError, match=r"`data.train`='me/mine' is neither a file or folder here nor a data set"):
        InstructionFiles("me/mine")


def failing(error):
    def load(*args, **kwargs):
        raise error

    return load


def test_a_data_set_that_the_hub_cannot_build_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(kronlit.data.row_source, "load_dataset", failing(DatasetGenerationError("a column\nis odd")))
    with pytest.raises(UserError, match=r"`data.train`='me/mine' is neither .* \(a column is odd\): give a path"):
        InstructionFiles("me/mine")


def test_an_error_in_the_code_that_loads_is_not_put_down_to_the_hub(monkeypatch):
    monkeypatch.setattr(kronlit.data.row_source, "load_dataset", failing(TypeError("one argument too many")))
    with pytest.raises(TypeError, match="one argument too many"):
        InstructionFiles("me/mine")


def test_columns_of_other_names_are_renamed(tmp_path):
    rows = [{"question": row["prompt"], "answer": row["completion"], "id": n} for n, row in enumerate(PAIRS)]
    path = write_jsonl(tmp_path / "mine.jsonl", rows)
    data = InstructionFiles(path, validation=path, columns={"prompt": "question", "completion": "answer"})
    assert read(data.rows("train")) == EXPECTED


def test_a_named_column_tells_which_of_several_forms_is_read(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", [row | {"text": "whole"} for row in PAIRS])
    with pytest.raises(ValueError, match=r"rows of several forms, by its columns prompt and text: name the one"):
        InstructionFiles(path)
    assert InstructionFiles(path, columns={"text": "text"}).task.form == "text"


def test_rows_are_held_out_by_a_seed(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", pairs(40))

    def parts(**arguments):
        data = InstructionFiles(path, validation=0.1, test=0.25, **arguments)
        return [list(data.rows(split)["prompt"]) for split in ("train", "validation", "test")]

    assert [len(part) for part in parts()] == [26, 4, 10]
    assert sorted(prompt for part in parts() for prompt in part) == sorted(row["prompt"] for row in pairs(40))
    assert parts() == parts()
    assert parts(split_seed=1)[1] != parts()[1]


def test_what_follows_the_last_answer_is_left_out(tmp_path):
    row = talks(1)[0]["messages"]
    path = write_jsonl(tmp_path / "mine.jsonl", [{"messages": [*row, {"role": "user", "content": "thanks"}]}])
    rows = InstructionFiles(path, validation=path).rows("train")
    assert rows["messages"][0] == row
    assert rows["answers"][0] == ["2 ab"]


def said(role, content="x"):
    return {"role": role, "content": content}


HELLO = said("user")


@pytest.mark.parametrize(
    ("rows", "arguments", "words"),
    [
        ([{"question": "a", "completion": "b"}], {}, "row 1: no prompt in column 'prompt'; it has question, com"),
        ([{"prompt": "a", "answer": "b"}], {}, r"no completion in column 'completion'; .*`data.columns`={complet"),
        ([{"a": "x"}], {}, r"line 1, row 1: no columns prompt and completion, or messages, or text; it has a: name"),
        ([{"a": "x"}], {"columns": {"text": "b"}}, "no text in column 'b'; it has a"),
        ([{"text": "x"}], {"columns": {"txt": "text"}}, "`data.columns` names 'txt'; there are messages, prompt, c"),
        ([{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": " "}], {},
         r"mine.jsonl', line 2, row 2: the completion in column 'completion' is empty: write one"),
        ([{"prompt": "", "completion": "b"}], {}, "row 1: the prompt in column 'prompt' is empty"),
        ([{"prompt": "a", "completion": None}], {}, "row 1: no text in column 'completion', which is null"),
        ([{"text": "a"}, {"text": "\n"}], {}, "line 2, row 2: the text in column 'text' is empty"),
        ([{"messages": "hello"}], {}, "row 1, column 'messages': \"hello\" is no list of messages"),
        ([{"messages": []}], {}, r"row 1, column 'messages': \[\] is no list of messages"),
        ([{"messages": [HELLO]}], {}, "no message is of the role 'assistant', so there is nothing to learn"),
        ([{"messages": [HELLO, {"role": "assistant"}]}], {}, "message 2 has no text as its 'content', but null"),
        ([{"messages": [HELLO, said("assistant", " ")]}], {}, "row 1.*: the assistant's message 2 is empty"),
        ([{"messages": [said("assistant")]}], {}, "the assistant's message 1 stands before what it answers"),
        ([{"messages": [HELLO, said("assistant") | {"tool_calls": [1]}]}], {}, "message 2 calls tools"),
        ([{"text": "a"}], {"validation": 1.5}, "`data.validation`=1.5 must be a file, or a share"),
        ([{"text": "a"}], {"metrics": ()}, r"`data.metrics`=\[\] must name one"),
    ],
)  # fmt: skip
def test_a_slip_is_told_in_one_line(tmp_path, rows, arguments, words):
    path = write_jsonl(tmp_path / "mine.jsonl", rows)
    with pytest.raises(ValueError, match=words) as caught:
        InstructionFiles(path, **arguments).rows("train")
    assert "\n" not in str(caught.value)


def fit(kronlit, plm, path, *more):
    words = ["fit", "--model", "CausalLM", "--model.plm", plm, "--model.method", "LoRA", "--model.method.rank", "2"]
    words += ["--model.method.sites", SITES, "--data", "InstructionFiles", "--data.train", path]
    return kronlit(*words, "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", *more)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"prompt": "a", "completion": "b"}\nprompt: a\n', "mine.jsonl', line 2: no JSON object"),
        ('{"prompt": "a"}\n', "line 1, row 1: no completion in column 'completion'"),
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": ""}\n', "line 2, row 2: the completion in"),
        (json.dumps({"messages": [HELLO, said("robot"), said("assistant")]}) + "\n",
         "the chat template of `model.plm`=.* refuses a conversation of the roles user, robot.*no such role: robot"),
    ],
)  # fmt: skip
def test_bad_rows_end_a_fit_in_one_line(kronlit, tmp_path, tiny_llama, content, words):
    (tmp_path / "mine.jsonl").write_text(content)
    code, _, err = fit(kronlit, tiny_llama, "mine.jsonl", "--data.validation", "mine.jsonl")
    line = err.splitlines()[-1]
    assert code == 2
    assert line.startswith("kronlit: ")
    assert re.search(words, line)


def test_a_model_without_a_chat_template_reads_no_messages(kronlit, tmp_path, tiny_llama):
    shutil.copytree(tiny_llama, tmp_path / "plain")
    for file in (tmp_path / "plain").glob("chat_template*"):
        file.unlink()
    byte_tokenizer(template=None).save_pretrained(tmp_path / "plain")
    path = write_jsonl(tmp_path / "mine.jsonl", talks(4))
    code, _, err = fit(kronlit, tmp_path / "plain", path)
    assert code == 2
    assert "has no chat template, which rows of messages need" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("plm", "words"), [("tiny_bert", "is no decoder: a bert reads"), ("tiny_t5", "cannot be load")]
)
def test_a_model_that_is_no_decoder_is_refused(kronlit, tmp_path, request, plm, words):
    path = write_jsonl(tmp_path / "mine.jsonl", pairs(8))
    code, _, err = fit(kronlit, request.getfixturevalue(plm), path, "--model.max_length", "32")
    assert code == 2
    assert words in err.splitlines()[-1]
