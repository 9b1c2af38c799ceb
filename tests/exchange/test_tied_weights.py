"""Heads that are the embeddings too: merged, saved, and loaded as PEFT wrote them."""

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM

import kronlit
from kronlit import LoRA, inject
from kronlit.exchange.peft.write import to_peft

SMALL = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 99}
GPT2 = {"n_embd": 24, "n_layer": 1, "n_head": 2, "vocab_size": 99}
BART = {"d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "vocab_size": 99}
BART |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 32}
T5 = {"d_model": 24, "d_kv": 12, "d_ff": 48, "num_layers": 1, "num_heads": 2, "vocab_size": 99}
T5 |= {"decoder_start_token_id": 0}
MODELS = {  # the class, its config, and its head
    "gpt2": ("GPT2LMHeadModel", "gpt2", GPT2, "lm_head"),
    "llama": ("LlamaForCausalLM", "llama", SMALL | {"tie_word_embeddings": True}, "lm_head"),
    "bert": ("BertForMaskedLM", "bert", SMALL, r"cls\.predictions\.decoder"),
    "roberta": ("RobertaForMaskedLM", "roberta", SMALL, r"lm_head\.decoder"),
    "bart": ("BartForConditionalGeneration", "bart", BART, "lm_head"),
    "t5": ("T5ForConditionalGeneration", "t5", T5, "lm_head"),
    "mt5": ("MT5ForConditionalGeneration", "mt5", T5, "lm_head"),
    "umt5": ("UMT5ForConditionalGeneration", "umt5", T5, "lm_head"),
    "switch": ("SwitchTransformersForConditionalGeneration", "switch_transformers", T5, "lm_head"),
}
PARTING = ["gpt2", "llama", "bert", "roberta", "bart"]


def build(name):
    kind, architecture, config, head = MODELS[name]
    torch.manual_seed(0)
    return getattr(transformers, kind)(transformers.CONFIG_MAPPING[architecture](**config)).eval(), head


def disturb(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def logits(model):
    ids = torch.arange(3, 9)[None]
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return model.eval()(input_ids=ids, **more).logits


def embeddings(model):
    return model.get_input_embeddings().weight


@pytest.mark.parametrize("name", PARTING)
def test_a_merged_head_leaves_the_embeddings_alone_here_and_in_the_files(name, tmp_path):
    model, head = build(name)
    own = embeddings(model).clone()
    disturb(inject(model, LoRA(rank=2, sites=(head,), trains=())))
    before = logits(model)
    assert (before - logits(build(name)[0])).abs().max() > 0.01
    kronlit.merge(model)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(embeddings(model), own)
    model.save_pretrained(tmp_path)
    plain, loading = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]
    torch.testing.assert_close(logits(plain), before, rtol=1e-4, atol=1e-5)
    assert plain.config.tie_word_embeddings is False


@pytest.mark.parametrize("name", ["t5", "mt5", "umt5", "switch"])
def test_what_cannot_part_is_not_merged(name):
    model, head = build(name)
    disturb(inject(model, LoRA(rank=2, sites=(head,), trains=())))
    before, tying = logits(model), model.config.tie_word_embeddings
    with pytest.raises(
        TypeError, match=r"lm_head cannot be merged: its weight is that of the embeddings too, and an? "
    ):
        kronlit.merge(model)
    assert torch.equal(logits(model), before)
    assert model.config.tie_word_embeddings == tying


def test_a_model_whose_head_is_not_changed_stays_tied():
    model, _ = build("gpt2")
    disturb(inject(model, LoRA(rank=2, trains=())))
    kronlit.merge(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.config.tie_word_embeddings is True


def test_kronlit_merges_a_run_with_a_tied_head(tiny_gpt2, run_of, e2e, tmp_path, kronlit):
    data = {"class_path": "E2E", "init_args": {"task": "e2e", "path": str(e2e)}}
    folder, _ = run_of(tiny_gpt2, "LoRA", "CausalLM", data, rank=2, sites=["lm_head", "query"])
    code, out, err = kronlit("merge", "--ckpt_path", folder, "--output", tmp_path / "merged")
    assert code == 0, err
    difference, reach = (float(word.strip("().")) for word in out.split() if "e-" in word or "e+" in word)
    assert difference < 1e-5 * max(1, reach)


# --- PEFT ---

SAVED = {  # what PEFT is asked for beside the query's projection
    "an adapter on the head": {"target_modules": ["lm_head"]},
    "a head": {"modules_to_save": ["lm_head"]},
    "embeddings": {"modules_to_save": ["embed_tokens"]},
    "both": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "both as one": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
}


@pytest.mark.filterwarnings("ignore")  # PEFT's, of tied weights
@pytest.mark.parametrize("saved", SAVED)
def test_a_peft_folder_of_a_tied_model_is_what_it_is_in_peft(saved, tmp_path):
    build("llama")[0].save_pretrained(tmp_path / "base")
    options = SAVED[saved] | {"target_modules": ["q_proj", *SAVED[saved].get("target_modules", [])]}
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = disturb(get_peft_model(base, LoraConfig(r=2, task_type="CAUSAL_LM", **options)))
    theirs.save_pretrained(tmp_path / "adapter")
    expected = logits(theirs)
    ours = kronlit.load(tmp_path / "adapter")
    torch.testing.assert_close(logits(ours), expected)
    kronlit.merge(ours)
    torch.testing.assert_close(logits(ours), expected, rtol=1e-4, atol=1e-5)
    ours.save_pretrained(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(plain), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_on_a_tied_head_is_the_same_map_in_peft(tmp_path):
    model, head = build("llama")
    model.save_pretrained(tmp_path / "base")
    disturb(inject(model, LoRA(rank=2, sites=(head, r".*q_proj"), trains=())))
    adapter = to_peft(model, str(tmp_path / "base"))
    (tmp_path / "adapter").mkdir()
    LoraConfig(**{key: value for key, value in adapter.config.items() if key != "peft_type"}).save_pretrained(
        tmp_path / "adapter"
    )
    save_file(adapter.tensors, tmp_path / "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(theirs), logits(model))


# --- one module in two places ---


class Twice(nn.Module):
    """A model in which one linear module stands in two places."""

    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Linear(6, 6)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def test_a_module_in_two_places_is_wrapped_and_merged_in_both():
    model, x = Twice(), torch.randn(3, 6)
    disturb(inject(model, LoRA(rank=2, sites=("first",))))
    assert model.first is model.second
    before = model(x)
    kronlit.merge(model)
    assert type(model.first) is nn.Linear
    assert model.first is model.second
    torch.testing.assert_close(model(x), before)
