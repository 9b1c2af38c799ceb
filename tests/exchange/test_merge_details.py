"""What merging and loading leave behind, at their edges."""

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit import AdaMixLoRA, IntrinsicSAID, KronA, LoRA
from kronlit.adapters import Delta, SequentialAdapter
from kronlit.adapters.state import adapter_state
from kronlit.exchange.init_adapter import init_adapter
from kronlit.exchange.peft.lora import read
from kronlit.structured import Circulant, Kronecker, LowRank, Mixture, Stacked
from kronlit.training.checkpoint_lookup import best_of_run


def numbered(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bias", [False, True])
def test_a_matrix_behind_a_module_is_merged_into_weight_and_bias(bias, dtype):
    host = nn.Linear(6, 8, bias=bias).to(dtype)
    placement = numbered(SequentialAdapter(host, 6, 8, lambda i, o: Circulant(i, o)))
    weight, matrix = host.weight.detach().double(), placement.body.to_dense().detach().double()
    expected = weight + matrix @ weight
    own = None if host.bias is None else host.bias.detach().double() + matrix @ host.bias.detach().double()
    merged = placement.merge()
    assert merged.weight.dtype == dtype
    # Rounded once: the nearest number of that dtype, but for the last bit of the sum in float32
    torch.testing.assert_close(merged.weight.detach().double(), expected.to(dtype).double(), rtol=1e-5, atol=1e-6)
    assert (merged.bias is None) == (not bias)
    if bias:
        torch.testing.assert_close(merged.bias.detach().double(), own.to(dtype).double(), rtol=1e-5, atol=1e-6)


def test_what_was_added_in_double_is_merged_in_double():
    host = nn.Linear(6, 8).double()
    placement = numbered(Delta(host, 6, 8, lambda i, o: Kronecker(i, o, (2, 3)), scale=0.7).double())
    expected = host.weight + 0.7 * torch.kron(placement.matrix.a, placement.matrix.b)
    torch.testing.assert_close(placement.merge().weight, expected, rtol=1e-14, atol=1e-14)


def test_parts_of_a_matrix_in_double_stay_in_double():
    parts = {"query": slice(0, 2), "value": slice(4, 8)}
    stacked = numbered(Stacked(6, 8, lambda i, o: LowRank(i, o, rank=1), parts).double())
    dense = stacked.to_dense()
    assert dense.dtype == torch.float64
    for name, part in parts.items():
        one = stacked.get_submodule(name)
        assert torch.equal(dense[part], one.b @ one.a)
    assert not dense[2:4].any()


def test_a_mixture_that_collapsed_is_an_ordinary_one_that_can_be_trained_on():
    mixture = numbered(Mixture(4, 6, lambda i, o: LowRank(i, o, rank=2), num_experts=3, evaluation="random", bias=True))
    mixture(torch.ones(2, 4)).sum().backward()
    mean = {name: parameter.detach().mean(0) for name, parameter in mixture.named_parameters()}
    mixture.collapse()
    assert mixture.num_experts == 1
    for name, parameter in mixture.named_parameters():
        assert parameter.grad is None  # that of before is of other shapes
        assert parameter.shape == (1, *mean[name].shape)
    x = torch.randn(5, 4)
    expected = x @ (mean["b"] @ mean["a"]).T + mean["bias"]
    for one in (mixture.train(), mixture.eval()):
        torch.testing.assert_close(one(x), expected)
    mixture.train()(x).sum().backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in mixture.parameters())


def test_a_weight_that_moved_keeps_its_place_when_it_is_settled(tiny_bert):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert).eval()
    kronlit.inject(model, IntrinsicSAID(intrinsic_dimension=200))
    start = model.bert.embeddings.word_embeddings.weight.detach().clone()
    (theta,) = {id(p): p for name, p in model.named_parameters() if name.endswith(".theta")}.values()
    nn.init.normal_(theta, std=3.0)
    moved = model.bert.embeddings.word_embeddings.weight.detach().clone()
    assert not torch.allclose(moved, start)
    kronlit.merge(model)
    torch.testing.assert_close(model.bert.embeddings.word_embeddings.weight, moved, rtol=0, atol=0)
    assert not any("theta" in name or "original" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "rank", "alpha"), [("layer.1.query", 2, 5), ("layer.0.query", 2, 6), ("layer.1.query_norm", 4, 6)]
)
@pytest.mark.parametrize("rslora", [False, True])
def test_patterns_of_peft_match_the_end_of_a_name(name, rank, alpha, rslora):
    content = {"r": 4, "lora_alpha": 6, "rank_pattern": {"query": 2}, "alpha_pattern": {"1.*query": 5}}
    one = read(name, {"A": torch.ones(rank, 3), "B": torch.ones(3, rank)}, content | {"use_rslora": rslora})
    assert one.scale == pytest.approx(alpha / (math.sqrt(rank) if rslora else rank))


def test_a_training_that_trains_more_starts_from_an_adapter_of_the_same_kind(tiny_bert, tmp_path, run_of, kronlit):
    run, state = run_of(tiny_bert, "KronA")
    words = ["export", "--ckpt_path", run, "--output", tmp_path / "own", "--format", "kronlit"]
    assert kronlit(*words)[0] == 0
    method = KronA(trains=("head", "layer_norm"))
    model = method_in(tiny_bert, method)
    taken, left = init_adapter(model, method, str(tmp_path / "own"))
    assert (taken, left) == (len(state), [])
    name = "bert.encoder.layer.0.attention.self.query.matrix.b"
    assert torch.equal(adapter_state(model)[name], state[name])
    with pytest.raises(ValueError, match="`init_adapter`"):
        init_adapter(method_in(tiny_bert, other := KronA(scale=2.0)), other, str(tmp_path / "own"))


def method_in(plm, method):
    model = AutoModelForSequenceClassification.from_pretrained(plm)
    method.apply(model)
    return model


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_another_scale_of_pefts_goes_into_the_factors(tiny_bert, tmp_path, scale):
    theirs = get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(tiny_bert),
        LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=6, target_modules=["query"], init_lora_weights=False),
    )
    theirs.save_pretrained(tmp_path)
    method = LoRA(rank=2, alpha=2 * scale, sites=("query",))
    model = method_in(tiny_bert, method)
    init_adapter(model, method, str(tmp_path))
    kronlit.merge(model)
    own = theirs.merge_and_unload().state_dict()
    for name, tensor in model.state_dict().items():
        if name.endswith("query.weight"):
            torch.testing.assert_close(tensor, own[name], atol=1e-6, rtol=1e-5)


def test_the_best_checkpoint_of_a_folder_is_found_before_the_last(tmp_path):
    for name in ("last", "best-epoch=1"):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / f"checkpoints/{name}.ckpt").touch()
    assert best_of_run(tmp_path).name == "best-epoch=1.ckpt"
    (tmp_path / "checkpoints/best-epoch=1.ckpt").unlink()
    assert best_of_run(tmp_path).name == "last.ckpt"


def test_a_tied_parameter_is_in_a_checkpoint_once(tiny_bert):
    model = method_in(tiny_bert, kronlit.Compacter(reduction_factor=4))
    rules = [name for name in adapter_state(model) if name.endswith(".rule")]
    assert len(rules) == 1
    assert len(adapter_state(method_in(tiny_bert, AdaMixLoRA(rank=2)))) > 0
