"""A new task takes one entry: toys of each suite are fitted, prompted, predicted and submitted."""

import json
import zipfile
from dataclasses import fields

import pytest
import torch
from datasets import Dataset

from kronlit.data import E2E, GLUE, FewShot, SuperGLUE
from kronlit.data.tasks import Task, few_shot, generation, glue, super_glue
from kronlit.data.tasks.benchmark import BenchmarkTask, Table
from kronlit.data.tasks.few_shot import FewShotTask
from kronlit.data.tasks.generation import GenerationTask
from kronlit.data.tasks.prompt import Prompt
from kronlit.data.tasks.super_glue import SuperGlueTask
from kronlit.data.trained_task import task_of
from kronlit.exchange.submission.write import write_submission

MOOD = Task("mood", ("text",), ("sad", "glad"), source="mood: {text}")


@pytest.fixture
def mood(tmp_path):
    """A folder of the toy in the hub's layout; the labels of the test set are hidden."""
    (tmp_path / "mood").mkdir()
    for split, size in {"train": 20, "validation": 10, "test": 4}.items():
        columns = {"text": [f"<b>a b</b> {row}" for row in range(size)], "idx": list(range(size))}
        labels = [-1 if split == "test" else row % 2 for row in range(size)]
        Dataset.from_dict(columns | {"label": labels}).to_parquet(tmp_path / "mood" / f"{split}.parquet")
    return tmp_path


def words(plm, suite, folder, model="SequenceClassification"):
    """The words after a command that are the same for each."""
    model = ["--model", model, "--model.plm", str(plm), "--model.method", "HeadOnly"]
    return [*model, "--data", suite, "--data.task", "mood", "--data.path", str(folder), "--trainer.accelerator", "cpu"]


def submitted(folder, benchmark):
    """What the zip of predictions holds, by name."""
    write_submission(folder, folder / "out.zip", benchmark)
    with zipfile.ZipFile(folder / "out.zip") as archive:
        return {name: archive.read(name).decode().splitlines() for name in archive.namelist()}


def test_a_task_of_glue_is_fitted_recorded_predicted_and_submitted(mood, tiny_bert, kronlit, monkeypatch):
    entry = BenchmarkTask(task=MOOD, tables=(Table("Mood.tsv", 4),), submitted=("-", "+"), mahabadi="halves")
    monkeypatch.setitem(glue.TASKS, "mood", entry)
    assert len(GLUE("mood", path=str(mood), splits="mahabadi").rows("test")) == 5
    code, said, _ = kronlit("fit", *words(tiny_bert, "GLUE", mood), "--trainer.max_epochs", "1", "--run_dir", "run")
    assert code == 0, said
    saved = torch.load("run/version_0/checkpoints/last.ckpt", weights_only=True)
    assert saved["kronlit"]["task"].keys() == {field.name for field in fields(Task)}
    assert task_of(saved) == MOOD
    told = [*words(tiny_bert, "GLUE", mood), "--ckpt_path", "last", "--run_dir", "run", "--predictions", "mood.jsonl"]
    code, _, err = kronlit("predict", *told)
    assert code == 0, err
    monkeypatch.setattr("kronlit.exchange.submission.write.TASKS", {"glue": {"mood": entry}})
    lines = submitted(mood, "glue")["Mood.tsv"]
    assert len(lines) == 5
    assert {line.split("\t")[1] for line in lines[1:]} <= {"-", "+"}


def test_a_task_of_super_glue_is_prepared_predicted_and_submitted(mood, tiny_bert, kronlit, monkeypatch):
    entry = SuperGlueTask(
        task=MOOD,
        tables=(Table("Mood.jsonl", 4),),
        submitted=(10, 11),
        mahabadi="thousand",
        prepare=lambda rows, split: rows.map(lambda row: {"text": row["text"].removeprefix("<b>")}),
    )
    monkeypatch.setitem(super_glue.TASKS, "mood", entry)
    data = SuperGLUE("mood", path=str(mood), splits="mahabadi")
    assert data.held_out("validation")
    assert not data.held_out("test")
    assert data.rows("test")["text"][0] == "a b</b> 0"
    kronlit("predict", *words(tiny_bert, "SuperGLUE", mood), "--predictions", "mood.jsonl")
    monkeypatch.setattr("kronlit.exchange.submission.write.TASKS", {"super_glue": {"mood": entry}})
    objects = [json.loads(line) for line in submitted(mood, "super_glue")["Mood.jsonl"]]
    assert [one["idx"] for one in objects] == [0, 1, 2, 3]
    assert {one["label"] for one in objects} <= {10, 11}


@pytest.mark.parametrize("benchmark", ["glue", "super_glue"])
def test_a_task_without_a_table_is_no_part_of_a_submission(benchmark, tmp_path, monkeypatch):
    entry = SuperGlueTask(task=MOOD)
    monkeypatch.setattr("kronlit.exchange.submission.write.TASKS", {benchmark: {"mood": entry}})
    assert submitted(tmp_path, benchmark) == {}


def test_a_diagnostic_task_says_whose_model_predicts_it(tmp_path, monkeypatch):
    entry = BenchmarkTask(task=MOOD, tables=(Table("Mood.tsv", 4),), predicted_by="sst2")
    monkeypatch.setitem(glue.TASKS, "mood", entry)
    with pytest.raises(ValueError, match=r"mood\.jsonl.* ax with MNLI's run, mood with SST2's run"):
        write_submission(tmp_path, tmp_path / "out.zip")
    with pytest.raises(ValueError, match="'mahabadi' has no mood"):
        GLUE("mood", splits="mahabadi")


def test_a_few_shot_task_is_drawn_and_asked_by_its_prompt(mood, mlm_roberta, kronlit, monkeypatch):
    prompt = Prompt("*cls**sent_0*_It_was*mask*.*sep+*", {"sad": "terrible", "glad": "great"}, num_demonstrations=2)
    monkeypatch.setitem(few_shot.TASKS, "mood", FewShotTask(MOOD, prompt))
    data = FewShot("mood", path=str(mood), k=3)
    assert sorted(data.rows("train")["label"]) == [0, 0, 0, 1, 1, 1]
    assert len(data.rows("test")) == 10
    with pytest.raises(ValueError, match="no hub data set has mood"):
        FewShot("mood").rows("train")
    told = words(mlm_roberta, "FewShot", mood, "PromptClassification")
    code, said, err = kronlit("fit", *told, "--data.k", "3", "--trainer.max_epochs", "1", "--test_after_fit", "true")
    assert code == 0, err
    assert "test/accuracy" in said


def test_a_task_of_texts_from_data_is_read_as_it_is_released(tmp_path, monkeypatch):
    task = Task("mood", ("context",), (), ("bleu",), "{context}", free_text=True)
    entry = GenerationTask(task, released=lambda content: iter(content.items()))
    monkeypatch.setitem(generation.TASKS, "mood", entry)
    (tmp_path / "train.json").write_text(json.dumps({"mood : sad": "It rains."}))
    rows = E2E("mood", path=str(tmp_path)).rows("train")
    assert rows[0] == {"context": "mood : sad", "answers": ["It rains."]}
