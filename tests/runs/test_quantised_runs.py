"""Runs over quantised weights: precisions, checkpointing, going on; and merging, exporting and loading them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fixtures.chat import SITES, byte_tokenizer, llama, pairs, write_jsonl
from fixtures.runs import environment
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

import kronlit as package
from kronlit import BitFit, Houlsby, KronA, LoRA
from kronlit.adapters import QuantisedLinear, placements
from kronlit.adapters.state import adapter_state
from kronlit.data import InstructionFiles
from kronlit.exchange.saved_run import model_from_config, saved_run
from kronlit.modules import CausalLM
from kronlit.modules.quantisation import Quantisation
from kronlit.training.next_steps import after_fit
from kronlit.training.true_bfloat16 import TrueBFloat16

pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
pytest.importorskip("torchao", reason="the extra `quantized` is not installed")

KINDS = ["nf4", "int8", "int8_torchao"]
QV = (r".*\.q_proj", r".*\.v_proj")
IDS = torch.arange(3, 15)[None]


def built(plm, tmp_path, method=None, **options):
    path = write_jsonl(tmp_path / "mine.jsonl", pairs(8))
    data = InstructionFiles(path, validation=path)
    seed_everything(0)
    module = CausalLM(str(plm), method or KronA(a_shape=(8, 6), sites=QV), data.task, max_length=64, **options)
    return module, data


def trainer(tmp_path, **options):
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "use_distributed_sampler"), False)
    quiet |= {"accelerator": "cpu", "devices": 1, "enable_checkpointing": False, "max_steps": 2}
    return Trainer(default_root_dir=tmp_path, **quiet | options)


def bytes_of(model):
    """What the frozen weights take."""
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers()) if not t.requires_grad)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_gives_the_same_gradients(tiny_llama, tmp_path, kind):
    found = []
    for checkpointing in (False, True):
        module, data = built(tiny_llama, tmp_path, quantization=kind, gradient_checkpointing=checkpointing)
        trainer(tmp_path, max_steps=1).fit(module, data)
        batch = next(iter(data.train_dataloader()))
        module.train_loss(batch).backward()
        found.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() == {n for n, p in module.named_parameters() if p.requires_grad}
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


@pytest.mark.parametrize("kind", ["none", *KINDS])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_below_32_bits_what_is_trained_stays_float32(tmp_path, kind, precision):
    plm = llama(tmp_path / "base", byte_tokenizer(), torch.bfloat16)
    module, data = built(plm, tmp_path, quantization=kind)
    how = {"plugins": TrueBFloat16("cpu")} if precision == "bf16-true" else {"precision": precision}
    training = trainer(tmp_path, **how)
    training.fit(module, data)
    assert training.precision == precision
    assert {p.dtype for p in module.parameters() if p.requires_grad} == {torch.float32}
    embedding, norm = module.model.model.embed_tokens.weight, module.model.model.norm.weight
    assert embedding.dtype == norm.dtype == (torch.bfloat16 if precision == "bf16-true" else torch.float32)
    assert isinstance(module.model.model.layers[0].mlp.up_proj, QuantisedLinear) == (kind != "none")


@pytest.mark.parametrize("method", [None, BitFit(trains=("bias", "layer_norm"))])
def test_bf16_true_trains_as_float32_does_up_to_rounding(tmp_path, method):
    plm, losses = llama(tmp_path / "base", byte_tokenizer(), torch.bfloat16), []
    for how in ({}, {"plugins": TrueBFloat16("cpu")}):
        module, data = built(plm, tmp_path, method, lr=1e-2)
        fitted = trainer(tmp_path, max_steps=4, **how)
        fitted.fit(module, data)
        (scores,) = fitted.validate(module, data, verbose=False)
        losses.append(scores["val/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=3e-2)


def test_lightnings_own_bf16_true_is_refused_and_ours_named(tiny_llama, tmp_path):
    module, data = built(tiny_llama, tmp_path)
    with pytest.raises(ValueError, match=r"'bf16-true' of Lightning would not train in float32: .*TrueBFloat16"):
        trainer(tmp_path, precision="bf16-true").fit(module, data)


def test_nf4_weights_take_the_bytes_that_the_paper_counts(tmp_path):
    plm = llama(tmp_path / "base", byte_tokenizer(), torch.bfloat16, hidden_size=64, intermediate_size=128)
    whole, packed = (
        built(plm, tmp_path, LoRA(rank=2, sites=QV), quantization=kind, double_quantization=False)[0]
        for kind in ("none", "nf4")
    )
    for module, data in ((whole, built(plm, tmp_path)[1]), (packed, built(plm, tmp_path)[1])):
        trainer(tmp_path, plugins=TrueBFloat16("cpu")).fit(module, data)
    linear = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)  # query and output, key and value, and the feed-forward
    assert bytes_of(whole.model) - bytes_of(packed.model) == pytest.approx(linear * (16 - 4.5) / 8)


# --- what a run gives away ---


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    """A Llama of bfloat16 files, as most are."""
    return llama(tmp_path_factory.mktemp("base") / "plm", byte_tokenizer(), torch.bfloat16)


@pytest.fixture
def run_over(plm, tmp_path):
    """Makes the folder of a run over quantised weights whose trained numbers are random, as `fit` would leave it."""

    def make(kind, method="KronA", double=False, **arguments):
        path = write_jsonl(tmp_path / "mine.jsonl", pairs(4))
        method = {"class_path": method, "init_args": {"sites": list(QV)} | arguments}
        own = {"plm": str(plm), "method": method, "quantization": kind, "double_quantization": double, "max_length": 64}
        config = {
            "model": {"class_path": "CausalLM", "init_args": own},
            "data": {"class_path": "InstructionFiles", "init_args": {"train": path}},
        }
        module = model_from_config(config)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        folder = tmp_path / "run/version_0"
        (folder / "checkpoints").mkdir(parents=True)
        kept = {"state_dict": adapter_state(module), "kronlit": module._origin()}
        torch.save(kept, folder / "checkpoints/best-epoch=0-step=1.ckpt")
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return make


def quantised_logits(run):
    module = saved_run(str(run)).module()
    with torch.no_grad():
        return module.model(IDS).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merge_is_the_quantised_model_with_its_adapter(kronlit, run_over, tmp_path, kind, dtype):
    run = run_over(kind, a_shape=[8, 6])
    words = ["--ckpt_path", run, "--output", tmp_path / "merged", "--dtype", dtype, "--requantized", kind]
    code, out, err = kronlit("merge", *words)
    assert code == 0, err
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert merged.dtype == getattr(torch, dtype)
    expected = quantised_logits(run)
    reach = expected.abs().max()
    with torch.no_grad():
        torch.testing.assert_close(
            merged(IDS).logits.float(), expected, rtol=0, atol=float(reach) * (1e-5 if dtype == "float32" else 0.05)
        )
    found = re.search(rf"Against the model over {kind}: difference .*: (\S+) at most, .* \(logits reach (\S+)\)", out)
    assert float(found[1]) < float(found[2]) * (1e-5 if dtype == "float32" else 0.05)
    assert re.search(rf"Quantised again as {kind}: difference", out)


def test_what_comes_next_of_a_quantised_run_is_a_merge_too(tmp_path, plm):
    module, data = built(plm, tmp_path, quantization="nf4")
    module.configure_model()
    best = ModelCheckpoint(monitor="val/loss")
    assert "kronlit merge --ckpt_path here" in after_fit(Path("here"), best, module.model, data)
    module, data = built(plm, tmp_path, Houlsby(sites=(r".*\.o_proj",)), quantization="nf4")
    module.configure_model()
    assert "kronlit merge" not in after_fit(Path("here"), best, module.model, data)


def test_a_lora_is_made_of_a_run_over_quantised_weights(kronlit, run_over, tmp_path):
    words = ["--ckpt_path", run_over("nf4", a_shape=[8, 6]), "--output", tmp_path / "lora", "--format", "lora"]
    code, out, err = kronlit("export", *words, "--error", "1e-6")
    assert code == 0, err
    largest, reach = re.search(r"Truncated: difference .*: (\S+) at most, .* \(logits reach (\S+)\)", out).groups()
    assert float(largest) < 1e-4 * float(reach)


@pytest.mark.parametrize(
    ("kind", "method", "arguments"),
    [("nf4", "KronA", {"a_shape": [8, 6]}), ("int8", "LoRA", {"rank": 2}), ("int8_torchao", "HiRA", {"rank": 2})],
)
def test_an_export_loads_over_the_same_quantised_base(kronlit, run_over, tmp_path, kind, method, arguments):
    run = run_over(kind, method, **arguments)
    for form in ("auto", "kronlit"):  # the former is PEFT's
        code, _, err = kronlit("export", "--ckpt_path", run, "--output", tmp_path / form, "--format", form)
        assert code == 0, err
        model = package.load(tmp_path / form, quantization=kind)
        assert all(isinstance(placement.host, QuantisedLinear) for _, placement in placements(model))
        with torch.no_grad():
            torch.testing.assert_close(model(IDS).logits, quantised_logits(run), rtol=1e-5, atol=1e-5)
    assert f'quantization="{kind}"' in (tmp_path / "kronlit/README.md").read_text()
    assert "quantization" not in json.loads((tmp_path / "kronlit/adapter_config.json").read_text())
    package.load(tmp_path / "kronlit")  # the same model, not quantised


LOADS = """
import sys, torch, kronlit
from safetensors.torch import save_file
model = kronlit.load(sys.argv[1], quantization="nf4", double_quantization=True)
with torch.no_grad():
    save_file({"logits": model(torch.arange(3, 15)[None]).logits}, sys.argv[2])
"""


@pytest.mark.slow
def test_an_export_loads_in_a_new_process(kronlit, run_over, tmp_path):
    run = run_over("nf4", "LoRA", double=True, rank=2)
    assert kronlit("export", "--ckpt_path", run, "--output", tmp_path / "out", "--format", "peft")[0] == 0
    words = [sys.executable, "-c", LOADS, str(tmp_path / "out"), str(tmp_path / "there.safetensors")]
    subprocess.run(words, check=True, env=environment(), cwd=tmp_path)
    there = load_file(tmp_path / "there.safetensors")["logits"]
    torch.testing.assert_close(there, quantised_logits(run), rtol=1e-5, atol=1e-5)


def test_peft_loads_a_lora_over_the_values_that_bitsandbytes_gives(kronlit, run_over, plm, tmp_path):
    peft, functional = pytest.importorskip("peft"), pytest.importorskip("bitsandbytes.functional")
    run = run_over("int8", "LoRA", rank=2)
    assert kronlit("export", "--ckpt_path", run, "--output", tmp_path / "out", "--format", "peft")[0] == 0
    base = AutoModelForCausalLM.from_pretrained(plm, dtype=torch.float32)
    for module in base.model.modules():
        if type(module) is nn.Linear:
            codes, scales, _ = functional.int8_vectorwise_quant(module.weight.data.half())
            module.weight.data = functional.int8_vectorwise_dequant(codes, scales)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, quantised_logits(run), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_run_goes_on_over_the_same_weights_alone(kronlit, plm, tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", pairs(8))
    words = ["fit", "--model", "CausalLM", "--model.plm", plm, "--model.max_length", "64", "--trainer.max_epochs", "1"]
    words += ["--data", "InstructionFiles", "--data.train", path, "--data.validation", path, "--model.method", "KronA"]
    words += ["--model.method.a_shape", "[8, 6]", "--model.method.sites", SITES, "--run_dir", tmp_path / "run"]
    words += ["--model.quantization", "nf4", "--trainer.precision", "bf16-true", "--trainer.accelerator", "cpu"]
    code, _, err = kronlit(*words)
    assert code == 0, err
    run = tmp_path / "run/version_0"
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == "bf16-true"
    again = ["--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/last.ckpt", "--run_dir", tmp_path / "b"]
    code, _, err = kronlit("fit", *again, "--trainer.max_epochs", "2", "--model.quantization", "none")
    assert code == 2
    assert "`model.quantization`=none: the training in the checkpoint was begun with nf4" in err
    assert kronlit("fit", *again, "--trainer.max_epochs", "2")[0] == 0
    assert kronlit("validate", "--ckpt_path", run, "--trainer.accelerator", "cpu")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("FullFineTuning",), "`trains` has 'all', and quantised weights"),
        (("IntrinsicSAID",), "all weights would move, and quantised ones"),
    ],
)
def test_training_what_is_quantised_is_one_line(kronlit, plm, tmp_path, words, says):
    path = write_jsonl(tmp_path / "mine.jsonl", pairs(8))
    common = ["--model", "CausalLM", "--model.plm", plm, "--model.max_length", "64", "--model.method", *words]
    common += ["--data", "InstructionFiles", "--data.train", path, "--model.quantization", "nf4"]
    code, _, err = kronlit("fit", *common, "--run_dir", tmp_path / "run", "--trainer.accelerator", "cpu")
    assert code == 2
    assert says in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_a_wrong_word_is_answered_with_the_right_ones(tmp_path):
    with pytest.raises(ValueError, match=r"`quantization`='nf8' must be one of none, nf4, int8, int8_torchao"):
        package.load(tmp_path, quantization="nf8")


def test_an_adapter_is_not_put_on_another_model_that_is_quantised(kronlit, run_over, tmp_path):
    run = run_over("nf4", a_shape=[8, 6])
    assert kronlit("export", "--ckpt_path", run, "--output", tmp_path / "out", "--format", "kronlit")[0] == 0
    other = llama(tmp_path / "other", byte_tokenizer(), rms_norm_eps=1e-5)
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] += 1
    Quantisation("nf4").apply(model)
    with pytest.raises(ValueError, match="fingerprint"):
        package.load(tmp_path / "out", model)
