"""SuperGLUE: how rows read, which rows a split has, what is scored, and that each task trains and predicts."""

import json
import sys

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from fixtures.data import ROWS
from lightning.pytorch import Trainer
from sklearn import metrics as sk
from test_metrics import both, computed

from kronlit import KronA
from kronlit.__main__ import main
from kronlit.data import SuperGLUE
from kronlit.data.super_glue_rows import mark_span, prepare_wsc
from kronlit.data.tasks import SUPER_GLUE_TASKS
from kronlit.metrics.classification import TaskMetrics, squad_scores
from kronlit.modules import SequenceClassification, TextToText

every = pytest.mark.parametrize("task", SUPER_GLUE_TASKS)


@every
def test_a_row_reads_as_in_the_papers_code(tmp_path, task):
    row, source = ROWS[task]
    (tmp_path / task).mkdir()
    Dataset.from_list([row if task == "record" else row | {"label": 1}]).to_parquet(tmp_path / task / "train.parquet")
    rows = SuperGLUE(task, path=str(tmp_path)).rows("train")
    assert SUPER_GLUE_TASKS[task].source_text(rows[0]) == source


def test_copa_without_its_question_is_the_papers_code():
    data = SuperGLUE("copa", copa_question=False)
    assert data.task.source_text(ROWS["copa"][0]) == "premise: P choice1: A choice2: B"
    assert "question" not in data.task.columns


def test_a_row_of_record_is_learned_once_for_each_answer_and_scored_once(super_glue):
    data = SuperGLUE("record", path=str(super_glue))
    assert data.rows("train")["answers"][:3] == [["penguin"], ["penguin"], ["pigeon"]]
    assert data.rows("validation")["answers"][:2] == [["penguin"], ["penguin", "pigeon"]]


def test_answers_of_one_question_are_one_group(super_glue):
    assert SuperGLUE("multirc", path=str(super_glue)).rows("validation")["group"][:7] == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("path", ["wsc", "wsc.fixed"])
def test_wsc_is_the_fixed_one_where_it_is_there(tmp_path, path):
    row = ROWS["wsc"][0] | {"label": 1}
    for name in {"wsc", path}:
        (tmp_path / name).mkdir()
        Dataset.from_list([row | {"span2_text": "is", "span2_index": 1} if name == "wsc" else row]).to_parquet(
            tmp_path / name / "train.parquet"
        )
    text = SuperGLUE("wsc", path=str(tmp_path)).rows("train")["text"][0]
    assert text == ("# This # is a * test * sentence ." if path == "wsc.fixed" else "This # is # a * test * sentence .")


def test_a_span_is_marked_as_it_stands_and_left_where_it_is_not():
    assert mark_span("Who (he) is?", "(he)", 1, "*") == "Who * (he) * is?"
    assert mark_span("Who is?", "he", 1, "*") == "Who is?"


@pytest.mark.parametrize("task", [name for name in SUPER_GLUE_TASKS if name != "record"])
def test_mahabadi_halves_the_development_set(super_glue, task):
    order = torch.randperm(23, generator=torch.Generator().manual_seed(42)).tolist()
    data, official = SuperGLUE(task, path=str(super_glue), splits="mahabadi"), SuperGLUE(task, path=str(super_glue))
    labels = official.rows("validation")["label"]
    assert data.rows("validation")["label"] == [labels[i] for i in order[:11]]
    assert data.rows("test")["label"] == [labels[i] for i in order[11:]]
    assert len(data.rows("train")) == 31


def test_mahabadi_holds_out_a_thousand_training_rows_of_record(super_glue):
    order = torch.randperm(1031, generator=torch.Generator().manual_seed(42)).tolist()
    data = SuperGLUE("record", path=str(super_glue), splits="mahabadi")
    number = [int(query.split()[-1]) for query in data.rows("validation")["query"]]
    assert number == order[:1000]
    assert {int(query.split()[-1]) for query in data.rows("train")["query"]} == set(order[1000:])
    assert len(data.rows("test")) == 23


# --- metrics ---


def test_macro_f1_is_scikit_learns():
    prediction, target = both(3)
    values = computed(SUPER_GLUE_TASKS["cb"], prediction, target)
    assert values["macro_f1"] == pytest.approx(sk.f1_score(target, prediction, average="macro"))
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(target, prediction))
    assert values["score"] == pytest.approx((values["macro_f1"] + values["accuracy"]) / 2)


@pytest.mark.parametrize("prediction", [[0, 0, 1, 1], [0, -1, -1, 1], [2, 2, 2, 2]])
def test_macro_f1_counts_every_class_of_the_task(prediction):
    # T5's mean_multiclass_f1: sklearn's fbeta_score over labels=range(3), macro
    target = np.array([0, 0, 1, 0])
    expected = sk.fbeta_score(target, prediction, beta=1, labels=range(3), average="macro", zero_division=0)
    assert computed(SUPER_GLUE_TASKS["cb"], np.array(prediction), target)["macro_f1"] == pytest.approx(expected)


def test_multirc_is_scored_over_answers_and_over_questions():
    prediction, target = both(2)
    question = np.random.default_rng(1).integers(80, size=301)
    metrics = TaskMetrics(SUPER_GLUE_TASKS["multirc"])
    for part in np.array_split(np.arange(301), 7):
        metrics.update(*(torch.as_tensor(v[part]) for v in (np.arange(301), prediction, target, prediction, question)))
    values = {name: value.item() for name, value in metrics.compute().items()}
    assert values["f1a"] == pytest.approx(sk.f1_score(target, prediction))
    right = [(prediction == target)[question == q].all() for q in set(question)]
    assert 0 < sum(right) < len(right)
    assert values["exact_match"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize(
    ("text", "answers", "f1", "exact"),
    # By hand, from ReCoRD's official script: lower case, no punctuation, no articles; the best of all answers
    [
        ("The Penguin!", ["penguin"], 1.0, 1.0),
        ("a king penguin", ["penguin", "pigeon"], 2 / 3, 0.0),
        ("pigeon", ["penguin", "Pigeon."], 1.0, 1.0),
        ("potato", ["penguin"], 0.0, 0.0),
        ("new york city", ["york new"], 0.8, 0.0),
        ("", ["penguin"], 0.0, 0.0),
    ],
)
def test_free_answers_are_marked_as_record_does(text, answers, f1, exact):
    assert squad_scores(text, answers) == pytest.approx((f1, exact))


def test_marks_are_averaged_over_rows_that_count_once():
    metrics = TaskMetrics(SUPER_GLUE_TASKS["record"])
    graded = torch.tensor([[1.0, 1.0], [0.5, 0.0], [0.0, 0.0]])
    metrics.update(torch.arange(3), graded, torch.full((3,), -1), torch.zeros(3))
    metrics.update(torch.tensor([1]), graded[1:2], torch.full((1,), -1), torch.zeros(1))
    values = metrics.compute()
    assert (values["answer_f1"].item(), values["answer_exact_match"].item()) == pytest.approx((0.5, 1 / 3))
    assert values["score"].item() == pytest.approx((0.5 + 1 / 3) / 2)


# --- training ---


def arguments(super_glue, plm, task, model, command="fit"):
    words = ["kronlit", command, "--model", model, "--model.plm", str(plm), "--model.method", "KronA"]
    words += ["--data", "SuperGLUE", "--data.task", task, "--data.path", str(super_glue), "--data.splits", "mahabadi"]
    return [*words, "--trainer.accelerator", "cpu", "--trainer.logger", "false"]


@every
@pytest.mark.parametrize("model", ["TextToText", "SequenceClassification"])
def test_every_task_trains(super_glue, tiny_t5, tiny_bert, monkeypatch, capsys, task, model):
    words = arguments(super_glue, tiny_t5 if model == "TextToText" else tiny_bert, task, model)
    trains = ["--model.method.trains", "[layer_norm]"] if model == "TextToText" else []
    monkeypatch.setattr(sys, "argv", [*words, *trains, "--trainer.fast_dev_run", "true"])
    if model == "SequenceClassification" and task in ("copa", "record"):
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert f"'{task}' has no form for `SequenceClassification`: use `TextToText`" in capsys.readouterr().err
    else:
        main()


@pytest.mark.parametrize("task", ["record", "multirc"])
def test_a_test_set_is_predicted(super_glue, tiny_t5, monkeypatch, tmp_path, task):
    words = arguments(super_glue, tiny_t5, task, "TextToText", "predict")
    monkeypatch.setattr(sys, "argv", [*words, "--predictions", str(tmp_path / "out.jsonl")])
    main()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    split = SuperGLUE(task, path=str(super_glue), splits="mahabadi").rows("test")
    column = SUPER_GLUE_TASKS[task].columns[0]
    assert [line[column] for line in lines] == list(split[column])
    assert [line["idx"] for line in lines] == list(split["idx"])
    assert all(isinstance(line["answer"], str) if task == "record" else line["label"] in "FalseTrue" for line in lines)


@pytest.mark.parametrize("task", ["axb", "axg"])
def test_the_diagnostics_are_read_as_rtes_rows_by_its_run(tmp_path, tiny_t5, monkeypatch, task):
    texts = ("sentence1", "sentence2") if task == "axb" else ("premise", "hypothesis")  # as the hub has them
    (tmp_path / task).mkdir()
    row = dict(zip(texts, ("A b", "c"), strict=True)) | {"idx": 0, "label": 1}
    Dataset.from_list([row]).to_parquet(tmp_path / task / "test.parquet")
    data = SuperGLUE(task, path=str(tmp_path))
    assert data.task.source_text(data.rows("test")[0]) == ROWS["rte"][1]
    words = arguments(tmp_path, tiny_t5, task, "TextToText", "predict")
    words[words.index("mahabadi")] = "official"
    monkeypatch.setattr(sys, "argv", [*words, "--predictions", str(tmp_path / "out.jsonl")])
    main()
    (line,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert line["idx"] == 0
    assert line["label"] in ("entailment", "not_entailment")
    with pytest.raises(ValueError, match=f"has no {task}: it is a test set alone"):
        SuperGLUE(task, splits="mahabadi")


def test_answers_that_are_hidden_cannot_be_scored(super_glue, tiny_t5):
    data = SuperGLUE("record", path=str(super_glue))
    model = TextToText(str(tiny_t5), KronA(), data.task)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    with pytest.raises(ValueError, match="the labels of record/test are hidden"):
        trainer.test(model, datamodule=data)


def test_a_classifier_reads_question_and_answer_together(super_glue, tiny_bert):
    data = SuperGLUE("multirc", path=str(super_glue))
    model = SequenceClassification(str(tiny_bert), KronA(), data.task)
    row = {"question": ["the cat"], "answer": ["sat"], "paragraph": ["a dog ran"]}
    (tokens,) = model.encode(row)["input_ids"]
    assert model.tokenizer.decode(tokens) == "[CLS] a dog ran [SEP] the cat sat [SEP]"


def test_labels_of_the_hub_are_read_as_they_are(tmp_path):
    features = Features(
        {"premise": Value("string"), "hypothesis": Value("string"), "label": ClassLabel(names=["e", "c", "n"])}
    )
    (tmp_path / "cb").mkdir()
    rows = Dataset.from_dict({"premise": ["a"], "hypothesis": ["b"], "label": [2]}, features=features)
    rows.to_parquet(tmp_path / "cb" / "train.parquet")
    assert SuperGLUE("cb", path=str(tmp_path)).rows("train")["label"][0] == 2


def test_an_unknown_task_is_one_line():
    with pytest.raises(ValueError, match=r"`data\.task`='cola' is no SuperGLUE task; there are boolq, cb, copa"):
        SuperGLUE("cola")


@pytest.mark.parametrize(
    ("spans", "text"),
    [
        # Raffel et al., appendix D: the noun has stars, the pronoun hashes, wherever either stands
        (("Ann", 0, "she", 3), "* Ann * saw that # she # knew Bob well"),
        (("she", 3, "Ann", 0), "# Ann # saw that * she * knew Bob well"),
        (("Bob", 5, "she", 3), "Ann saw that # she # knew * Bob * well"),
        (("she", 3, "well", 6), "Ann saw that * she * knew Bob # well #"),
        (("knew Bob", 4, "well", 6), "Ann saw that she * knew Bob * # well #"),
        (("well", 6, "Ann", 0), "# Ann # saw that she knew Bob * well *"),
    ],
)
def test_both_spans_of_wsc_are_marked_whichever_comes_first(spans, text):
    names = ("span1_text", "span1_index", "span2_text", "span2_index")
    row = {"text": "Ann saw that she knew Bob well"} | dict(zip(names, spans, strict=True))
    assert prepare_wsc(row) == {"text": text}
