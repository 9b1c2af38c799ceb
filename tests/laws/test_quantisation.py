"""Frozen linear modules of 4 and 8 bits, and every method over them."""

import copy

import pytest
import torch
import transformers
from fixtures.methods import METHODS
from torch import nn
from torch.nn import functional as F

import kronlit
from kronlit import Houlsby, KronA, LoRA, inject
from kronlit.adapters import QuantisedLinear, parameter_counts
from kronlit.adapters.joint import joint_blocker
from kronlit.adapters.state import fingerprint
from kronlit.config.user_error import UserError
from kronlit.modules.backbone import store_frozen
from kronlit.modules.quantisation import Quantisation

pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
torchao = pytest.importorskip("torchao.quantization", reason="the extra `quantized` is not installed")

# QLoRA, appendix E.
NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]
KINDS = {
    "nf4": Quantisation("nf4"),
    "nf4, double": Quantisation("nf4", double=True),
    "int8": Quantisation("int8"),
    "int8_torchao": Quantisation("int8_torchao"),
}
every = pytest.mark.parametrize("how", KINDS.values(), ids=KINDS.keys())
WITHOUT = ("FullFineTuning", "IntrinsicSAID", "PromptTuning")
"""The methods that train what is quantised; and one for other models, which adds to no module."""
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}


def llama(how=None):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, vocab_size=99)
    model = transformers.LlamaForCausalLM(config).requires_grad_(False).eval()
    if how is not None:
        how.apply(model)
    return model


def bert(how=None):
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, vocab_size=99)).eval()
    if how is not None:
        how.apply(model)
    return model


def logits(model):
    return model(torch.arange(3, 15)[None]).logits


def quantised(width, how, bias=True):
    """One module of a model, and what it was before."""
    torch.manual_seed(0)
    whole = nn.Linear(width, 40, bias).requires_grad_(False)
    model = nn.ModuleDict({"one": copy.deepcopy(whole)})
    how.apply(model)
    return model["one"], whole


@pytest.mark.parametrize("width", [128, 48, 24])  # whole blocks of 64, and rows that begin within one
def test_nf4_has_the_nearest_of_the_papers_values_times_the_largest_of_each_block(width):
    module, whole = quantised(width, KINDS["nf4"])
    blocks = whole.weight.flatten().split(64)
    values = torch.tensor(NF4)
    found = [values[(b[:, None] / b.abs().max() - values).abs().argmin(-1)] * b.abs().max() for b in blocks]
    torch.testing.assert_close(module.dequantised(torch.float32), torch.cat(found).view_as(whole.weight))


def test_double_quantisation_changes_little_and_is_smaller():
    (once, whole), (twice, _) = (quantised(1024, KINDS[kind]) for kind in ("nf4", "nf4, double"))
    size = [sum(t.nbytes for t in (m.weight, *m.buffers())) / whole.weight.numel() for m in (once, twice)]
    assert size == pytest.approx([4.5 / 8, 4.127 / 8 + 1024 / whole.weight.numel()], rel=1e-2)  # its table is 1 kB
    torch.testing.assert_close(twice.dequantised(torch.float32), once.dequantised(torch.float32), rtol=0.02, atol=0)


def test_int8_is_rounded_to_127ths_of_the_largest_of_each_row():
    module, whole = quantised(48, KINDS["int8"])
    rows = whole.weight.half().float()
    step = rows.abs().amax(-1, keepdim=True) / 127
    torch.testing.assert_close(module.dequantised(torch.float32), (rows / step).round() * step)


def test_int8_torchao_is_what_torchao_makes():
    module, whole = quantised(48, KINDS["int8_torchao"])
    torchao.quantize_(whole, torchao.Int8WeightOnlyConfig(set_inductor_config=False))
    torch.testing.assert_close(module.dequantised(torch.float32), whole.weight.dequantize())


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_the_dequantised_weight(how, dtype, bias):
    module, whole = quantised(48, how, bias)
    weight, own = module.dequantised(dtype), whole.bias if whole.bias is None else whole.bias.to(dtype)
    x = torch.randn(2, 5, 48, dtype=dtype, requires_grad=True)
    ours, theirs = module(x), F.linear(x, weight, own)
    loose = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}  # of one sum more
    torch.testing.assert_close(ours, theirs, **loose)
    dy = torch.randn_like(ours)
    torch.testing.assert_close(torch.autograd.grad(ours, x, dy)[0], torch.autograd.grad(theirs, x, dy)[0])


@every
def test_autocast_computes_in_16_bits(how):
    module, _ = quantised(48, how)
    x = torch.randn(5, 48)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), module(x), rtol=3e-2, atol=3e-2)


def test_a_compute_dtype_rounds_products_alone():
    torch.manual_seed(0)
    model = nn.ModuleDict({"one": nn.Linear(48, 40)})
    Quantisation("nf4", compute_dtype="bfloat16").apply(model)
    x = torch.randn(5, 48)
    y, weight = model["one"](x), model["one"].dequantised(torch.bfloat16)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, F.linear(x.bfloat16(), weight).float() + model["one"].bias)


@every
def test_the_body_is_quantised_and_head_embeddings_and_norms_are_not(how):
    names = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    model, before = llama(how), dict(llama().named_parameters())
    found = {name for name, module in model.named_modules() if isinstance(module, QuantisedLinear)}
    assert {name.split(".")[-1] for name in found} == names
    assert len(found) == 14
    for name, parameter in model.named_parameters():
        if name.removesuffix(".weight") not in found:
            assert torch.equal(parameter, before[name])
    assert not isinstance(bert(how).classifier, QuantisedLinear)


def test_what_transformers_keeps_in_float32_is_not_quantised():
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 50}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, decoder_start_token_id=0))
    KINDS["nf4"].apply(model)
    layer = model.encoder.block[0].layer
    assert isinstance(layer[0].SelfAttention.q, QuantisedLinear)
    assert type(layer[1].DenseReluDense.wo) is nn.Linear
    ids = torch.arange(6)[None]
    model(input_ids=ids, decoder_input_ids=ids)


@every
def test_a_quantised_model_has_the_count_and_the_fingerprint_of_the_whole_one(how):
    assert parameter_counts(llama(how)) == parameter_counts(llama())
    assert fingerprint(llama(how)) == fingerprint(llama())
    injected = [inject(make, LoRA(rank=2)) for make in (llama(how), llama())]
    assert fingerprint(injected[0]) == fingerprint(injected[1])


@every
def test_conversions_of_the_model_leave_the_scales_as_they_are(how):
    model = inject(llama(how), LoRA(rank=2))
    module = model.model.layers[0].self_attn.q_proj.host
    before = module.dequantised(torch.float32)
    store_frozen(model, torch.bfloat16, everything=True)
    model.to(torch.bfloat16).to(torch.float32)
    assert torch.equal(module.dequantised(torch.float32), before)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in WITHOUT])
def test_a_method_over_quantised_modules_does_what_it_does_over_their_values(name):
    model = inject(bert(KINDS["nf4"]), METHODS[name]())
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    whole = copy.deepcopy(model)
    kronlit.dequantise(whole)
    both = []
    for each in (model, whole):
        torch.manual_seed(2)
        y = logits(each.train())
        y.square().sum().backward()
        both.append([y, *(p.grad for p in each.parameters() if p.requires_grad)])
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


OF_A_LANGUAGE_MODEL = [KronA(a_shape=(8, 6)), LoRA(rank=2), Houlsby(reduction_factor=4)]
OF_A_LANGUAGE_MODEL += [METHODS["HiRA"](), METHODS["DoRA"]()]


@pytest.mark.parametrize(
    ("how", "method"),
    [  # each method over one kind, and each kind below one method; all others are of the matrix
        pytest.param(how, method, marks=[] if kind == "nf4" or number == 0 else pytest.mark.matrix)
        for kind, how in KINDS.items()
        for number, method in enumerate(OF_A_LANGUAGE_MODEL)
    ],
)
def test_an_adapter_of_a_language_model_learns_over_each_kind(how, method):
    model = inject(llama(how), method).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    ids, losses = torch.arange(3, 15)[None], []
    for _ in range(5):
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1e-3


@pytest.mark.parametrize("name", ["LoRA", "KronA", "Houlsby", "HiRA", "DoRA", "OFT"])
def test_no_whole_weight_is_kept_for_the_backward_pass(name):
    model = inject(bert(KINDS["nf4"]), METHODS[name]()).train()
    sizes = {
        module.in_features * module.out_features for module in model.modules() if isinstance(module, QuantisedLinear)
    }
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        logits(model)
    assert not [shape for shape in kept if shape.numel() in sizes and set(shape) <= {48, 96}]


@pytest.mark.parametrize(("name", "says"), [("FullFineTuning", "`trains` has 'all'"), ("IntrinsicSAID", "all weights")])
@every
def test_a_method_that_trains_what_is_quantised_is_refused(how, name, says):
    with pytest.raises(ValueError, match=rf"{says}.*quantised.*\(torch\.u?int8\) cannot"):
        inject(bert(how), METHODS[name]())


def test_a_quantised_weight_is_merged_only_after_it_is_dequantised():
    model = inject(bert(KINDS["nf4"]), LoRA(rank=2))
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    before = logits(model)
    with pytest.raises(TypeError, match=r"NF4Linear is quantised: `kronlit.dequantise` the model first"):
        kronlit.merge(model)
    kronlit.dequantise(model)
    kronlit.merge(model)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-5)


def test_a_shared_module_stays_shared():
    config = transformers.AlbertConfig(**SMALL, embedding_size=24, vocab_size=99)
    model = transformers.AlbertModel(config)
    model.again = model.encoder.embedding_hidden_mapping_in
    KINDS["int8"].apply(model)
    assert model.again is model.encoder.embedding_hidden_mapping_in
    kronlit.dequantise(model)
    assert model.again is model.encoder.embedding_hidden_mapping_in
    assert type(model.again) is nn.Linear


def test_runs_over_quantised_weights_are_not_computed_side_by_side():
    assert joint_blocker(inject(bert(KINDS["nf4"]), LoRA(rank=2))) == "its frozen weights are quantised"


def test_where_nothing_can_be_quantised_it_is_said():
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50))
    with pytest.raises(UserError, match=r"`quantization`='nf4': a GPT2LMHeadModel has no linear module in its body"):
        KINDS["nf4"].apply(model)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("int8", True), r"`double_quantization`=True quantises the scales of nf4, and `quantization` is 'int8'"),
        (("none", False, "bfloat16"), r"`compute_dtype`='bfloat16' is that of quantised products"),
    ],
)
def test_options_without_what_they_are_for_are_refused(arguments, says):
    with pytest.raises(UserError, match=says):
        Quantisation(*arguments)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchao.quantization", None)
    with pytest.raises(UserError, match=r"needs torchao, which is missing: pip install 'kronlit\[quantized\]'"):
        llama(KINDS["int8_torchao"])


def test_a_norm_that_is_trained_in_part_stays_whole_below_bf16_true():
    model = inject(bert(), kronlit.BitFit())
    store_frozen(model, torch.bfloat16, everything=True)
    norm = model.bert.encoder.layer[0].output.LayerNorm
    assert (norm.weight.dtype, norm.bias.dtype) == (torch.float32, torch.float32)
    assert model.bert.embeddings.word_embeddings.weight.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert logits(model).isfinite().all()
