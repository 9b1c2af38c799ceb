"""Without Lightning: what was injected is saved and loaded, and what is refused leaves the model as it was."""

import json
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

import kronlit
from kronlit.adapters import Delta, Insertion, placements
from kronlit.adapters.tied_weights import untie
from kronlit.adapters.transaction import all_or_nothing
from kronlit.data.tasks import Task
from kronlit.modules import SequenceClassification
from kronlit.structured import LDR, Kronecker, LowRank, Mixture

BERT, T5 = AutoModelForSequenceClassification, AutoModelForSeq2SeqLM


def trained(model):
    """`model` with random values of all that is trained."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@torch.no_grad()
def logits(model):
    generator = torch.Generator().manual_seed(1)
    if model.config.model_type == "vit":
        return model.eval()(pixel_values=torch.randn(2, 3, 16, 16, generator=generator)).logits
    ids = torch.randint(4, 24, (3, 12), generator=generator)
    return model.eval()(input_ids=ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})).logits


CASES = {
    "KronA": ("tiny_bert", BERT, kronlit.KronA()),
    "nothing but an adapter": ("tiny_bert", BERT, kronlit.KronA(trains=())),
    "a head that is drawn anew": ("mlm_roberta", BERT, kronlit.LoRA(trains=())),
    "KronABRes": ("tiny_bert", BERT, kronlit.KronABRes()),
    "AdaMix": ("tiny_bert", BERT, kronlit.AdaMix(bottleneck_width=4)),
    "IntrinsicSAID": ("tiny_bert", BERT, kronlit.IntrinsicSAID(500)),
    "BitFit": ("tiny_bert", BERT, kronlit.BitFit()),
    "HeadOnly": ("tiny_bert", BERT, kronlit.HeadOnly()),
    "Compacter": ("tiny_t5", T5, kronlit.Compacter(phm_dim=4, reduction_factor=4)),
    "PromptTuning": ("tiny_t5", T5, kronlit.PromptTuning(3)),
    "BitFit, T5": ("tiny_t5", T5, kronlit.BitFit()),
    "GPT-2": ("tiny_gpt2", AutoModelForCausalLM, kronlit.LoRA()),
    "images": ("tiny_vit", AutoModelForImageClassification, kronlit.SURM(structure="circulant")),
}


@pytest.mark.parametrize(("plm", "auto", "method"), CASES.values(), ids=CASES)
def test_what_is_saved_loads_as_it_was(tmp_path, request, plm, auto, method):
    plm = request.getfixturevalue(plm)
    more = {"id2label": {0: "no", 1: "maybe", 2: "yes"}, "ignore_mismatched_sizes": True} if auto is BERT else {}
    model = trained(kronlit.inject(auto.from_pretrained(plm, **more), method))
    expected, flags = logits(model), [parameter.requires_grad for parameter in model.parameters()]
    kronlit.save(model, tmp_path / "adapter")
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {"adapter.safetensors", "adapter_config.json"}
    loaded = kronlit.load(tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded), expected)
    if auto is BERT:
        assert loaded.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    kronlit.save(loaded, tmp_path / "again")
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "again")), expected)


def test_it_is_the_folder_that_export_writes(kronlit_, run_of, tiny_bert, tmp_path):
    run, _ = run_of(tiny_bert, "KronA", scale=2.0)
    assert kronlit_("export", "--ckpt_path", run, "--output", "exported", "--format", "kronlit")[0] == 0
    kronlit.save(kronlit.load("exported"), "saved")
    assert Path("saved/adapter.safetensors").read_bytes() == Path("exported/adapter.safetensors").read_bytes()
    one, other = (json.loads(Path(folder, "adapter_config.json").read_text()) for folder in ("exported", "saved"))
    assert one.pop("task") == "rte"
    assert other.pop("task") == ""
    assert one == other


@pytest.fixture
def kronlit_(kronlit):
    """The command line, beside the package of that name."""
    return kronlit


def test_a_collapsed_mixture_is_saved_as_one_adapter(tiny_bert, tmp_path):
    model = trained(kronlit.inject(BERT.from_pretrained(tiny_bert), kronlit.AdaMix(bottleneck_width=4)))
    kronlit.collapse(model)
    kronlit.save(model, tmp_path / "adapter")
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "adapter")), logits(model))


def test_what_peft_wrote_is_saved_as_pefts(tiny_bert, tmp_path):
    theirs = get_peft_model(
        BERT.from_pretrained(tiny_bert),
        LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=6, target_modules=["query", "dense"]),
    )
    theirs.save_pretrained(tmp_path / "peft")
    model = trained(kronlit.load(tmp_path / "peft"))
    kronlit.save(model, tmp_path / "again")
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "again")), logits(model))
    theirs = PeftModel.from_pretrained(BERT.from_pretrained(tiny_bert), tmp_path / "again")
    torch.testing.assert_close(logits(theirs), logits(model), atol=1e-5, rtol=1e-5)


def test_an_adapter_of_pefts_that_does_not_fit_leaves_the_model_as_it_was(tiny_bert, wide_bert, tmp_path):
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"])
    get_peft_model(BERT.from_pretrained(wide_bert), config).save_pretrained(tmp_path / "peft")
    model = BERT.from_pretrained(tiny_bert)
    before = picture(model)
    with pytest.raises(ValueError, match="where the model has"):
        kronlit.load(tmp_path / "peft", model)
    assert_same(model, before)


def test_a_model_that_came_from_no_files_is_loaded_into_its_like(tmp_path):
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = BertForSequenceClassification(config)
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kronlit.save(trained(kronlit.inject(model, kronlit.KronA())), tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"does not say what it goes on .*give a `model`"):
        kronlit.load(tmp_path / "adapter")
    other = BertForSequenceClassification(config)
    other.load_state_dict(base)
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "adapter", other)), logits(model))


def test_what_cannot_be_saved_is_one_line(tiny_bert, tmp_path):
    model = BERT.from_pretrained(tiny_bert)
    with pytest.raises(ValueError, match="holds nothing that `kronlit"):
        kronlit.save(model, tmp_path / "adapter")
    kronlit.merge(kronlit.inject(model, kronlit.KronA()))
    with pytest.raises(ValueError, match="by its own `save_pretrained`"):
        kronlit.save(model, tmp_path / "adapter")
    with pytest.raises(ValueError, match="must be a model of Transformers, not a Linear"):
        kronlit.save(torch.nn.Linear(2, 2), tmp_path / "adapter")
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        kronlit.save(kronlit.inject(model, kronlit.KronA()), tmp_path / "there")
    assert not (tmp_path / "adapter").exists()


# --- what is refused ---


@dataclass(frozen=True)
class Late(kronlit.Method):
    """Fails when half is done, with something of its own.

    Args:
        error: which.
    """

    error: type[BaseException] = RuntimeError

    def insertions(self):
        return [Insertion(("query",), partial(Delta, matrix=Kronecker)), Insertion(("value",), self.fail)]

    def fail(self, *_):
        raise self.error("half way")


REFUSED = {
    "no such site": ("tiny_bert", kronlit.KronA(sites=("query", "qury")), "qury"),
    "no site": ("tiny_bert", kronlit.KronA(sites=()), "`sites`"),
    "a shape that does not divide": ("tiny_bert", kronlit.KronA(a_shape=(5, 5)), "`a_shape`"),
    "a shape that divides some": ("tiny_bert", kronlit.KronA((1, 96), sites=("ffn_input", "query")), "`a_shape`"),
    "a site within a layer norm": ("tiny_bert", kronlit.LoRA(sites=("query", ".*LayerNorm")), "linear modules"),
    "a rank too large": ("tiny_bert", kronlit.LoRA(rank=49), "`rank`"),
    "no such group": ("tiny_bert", kronlit.KronA(trains=("hed",)), "`trains` has 'hed'"),
    "no layer left": ("tiny_bert", kronlit.AdapterDrop(first_layer=9), "`first_layer`"),
    "no encoder": ("tiny_bert", kronlit.PromptTuning(), "sequence-to-sequence"),
    "a prompt too long": ("tiny_t5", kronlit.PromptTuning(10_000), "`num_tokens`"),
    "a subspace too small": ("tiny_bert", kronlit.IntrinsicSAID(5), "`intrinsic_dimension`"),
    "parts and whole": ("tiny_gpt2", kronlit.LoRA(sites=("query", r".*c_attn")), "`sites`"),
    "a fault": ("tiny_bert", Late(), "half way"),
    "an interrupt": ("tiny_bert", Late(KeyboardInterrupt), "half way"),
}
AUTO = {"tiny_bert": BERT, "tiny_t5": T5, "tiny_gpt2": AutoModelForCausalLM}


def picture(model):
    """All of a model that a refusal could change."""
    flags = {name: (id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)}
    modules = [(name, id(module), module.training) for name, module in model.named_modules(remove_duplicate=False)]
    return flags, modules, {name: tensor.clone() for name, tensor in model.state_dict().items()}, {*vars(model)}


def assert_same(model, before):
    now = picture(model)
    assert (now[:2], now[3]) == (before[:2], before[3])
    assert all(torch.equal(tensor, before[2][name]) for name, tensor in now[2].items())


@pytest.mark.parametrize(("plm", "method", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refused_method_leaves_the_model_as_it_was(request, plm, method, message):
    model = AUTO[plm].from_pretrained(request.getfixturevalue(plm)).train()
    model.get_input_embeddings().requires_grad_(False)
    before = picture(model)
    with pytest.raises((ValueError, RuntimeError, KeyboardInterrupt), match=re.escape(message)):
        kronlit.inject(model, method)
    assert_same(model, before)


def test_a_second_method_is_refused_and_leaves_the_first(tiny_bert, tmp_path):
    model = trained(kronlit.inject(BERT.from_pretrained(tiny_bert), kronlit.KronA()))
    before = picture(model)
    with pytest.raises(ValueError, match="already holds adapters"):
        kronlit.inject(model, kronlit.LoRA())
    assert_same(model, before)
    kronlit.save(model, tmp_path / "adapter")
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "adapter")), logits(model))


def test_an_adapter_that_does_not_fit_leaves_the_model_it_was_to_go_on_as_it_was(tiny_bert, tmp_path):
    kronlit.save(kronlit.inject(BERT.from_pretrained(tiny_bert), kronlit.KronA()), tmp_path / "adapter")
    model = BERT.from_pretrained(tiny_bert)
    model.bert.embeddings.word_embeddings.weight.data += 0.1
    before = picture(model)
    with pytest.raises(ValueError, match="fingerprint"):
        kronlit.load(tmp_path / "adapter", model)
    assert_same(model, before)
    assert not list(placements(model))


def state_and_config(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, model.config.to_dict()


def assert_as_before(model, before):
    state, config = state_and_config(model)
    assert config == before[1]
    assert state.keys() == before[0].keys()
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in state.items())


NAMES = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}


@pytest.mark.parametrize("form", ["kronlit", "peft"])
def test_a_refused_adapter_changes_neither_values_nor_config(tiny_bert, tmp_path, form):
    if form == "peft":
        config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"])
        trained(get_peft_model(BERT.from_pretrained(tiny_bert, **NAMES), config)).save_pretrained(tmp_path / "own")
        plm = shutil.copytree(tiny_bert, tmp_path / "plm")  # whose config has the names
        BERT.from_pretrained(tiny_bert, **NAMES).save_pretrained(plm)
        content = json.loads((tmp_path / "own/adapter_config.json").read_text())
        content["base_model_name_or_path"] = str(plm)
        (tmp_path / "own/adapter_config.json").write_text(json.dumps(content))
        end = "lora_B.weight"
    else:
        kronlit.save(
            trained(kronlit.inject(BERT.from_pretrained(tiny_bert, **NAMES), kronlit.LoRA())), tmp_path / "own"
        )
        end = "matrix.b"
    (file,) = (tmp_path / "own").glob("*.safetensors")
    tensors = load_file(file)
    last = max(name for name in tensors if name.endswith(end))
    tensors[last] = torch.cat([tensors[last], tensors[last][:1]])
    save_file(tensors, file)
    model = BERT.from_pretrained(tiny_bert)
    before = state_and_config(model)
    with pytest.raises(ValueError, match="of shape"):
        kronlit.load(tmp_path / "own", model)
    assert_as_before(model, before)


def test_what_fails_late_parts_no_tied_weights_and_tells_no_names(tiny_gpt2, tiny_bert):
    for model in (AutoModelForCausalLM.from_pretrained(tiny_gpt2), BERT.from_pretrained(tiny_bert)):
        before = state_and_config(model)
        tied = {name: getattr(module, "all_tied_weights_keys", None) for name, module in model.named_modules()}
        with pytest.raises(RuntimeError), all_or_nothing(model):  # noqa: PT012
            untie(model)
            model.config.id2label, model.config.label2id = NAMES.values()
            raise RuntimeError
        assert_as_before(model, before)
        assert tied == {name: getattr(module, "all_tied_weights_keys", None) for name, module in model.named_modules()}


def test_a_head_that_was_frozen_is_frozen_again(tiny_bert, tmp_path):
    model = kronlit.inject(BERT.from_pretrained(tiny_bert), kronlit.LoRA(trains=()))
    kronlit.save(model, tmp_path / "adapter")
    loaded = kronlit.load(tmp_path / "adapter")
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]


def test_the_model_of_a_lightning_module_is_saved_as_kronlits(tiny_bert, tmp_path):
    task = Task("mine", ("text",), ("no", "yes"))
    module = SequenceClassification(str(tiny_bert), kronlit.LoRA(alpha=3.0), task)
    module.configure_model()
    kronlit.save(trained(module.model), tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["method"]["init_args"]["alpha"] == 3.0
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "adapter")), logits(module.model))


def test_a_bare_structure_is_loaded_with_its_own_defaults(tiny_bert):
    model = trained(kronlit.inject(BERT.from_pretrained(tiny_bert), kronlit.Structured(matrix=LDR)))
    kronlit.save(model, "own")
    torch.testing.assert_close(logits(kronlit.load("own")), logits(model))


def test_a_collapsed_mixture_of_any_structure_is_loaded(tiny_bert):
    mixture = partial(Mixture, expert=LowRank, num_experts=3)
    model = trained(kronlit.inject(BERT.from_pretrained(tiny_bert), kronlit.Structured(matrix=mixture)))
    kronlit.collapse(model)
    kronlit.save(model, "own")
    torch.testing.assert_close(logits(kronlit.load("own")), logits(model))
