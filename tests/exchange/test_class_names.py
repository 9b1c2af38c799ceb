"""What is loaded onto a model is matched to its classes by their names."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_exchange import logits
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit.adapters.state import adapter_state
from kronlit.data.tasks import Task
from kronlit.exchange.init_adapter import init_adapter
from kronlit.modules import SequenceClassification, TextToText

ABC = ("a", "b", "c")


@pytest.fixture
def kronlit_(kronlit):
    """The command line, beside the package of that name."""
    return kronlit


@pytest.fixture
def exported(kronlit_, run_of, tmp_path):
    """Makes the folder of an adapter of the classes a, b and c; gives it and the run's."""

    def make(plm, method="LoRA", model="SequenceClassification", form="kronlit", **arguments):
        (tmp_path / "abc.csv").write_text("text,label\nx,a\ny,b\nz,c\n")
        data = {"class_path": "TextFiles", "init_args": {"train": str(tmp_path / "abc.csv")}}
        run, _ = run_of(plm, method, model, data, **arguments)
        code, _, err = kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", form)
        assert code == 0, err
        return tmp_path / "own", run

    return make


def module(plm, labels, method=None, kind=SequenceClassification):
    made = kind(str(plm), method or kronlit.LoRA(), Task("mine", ("text",), labels, source="text: {text}"))
    made.configure_model()
    return made


def base(plm, labels=None, **arguments):
    if labels:
        names = dict(enumerate(labels))
        arguments = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    return AutoModelForSequenceClassification.from_pretrained(plm, ignore_mismatched_sizes=True, **arguments)


def by_name(model):
    values = logits(model)
    return {model.config.id2label[number]: values[:, number] for number in range(values.shape[1])}


def alike(ours, theirs):
    ours, theirs = by_name(ours), by_name(theirs)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        torch.testing.assert_close(values, theirs[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("labels", [ABC, ("c", "a", "b"), ("b", "c", "a")])
@pytest.mark.parametrize(
    ("form", "method"),
    [("kronlit", kronlit.LoRA()), ("peft", kronlit.LoRA()), ("kronlit", kronlit.FullFineTuning())],
    ids=["kronlit", "peft", "all"],
)
def test_a_training_starts_with_each_class_under_its_name(exported, tiny_bert, form, method, labels):
    folder, _ = exported(tiny_bert, type(method).__name__, form=form)
    whole, ours = kronlit.load(folder), module(tiny_bert, labels, method)
    assert whole.config.id2label == dict(enumerate(ABC))
    count, left = init_adapter(ours.model, ours.method, str(folder))
    assert (count, left) == (len(adapter_state(ours.model)), [])
    alike(ours.model, whole)


def test_the_head_of_a_roberta_is_its_last_layer(exported, mlm_roberta):
    folder, _ = exported(mlm_roberta)
    ours = module(mlm_roberta, ("c", "a", "b"))
    init_adapter(ours.model, ours.method, str(folder))
    alike(ours.model, kronlit.load(folder))


@pytest.mark.parametrize("form", ["kronlit", "peft"])
def test_a_head_of_other_classes_is_left_out_and_said(exported, kronlit_, tiny_bert, tmp_path, form):
    folder, run = exported(tiny_bert, form=form)
    (tmp_path / "abd.csv").write_text("text,label\nx,a\ny,b\nz,d\n")
    words = ["--config", run / "config.yaml", "--data.train", tmp_path / "abd.csv", "--init_adapter", folder]
    words += ["--trainer.max_steps", "1", "--run_dir", "next", "--data.validation", tmp_path / "abd.csv"]
    code, out, err = kronlit_("fit", *words)
    assert code == 0, err
    assert "8 tensors; it leaves out classifier.bias, classifier.weight, of another name, shape or classes" in out


@pytest.mark.parametrize("form", ["kronlit", "peft"])
def test_an_adapter_is_loaded_on_a_model_by_the_names_of_its_classes(exported, tiny_bert, form):
    folder, _ = exported(tiny_bert, form=form)
    whole = kronlit.load(folder)
    alike(kronlit.load(folder, base(tiny_bert, ("b", "c", "a"))), whole)
    alike(kronlit.load(folder, base(tiny_bert, num_labels=3)), whole)  # which is told the names
    with pytest.raises(ValueError, match="of the classes a, b, c, and `model` has a, b, d: leave out `model`"):
        kronlit.load(folder, base(tiny_bert, ("a", "b", "d")))


def test_a_folder_of_pefts_has_the_classes_of_its_base(tiny_bert, tmp_path):
    shutil.copytree(tiny_bert, tmp_path / "base")  # with its tokenizer
    base(tiny_bert, ABC).save_pretrained(tmp_path / "base")
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
    theirs = get_peft_model(base(tmp_path / "base"), config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path / "peft")
    whole = kronlit.load(tmp_path / "peft")
    torch.testing.assert_close(logits(whole), logits(theirs), atol=1e-5, rtol=1e-5)
    alike(kronlit.load(tmp_path / "peft", base(tmp_path / "base", ("c", "b", "a"))), whole)
    ours = module(tmp_path / "base", ("c", "b", "a"), kronlit.LoRA(4, 8.0))
    init_adapter(ours.model, ours.method, str(tmp_path / "peft"))
    alike(ours.model, whole)


def test_classes_without_names_are_taken_in_order_and_said(tiny_bert, tmp_path, capsys):
    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"])
    theirs = get_peft_model(base(tiny_bert, num_labels=3), config)
    theirs.save_pretrained(tmp_path / "peft")
    ours = module(tiny_bert, ("c", "b", "a"), kronlit.LoRA(4, 2.0))
    init_adapter(ours.model, ours.method, str(tmp_path / "peft"))
    torch.testing.assert_close(logits(ours.model), logits(theirs), atol=1e-5, rtol=1e-5)
    assert (
        "no names of its classes: its output layer is taken for one of c, b, a, in this order"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("form", ["kronlit", "peft"])
def test_numbers_that_a_t5_writes_stand_for_the_same_classes(exported, tiny_t5, form):
    folder, _ = exported(tiny_t5, model="TextToText", form=form)
    same, other, new = (module(tiny_t5, labels, kind=TextToText) for labels in (ABC, ("c", "a", "b"), ("x", "y", "z")))
    for ours in (same, new):
        init_adapter(ours.model, ours.method, str(folder), ours.task.labels)
    with pytest.raises(ValueError, match="numbers of a, b, c, in this order, and `data` has c, a, b: give"):
        init_adapter(other.model, other.method, str(folder), other.task.labels)


def test_words_that_answer_a_prompt_stand_for_the_same_classes(kronlit_, run_of, mlm_bert, lm_bff, tmp_path):
    data = {"class_path": "FewShot", "init_args": {"task": "cr", "path": str(lm_bff)}}
    run, _ = run_of(mlm_bert, "LoRA", "PromptClassification", data)
    code, _, err = kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")
    assert code == 0, err
    words = json.loads((tmp_path / "own/adapter_config.json").read_text())["words"]
    assert words == {"negative": "terrible", "positive": "great"}
    model = kronlit.load(tmp_path / "own")

    def fresh():
        kind = type(model)
        return kronlit.inject(kind.from_pretrained(mlm_bert), kronlit.LoRA(trains=("head",)))

    labels = ("negative", "positive")
    init_adapter(fresh(), kronlit.LoRA(trains=("head",)), str(tmp_path / "own"), labels, words)
    init_adapter(fresh(), kronlit.LoRA(), str(tmp_path / "own"), labels, {"negative": "bad", "positive": "good"})
    swapped = {"negative": "great", "positive": "terrible"}
    with pytest.raises(ValueError, match=r"`model.label_words` has"):
        init_adapter(fresh(), kronlit.LoRA(), str(tmp_path / "own"), labels, swapped)
