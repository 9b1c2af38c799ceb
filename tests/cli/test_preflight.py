"""What is found before any weight is read or row tokenised."""

import pytest
import torch
import yaml
from transformers import AlbertConfig, AlbertForSequenceClassification, MPNetConfig, MPNetForSequenceClassification

import kronlit.cli.fit
from kronlit import HeadOnly, KronA, KronAB
from kronlit.cli.preflight import check_method
from kronlit.config.explain import subclasses
from kronlit.data import TaskData
from kronlit.data.tasks import FEW_SHOT_TASKS, GENERATION_TASKS, GLUE_TASKS, Task
from kronlit.methods import Method
from kronlit.modules import CausalLM, ImageClassification, PromptClassification, SequenceClassification, TextToText

JOBS = {
    "classification": (SequenceClassification, "tiny_bert", GLUE_TASKS["rte"], {}),
    "regression": (SequenceClassification, "tiny_bert", GLUE_TASKS["stsb"], {}),
    "text to text": (TextToText, "tiny_t5", GLUE_TASKS["rte"], {}),
    "prompts": (PromptClassification, "mlm_roberta", FEW_SHOT_TASKS["sst2"], {}),
    "prompts of T5": (PromptClassification, "span_t5", FEW_SHOT_TASKS["sst2"], {}),
    "images": (ImageClassification, "tiny_vit", Task("mine", ("image",), ("a", "b", "c")), {}),
    "causal": (CausalLM, "tiny_gpt2", GENERATION_TASKS["e2e"], {"max_length": 40, "max_new_tokens": 16}),
}


def module_of(request, job, method, **options):
    kind, plm, task, arguments = JOBS[job]
    return kind(str(request.getfixturevalue(plm)), method, task, **arguments, **options)


@pytest.mark.parametrize("job", JOBS)
def test_a_method_is_checked_without_the_weights_of_the_model(job, request, monkeypatch):
    fine = module_of(request, job, KronA())
    wrong = module_of(request, job, KronA(a_shape=(5, 7)))
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)  # whoever reads weights fails
    check_method(fine, trains=True)
    with pytest.raises(ValueError, match="`a_shape`"):
        check_method(wrong, trains=True)


@pytest.mark.parametrize(
    "method",
    [cls for cls in subclasses(Method) if cls.__module__.startswith("kronlit.")],
    ids=lambda method: method.__name__,
)
@pytest.mark.parametrize("job", ["classification", "text to text", "images"])
def test_a_check_draws_nothing_and_refuses_nothing_that_can_be_trained(method, job, request):
    module = module_of(request, job, method())
    state = torch.get_rng_state()
    verdicts = []
    for check in (lambda: check_method(module, trains=False), module.configure_model):
        try:
            check()
            verdicts.append("")
        except ValueError as error:
            verdicts.append(str(error))
        if not len(verdicts) - 1:
            assert torch.equal(torch.get_rng_state(), state)
            assert module.model is None
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("words", [["--model.method.a_shape=[5,7]"], ["--model.method.sites=[nowhere]"]])
@pytest.mark.parametrize("command", ["fit", "validate"])
def test_the_command_line_says_it_before_the_rows_are_tokenised(command, words, kronlit, config, monkeypatch):
    monkeypatch.setattr(TaskData, "prepare_data", lambda self: pytest.fail("rows were tokenised"))
    code, _, err = kronlit(command, "--config", config, *words)
    assert code == 2
    assert words[0].split(".")[-1].split("=")[0] in err or "nowhere" in err
    assert "Traceback" not in err


def test_a_run_is_bit_for_bit_the_same_with_the_check(kronlit, config, tmp_path, monkeypatch):
    weights = []
    for check in (check_method, lambda module, trains: None):
        monkeypatch.setattr(kronlit_cli, "check_method", check)
        folder = tmp_path / str(len(weights))
        assert kronlit("fit", "--config", config, f"--run_dir={folder}", "--trainer.max_steps=2")[0] == 0
        weights.append(torch.load(folder / "version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())


kronlit_cli = kronlit.cli.fit  # the fixture has the package's name

TINY = {"vocab_size": 99, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
REFUSING = {
    "mpnet": (MPNetForSequenceClassification, MPNetConfig(**TINY)),
    "albert": (AlbertForSequenceClassification, AlbertConfig(**TINY, embedding_size=24)),
}


@pytest.mark.parametrize("architecture", REFUSING)
def test_a_model_that_recomputes_no_activations_is_refused_in_a_line(architecture, kronlit, config, tmp_path):
    kind, model_config = REFUSING[architecture]
    kind(model_config).save_pretrained(tmp_path / "plm")
    content = yaml.safe_load(config.read_text())
    content["model"]["init_args"] |= {"plm": str(tmp_path / "plm"), "method": {"class_path": "HeadOnly"}}
    config.write_text(yaml.safe_dump(content))
    code, _, err = kronlit("fit", "--config", config, "--model.gradient_checkpointing=true")
    assert code == 2
    assert "`model.gradient_checkpointing`=True" in err
    assert kind.__name__ in err
    # Lightning has a warning of its own where the machine has `srun`.
    assert [line for line in err.splitlines() if line.startswith("kronlit: ")] == err.splitlines()[-1:]
    assert "Traceback" not in err


def test_a_model_that_recomputes_is_not_refused(request):
    check_method(module_of(request, "classification", HeadOnly(), gradient_checkpointing=True), trains=True)


def test_a_job_that_loads_in_a_way_of_its_own_is_left_alone(request):
    class Own(SequenceClassification):
        def load(self):
            raise RuntimeError("no meta device here")

    _, plm, task, _ = JOBS["classification"]
    check_method(Own(str(request.getfixturevalue(plm)), KronAB(a_shape=(5, 7)), task), trains=True)


def test_a_method_that_trains_nothing_is_refused_for_training_alone(request):
    module = module_of(request, "text to text", HeadOnly())
    check_method(module, trains=False)
    with pytest.raises(ValueError, match=r"`model\.method`=HeadOnly trains nothing"):
        check_method(module, trains=True)
    check_method(module_of(request, "classification", KronA(trains=())), trains=True)
