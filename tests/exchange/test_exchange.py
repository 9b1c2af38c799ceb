"""Merged, exported and loaded: what a run gives away, against Transformers and PEFT by themselves."""

import csv
import json
import os
import re
from pathlib import Path

import pytest
import torch
import transformers
from peft import C3AConfig, LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

import kronlit
from kronlit.adapters import collapse
from kronlit.exchange.init_adapter import init_adapter
from kronlit.exchange.peft.lokr import factorization
from kronlit.exchange.peft.write import to_peft
from kronlit.exchange.saved_run import saved_run


@pytest.fixture
def kronlit_(kronlit):
    """The command line, beside the package of that name."""
    return kronlit


def tokens(model):
    ids = torch.randint(4, 24, (3, 12), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})


@torch.no_grad()
def logits(model):
    return model.eval()(**tokens(model)).logits


# --- merge ---


def test_a_merged_run_is_the_pretrained_model_with_changed_weights(kronlit_, run_of, wide_bert, tmp_path):
    run, state = run_of(wide_bert, "KronA", a_shape=[2, 384], scale=2.0)
    umask = os.umask(0o027)
    code, out, err = kronlit_("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    os.umask(umask)
    assert code == 0, err
    difference = float(out.split("probe batch: ")[1].split()[0])
    assert difference < 1e-5
    plain = AutoModelForSequenceClassification.from_pretrained(wide_bert)
    query = plain.bert.encoder.layer[0].attention.self.query.weight
    name = "bert.encoder.layer.0.attention.self.query.matrix"
    with torch.no_grad():
        query += 2 * torch.kron(state[f"{name}.a"], state[f"{name}.b"])
        value = plain.bert.encoder.layer[0].attention.self.value.weight
        value += 2 * torch.kron(
            state[f"{name}.a".replace("query", "value")], state[f"{name}.b".replace("query", "value")]
        )
        plain.classifier.weight.copy_(state["classifier.weight"])
        plain.classifier.bias.copy_(state["classifier.bias"])
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.float32
    assert merged.config.id2label == {0: "entailment", 1: "not_entailment"}
    torch.testing.assert_close(logits(merged), logits(plain), atol=1e-5, rtol=1e-5)
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "merged").iterdir()}
    assert modes == {0o640}  # others of the group read it, as the umask says
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer("the cat")["input_ids"][0] == 1
    assert len(tokenizer("the cat " * 999, truncation=True)["input_ids"]) == 128  # what training cut to
    card = (tmp_path / "merged/README.md").read_text()
    assert all(
        word in card for word in ("KronA", "rte", "val/accuracy | 0.5000", "seed 42", "kronlit fit", "128 tokens")
    )
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize(
    ("plm", "model", "method", "data", "auto"),
    [
        ("tiny_vit", "ImageClassification", "LoRA", ("Images", "images", {"dataset": "mine"}), "ImageClassification"),
        ("tiny_gpt2", "CausalLM", "AdaMixLoRA", ("E2E", "e2e", {"task": "e2e"}), "CausalLM"),
        ("mlm_roberta", "PromptClassification", "LiST", ("FewShot", "lm_bff", {"task": "cr"}), "MaskedLM"),
        ("mlm_bert", "PromptClassification", "KronA", ("FewShot", "lm_bff", {"task": "cr"}), "MaskedLM"),
    ],
)
def test_every_kind_of_run_is_merged_and_exported(kronlit_, run_of, tmp_path, request, plm, model, method, data, auto):
    name, folder, arguments = data
    data = {"class_path": name, "init_args": arguments | {"path": str(request.getfixturevalue(folder))}}
    more = {"bottleneck_width": 4} if method == "LiST" else {}
    run, _ = run_of(request.getfixturevalue(plm), method, model, data, **more)
    ours = saved_run(str(run)).module().model
    collapse(ours)
    assert kronlit_("merge", "--ckpt_path", run, "--output", tmp_path / "merged")[0] == 0
    plain = getattr(transformers, f"AutoModelFor{auto}").from_pretrained(tmp_path / "merged")
    assert f"AutoModelFor{auto}.from_pretrained" in (tmp_path / "merged/README.md").read_text()
    inputs = {"pixel_values": torch.randn(2, 3, 16, 16)} if auto == "ImageClassification" else tokens(plain)
    expected = ours.eval()(**inputs).logits
    torch.testing.assert_close(plain.eval()(**inputs).logits, expected, atol=1e-4, rtol=1e-4)
    assert (tmp_path / "merged/preprocessor_config.json").exists() == (auto == "ImageClassification")
    assert kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")[0] == 0
    torch.testing.assert_close(kronlit.load(tmp_path / "own")(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_mixture_is_merged_as_the_mean_of_its_experts(kronlit_, run_of, tiny_t5, tmp_path):
    run, state = run_of(tiny_t5, "AdaMixLoRA", "TextToText", num_experts=3, rank=2, alpha=4.0, evaluation="random")
    code, out, _ = kronlit_("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    assert code == 0
    assert float(out.split("probe batch: ")[1].split()[0]) < 1e-4
    name = "encoder.block.1.layer.0.SelfAttention.q"
    merged, plain = (AutoModelForSeq2SeqLM.from_pretrained(folder) for folder in (tmp_path / "merged", tiny_t5))
    change = 2 * state[f"{name}.matrix.b"].mean(0) @ state[f"{name}.matrix.a"].mean(0)
    expected = plain.get_submodule(name).weight + change
    torch.testing.assert_close(merged.get_submodule(name).weight, expected)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--ckpt_path", "RUN", "--output", "new"], "activation inside"),
        (["--ckpt_path", "RUN", "--output", "there"], "exists already"),
        (["--ckpt_path", "nowhere", "--output", "new"], "`ckpt_path`='nowhere'"),
    ],
)
def test_what_cannot_be_merged_is_refused_in_one_line(kronlit_, run_of, tiny_bert, tmp_path, words, reason):
    run, _ = run_of(tiny_bert, "AdaMix", bottleneck_width=4)
    (tmp_path / "there").mkdir()
    code, _, err = kronlit_("merge", *(str(run) if word == "RUN" else word for word in words))
    assert code == 2
    assert reason in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert ("kronlit export" in err) == ("activation" in reason)
    assert not (tmp_path / "new").exists()


# --- export to PEFT ---


@pytest.mark.parametrize(
    ("plm", "model", "method", "arguments", "kind"),
    [
        ("tiny_bert", "SequenceClassification", "KronA", {"a_shape": [4, 4], "scale": 3.0}, "LOKR"),
        ("wide_bert", "SequenceClassification", "KronA", {"a_shape": [2, 384], "scale": 0.5}, "LORA"),
        ("tiny_t5", "TextToText", "KronA", {"a_shape": [8, 8], "trains": ["layer_norm"]}, "LOKR"),
        (
            "tiny_bert",
            "SequenceClassification",
            "LoRA",
            {"rank": 3, "alpha": 6.0, "sites": ["query", "ffn_input"]},
            "LORA",
        ),
        ("tiny_t5", "TextToText", "AdaMixLoRA", {"rank": 2}, "LORA"),
        ("tiny_bert", "SequenceClassification", "AdaMixKronA", {"a_shape": [4, 4]}, "LOKR"),
        ("tiny_bert", "SequenceClassification", "SURM", {"structure": "circulant", "scale": "trained"}, "C3A"),
        ("tiny_bert", "SequenceClassification", "SURM", {"structure": "kronecker", "a_shape": [24, 24]}, "LOKR"),
        ("tiny_bert", "SequenceClassification", "LoRA", {"rank": 2, "trains": ["layer_norm", "head"]}, "LORA"),
    ],
)
def test_peft_loads_what_is_exported_for_it(kronlit_, run_of, tmp_path, request, plm, model, method, arguments, kind):
    folder = request.getfixturevalue(plm)
    run, _ = run_of(folder, method, model, **arguments)
    code, out, err = kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "peft", "--format", "peft")
    assert code == 0, err
    assert json.loads((tmp_path / "peft/adapter_config.json").read_text())["peft_type"] == kind
    assert kind in out.upper()
    auto = AutoModelForSeq2SeqLM if "t5" in plm else AutoModelForSequenceClassification
    base = auto.from_pretrained(folder)
    before = logits(base)
    theirs = PeftModel.from_pretrained(base, tmp_path / "peft")
    ours = saved_run(str(run)).module().model
    collapse(ours)
    torch.testing.assert_close(logits(theirs), logits(ours), atol=1e-5, rtol=1e-5)
    assert (logits(theirs) - before).abs().max() > 1e-2


def test_a_fused_projection_is_exported_as_one_lora(tiny_gpt2, tmp_path):
    model = kronlit.inject(AutoModelForCausalLM.from_pretrained(tiny_gpt2), kronlit.LoRA(rank=2, alpha=6.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.requires_grad)
    adapter = to_peft(model, str(tiny_gpt2))
    save_file(adapter.tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter.config))
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_gpt2), tmp_path)
    torch.testing.assert_close(logits(theirs), logits(model), atol=1e-4, rtol=1e-5)
    assert adapter.config["r"] == 4


def test_the_module_that_peft_has_no_factors_for_is_named():
    # As SmolLM2: three key and value heads for nine queries. PEFT cuts the query by 24 and the value by no number so.
    from peft.tuners.lokr.layer import factorization

    sizes = {"hidden_size": 576, "intermediate_size": 64, "num_attention_heads": 9, "num_key_value_heads": 3}
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, vocab_size=9, **sizes))
    kronlit.inject(model, kronlit.KronA(sites=(r".*\.q_proj", r".*\.v_proj")))
    with pytest.raises(ValueError, match=r"\(12, 32\) and \(16, 18\) for model.layers.0.self_attn.v_proj;"):
        to_peft(model, "x")
    assert factorization(576, 24) == (24, 24)
    assert not any(
        factorization(192, n) == (12, 16) and factorization(576, n) == (32, 18) for n in (-1, *range(1, 577))
    )


def test_a_shape_that_peft_takes_is_named_and_taken(tiny_bert):
    from peft.tuners.lokr.layer import factorization

    def converted(a_shape):
        model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
        kronlit.inject(model, kronlit.KronA(a_shape=a_shape))
        return to_peft(model, "x")

    with pytest.raises(ValueError, match=r"`a_shape`=\[(\d+), (\d+)\]") as refused:
        converted((6, 8))
    named = tuple(map(int, re.search(r"`a_shape`=\[(\d+), (\d+)\]", str(refused.value)).groups()))
    assert any(named == (factorization(48, n)[0],) * 2 for n in (-1, *range(1, 49)))
    assert converted(named).config["peft_type"] == "LOKR"


def test_factors_are_cut_as_peft_cuts_them():
    from peft.tuners.lokr.layer import factorization as theirs

    for dimension in (1, 2, 17, 48, 96, 768, 3072):
        for factor in (-1, *range(1, 100), 768):
            assert factorization(dimension, factor) == theirs(dimension, factor), (dimension, factor)


@pytest.mark.parametrize(
    ("method", "arguments", "reason"),
    [
        ("KronA", {}, "no LoKr"),
        ("SURM", {"structure": "toeplitz"}, "no LoRA: a ToeplitzProduct"),
        ("SURM", {"structure": "circulant", "sites": ["ffn_input"]}, "square"),
        ("AdaMix", {"bottleneck_width": 4}, "SequentialAdapter"),
        ("HeadOnly", {}, "nothing was added"),
    ],
)
def test_what_peft_has_no_form_for_is_refused_and_written_as_ours(
    kronlit_, run_of, tiny_bert, tmp_path, method, arguments, reason
):
    run, _ = run_of(tiny_bert, method, **arguments)
    code, _, err = kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "new", "--format", "peft")
    assert code == 2
    assert reason in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "new").exists()
    code, out, _ = kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "new")
    assert code == 0
    assert reason in out
    assert AutoTokenizer.from_pretrained(tmp_path / "new")("a film").input_ids  # as the run's, for texts to come
    assert {path.name for path in (tmp_path / "new").iterdir()} >= {
        "README.md",
        "adapter.safetensors",
        "adapter_config.json",
    }


# --- kronlit's own folder ---


@pytest.mark.parametrize(
    ("plm", "model", "method", "arguments"),
    [
        ("tiny_bert", "SequenceClassification", "KronA", {}),
        ("tiny_bert", "SequenceClassification", "AdaMix", {"bottleneck_width": 4}),
        ("tiny_bert", "SequenceClassification", "KronABRes", {}),
        ("tiny_bert", "SequenceClassification", "IntrinsicSAID", {"intrinsic_dimension": 500}),
        ("tiny_bert", "SequenceClassification", "BitFit", {}),
        ("mlm_bert", "SequenceClassification", "KronA", {"trains": []}),  # no pooler in the files: a new one is trained
        ("tiny_bert", "SequenceClassification", "SURM", {"structure": "ldr", "scale": "trained"}),
        ("tiny_t5", "TextToText", "Compacter", {"phm_dim": 4, "reduction_factor": 4}),
        ("tiny_t5", "TextToText", "PromptTuning", {"num_tokens": 3}),
        ("tiny_t5", "TextToText", "BitFit", {}),
    ],
)
def test_what_is_exported_loads_as_it_was(caplog, kronlit_, run_of, tmp_path, request, plm, model, method, arguments):
    run, state = run_of(request.getfixturevalue(plm), method, model, **arguments)
    code, _, err = kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")
    assert code == 0, err
    kept = load_file(tmp_path / "own/adapter.safetensors")
    if method != "AdaMix":  # of which the mean is kept
        assert kept.keys() == state.keys()
        assert all(torch.equal(kept[name], state[name]) for name in state)
    ours = saved_run(str(run)).module().model
    transformers.logging.set_verbosity_warning()
    transformers.logging.add_handler(caplog.handler)
    loaded = kronlit.load(tmp_path / "own")
    transformers.logging.remove_handler(caplog.handler)
    assert not caplog.records  # no alarm that the model lacks the head, which the folder has
    torch.testing.assert_close(logits(loaded), logits(ours))
    trained = {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert trained <= kept.keys()


def test_an_adapter_is_not_put_on_another_model(kronlit_, run_of, tiny_bert, tmp_path):
    run, _ = run_of(tiny_bert, "KronA")
    kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")
    other = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    with torch.no_grad():
        other.bert.embeddings.word_embeddings.weight += 0.1
    with pytest.raises(ValueError, match="fingerprint"):
        kronlit.load(tmp_path / "own", other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": {"class_path": "os.system", "init_args": {}}}, "the module os has no method system"),
        ({"method": {"class_path": "os system", "init_args": {}}}, "must be the name of a method"),
        ({"method": {"class_path": "Krona", "init_args": {}}}, "Krona"),
        ({"method": {"class_path": "KronA", "init_args": {"scal": 1.0}}}, "scal"),
        ({"method": {"class_path": "KronA", "init_args": {"a_shape": [5, 5]}}}, "a_shape"),
        ({"model_class": "torch"}, "model_class"),
        ({"plm": 3}, "plm"),
        ({"method": {"class_path": "KronA", "init_args": {"sites": ["query"]}}}, "has bert.encoder.layer.0"),
    ],
)
def test_a_wrong_config_is_one_line(kronlit_, run_of, tiny_bert, tmp_path, change, message):
    run, _ = run_of(tiny_bert, "KronA")
    kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")
    path = tmp_path / "own/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message) as caught:
        kronlit.load(tmp_path / "own")
    assert "\n" not in str(caught.value)


def test_an_adapter_loads_from_the_hubs_cache(kronlit_, run_of, tiny_bert, tmp_path, monkeypatch):
    run, _ = run_of(tiny_bert, "KronA")
    snapshot = tmp_path / "hub/models--me--mine/snapshots/0123456789012345678901234567890123456789"
    kronlit_("export", "--ckpt_path", run, "--output", snapshot, "--format", "kronlit")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text(snapshot.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.testing.assert_close(logits(kronlit.load("me/mine")), logits(kronlit.load(snapshot)))


def test_what_is_nowhere_or_damaged_is_one_line(kronlit_, run_of, tiny_bert, tmp_path):
    with pytest.raises(ValueError, match="nobody/nothing"):
        kronlit.load("nobody/nothing")
    run, _ = run_of(tiny_bert, "KronA")
    kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")
    (tmp_path / "own/adapter.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read"):
        kronlit.load(tmp_path / "own")


# --- from PEFT ---


def peft_folder(plm, folder, config, auto=AutoModelForSequenceClassification, **arguments):
    """A folder that PEFT wrote, whose adapter and head are random, and PEFT's model."""
    model = get_peft_model(auto.from_pretrained(plm, **arguments), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * (20 if "c3a" in name else 0.3))
    model.save_pretrained(folder)
    return model


LORA = {"r": 4, "lora_alpha": 6, "lora_dropout": 0.1, "target_modules": ["query", "dense"]}
LOKR = {"r": 2, "alpha": 3, "target_modules": ["query", "value"], "decompose_factor": 4}


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="SEQ_CLS", **LORA),
        LoraConfig(
            task_type="SEQ_CLS", use_rslora=True, rank_pattern={"query": 2}, alpha_pattern={"1.*query": 5}, **LORA
        ),
        LoKrConfig(task_type="SEQ_CLS", **LOKR),
        LoKrConfig(task_type="SEQ_CLS", decompose_both=True, **(LOKR | {"r": 1})),
        C3AConfig(task_type="SEQ_CLS", target_modules=["query"], block_size=48),
    ],
    ids=["lora", "rslora with patterns", "lokr", "lokr of low rank", "c3a"],
)
def test_what_peft_wrote_loads_and_merges_as_it_is_there(tiny_bert, tmp_path, config):
    theirs = peft_folder(tiny_bert, tmp_path / "peft", config, num_labels=3, ignore_mismatched_sizes=True)
    ours = kronlit.load(tmp_path / "peft")
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=1e-5)
    assert (logits(ours) - logits(theirs.unload())).abs().max() > 1e-3
    trained = sum(parameter.numel() for parameter in ours.parameters() if parameter.requires_grad)
    assert trained > 0
    before = logits(ours)
    kronlit.merge(ours)
    torch.testing.assert_close(logits(ours), before, atol=1e-5, rtol=1e-5)


def test_a_lora_of_gpt2_loads_on_the_fused_projection(tiny_gpt2, tmp_path):
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    theirs = peft_folder(tiny_gpt2, tmp_path / "peft", config, AutoModelForCausalLM)
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "peft")), logits(theirs), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(task_type="SEQ_CLS", init_lora_weights="pissa", **LORA), "init_lora_weights"),
        (LoHaConfig(task_type="SEQ_CLS", target_modules=["query"]), "LOHA"),
    ],
)
def test_what_of_peft_has_no_counterpart_is_one_line(tiny_bert, tmp_path, config, message):
    peft_folder(tiny_bert, tmp_path / "peft", config)
    with pytest.raises(ValueError, match=message):
        kronlit.load(tmp_path / "peft")


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=6, target_modules=["query", "value"]), kronlit.LoRA(4, 2.0)),
        (LoKrConfig(task_type="SEQ_CLS", **(LOKR | {"r": 9})), kronlit.KronA((4, 4), 5.0)),
    ],
)
def test_a_training_starts_from_what_peft_wrote(tiny_bert, tmp_path, config, method):
    theirs = peft_folder(tiny_bert, tmp_path / "peft", config)
    ours = kronlit.inject(AutoModelForSequenceClassification.from_pretrained(tiny_bert), method)
    assert init_adapter(ours, method, str(tmp_path / "peft")) == (10, [])
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=1e-5)
    other = kronlit.KronA((8, 8))
    model = kronlit.inject(AutoModelForSequenceClassification.from_pretrained(tiny_bert), other)
    with pytest.raises(ValueError, match="`init_adapter`"):
        init_adapter(model, other, str(tmp_path / "peft"))


def test_fit_starts_from_an_exported_adapter_with_a_head_of_its_own(kronlit_, run_of, tiny_bert, tmp_path):
    run, state = run_of(tiny_bert, "KronA")
    kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")
    words = [
        "--config",
        run / "config.yaml",
        "--run_dir",
        "next",
        "--data.task",
        "mnli",
        "--init_adapter",
        tmp_path / "own",
    ]
    words += ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "1", "--model.lr", "0"]
    code, out, err = kronlit_("fit", *words)
    assert code == 0, err
    assert "8 tensors; it leaves out classifier.bias, classifier.weight" in out
    name = "bert.encoder.layer.0.attention.self.query.matrix.b"
    kept = torch.load("next/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(kept[f"model.{name}"], state[name])


def test_the_test_after_such_a_fit_is_of_what_it_has_trained(kronlit_, run_of, tiny_bert, tmp_path):
    run, _ = run_of(tiny_bert, "KronA")
    kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")
    words = ["--config", run / "config.yaml", "--run_dir", "next", "--init_adapter", tmp_path / "own"]
    words += ["--data.splits", "mahabadi", "--trainer.max_steps", "4", "--model.lr", "0.05"]
    code, _, err = kronlit_("fit", *words, "--test_after_fit", "true")
    assert code == 0, err
    after = json.loads(Path("next/version_0/summary.json").read_text())["scores"]["test/loss"]
    code, _, err = kronlit_("test", "--ckpt_path", "next/version_0")
    assert code == 0, err
    with Path("next/version_0/test/metrics.csv").open() as file:
        (alone,) = csv.DictReader(file)
    assert float(alone["test/loss"]) == pytest.approx(after, rel=1e-6)


# --- info and configs ---


def test_info_says_the_same_of_a_run_its_adapter_and_its_config(kronlit_, run_of, tiny_bert, tmp_path):
    run, _ = run_of(tiny_bert, "LoRA", rank=2)
    kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit")
    kronlit_("export", "--ckpt_path", run, "--output", tmp_path / "peft", "--format", "peft")
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    trained = 2 * 2 * 2 * (48 + 48) + 2 * 48 + 2  # layers, sites, rank, widths; the head
    total = plain.num_parameters()
    for what in (run, tmp_path / "own", run / "config.yaml"):
        code, out, err = kronlit_("info", what)
        assert code == 0, err
        assert "LoRA(rank=2" in out
        last = out.splitlines()[-1]
        assert f"over a model of {total:,}" in last
        assert last.split()[-2:] == [f"{trained:,}", f"{100 * trained / total:.4f}"]
    code, out, _ = kronlit_("info", tmp_path / "peft")
    assert code == 0
    assert "LORA" in out
    assert out.splitlines()[-1].split()[-1] == f"{trained:,}"


def test_info_says_what_a_merged_model_is(kronlit_, run_of, tiny_bert, tmp_path):
    run, _ = run_of(tiny_bert, "LoRA", rank=2)
    kronlit_("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    code, out, err = kronlit_("info", tmp_path / "merged")
    assert code == 0, err
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert "a plain BertForSequenceClassification" in out
    assert "classes     entailment, not_entailment" in out
    assert f"parameters  {plain.num_parameters():,}" in out
    assert f"size        {4 * plain.num_parameters():,} bytes" in out
    (tmp_path / "merged/model.safetensors").unlink()
    code, _, err = kronlit_("info", tmp_path / "merged")
    assert (code, err.count("\n")) == (2, 1)
    assert "no whole model" in err


def test_the_shipped_configs_are_listed_copied_and_checked(kronlit_, tmp_path):
    code, out, _ = kronlit_("configs", "list")
    assert code == 0
    assert "quickstart.yaml" in out
    assert "methods/surm.yaml" in out
    for name in ("krona_rte.yaml", "methods", "quickstart", "configs/bases/t5_glue.yaml"):
        assert kronlit_("configs", "copy", name)[0] == 0
    code, _, err = kronlit_("configs", "copy", "krona_rte.yaml")
    assert (code, err.count("\n")) == (2, 1)
    code, out, err = kronlit_("configs", "check", "krona_rte.yaml", "methods/lora.yaml")
    assert code == 0, err
    assert "LoRA on google-t5/t5-base for rte" in out
    path = tmp_path / "krona_rte.yaml"
    path.write_text(path.read_text().replace("a_shape", "a_shap"))
    code, _, err = kronlit_("configs", "check", path)
    assert code == 2
    assert err == "kronlit: there is no option 'a_shap'; did you mean 'a_shape'?\n"


@pytest.mark.parametrize(
    "words",
    [
        ["info", "nowhere"],
        ["info", "nowhere.yaml"],
        ["configs", "copy", "nothing.yaml"],
        ["configs", "copy", "../pyproject.toml"],
        ["configs", "check", "nowhere.yaml"],
        ["merge", "--output", "new"],
        ["export", "--ckpt_path", "x", "--output", "y", "--format", "gguf"],
    ],
    ids=" ".join,
)
def test_mistakes_end_in_one_line(kronlit_, words):
    code, out, err = kronlit_(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("kronlit: ")


@pytest.mark.parametrize(("text", "said"), [("a: [1\n", "is no YAML: "), ("- a\n", "must hold keys and values, ")])
def test_a_file_that_is_no_config_is_said_in_one_line(kronlit_, tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    code, out, err = kronlit_("configs", "check", "mine.yaml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"kronlit: `files`: 'mine.yaml' {said}")
