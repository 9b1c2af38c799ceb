"""Modules that look linear and whose weight is not the matrix that they apply."""

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

import kronlit
from kronlit import BitFit, FullFineTuning, Houlsby, KronA, LiST, LoRA, inject
from kronlit.adapters.linear import features
from kronlit.modules.backbone import store_frozen

SMALL = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 99}


class Linear4bit(nn.Linear):
    """As bitsandbytes has it: the weight is bytes, two numbers in each, in one column."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.hidden = [linear.weight.detach()]  # what bitsandbytes unpacks
        self.bias = linear.bias
        packed = torch.randint(255, (linear.weight.numel() // 2, 1), dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, x):
        return F.linear(x, self.hidden[0].to(x.dtype), self.bias)


class Linear8bit(Linear4bit):
    """As `Linear8bitLt` has it: the weight is bytes in the shape of the matrix, and its scales are elsewhere."""

    def __init__(self, linear):
        super().__init__(linear)
        self.weight = nn.Parameter((linear.weight.detach() * 100).to(torch.int8), requires_grad=False)


class FP8Linear(Linear4bit):
    """As Transformers has it: the weight is floats of 8 bits, which are scaled."""

    def __init__(self, linear):
        super().__init__(linear)
        self.weight = nn.Parameter((linear.weight.detach() * 100).to(torch.float8_e4m3fn), requires_grad=False)


class ScaledLinear(nn.Linear):
    """It applies a multiple of its weight, and its weight looks like any other."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x):
        return F.linear(x, 2 * self.weight, self.bias)


class SameLinear(ScaledLinear):
    def forward(self, x):
        return (x @ self.weight.T) + self.bias


class Router(ScaledLinear):
    """It gives two tensors."""

    def forward(self, x):
        y = super().forward(x)
        return y, y.softmax(-1)


QUANTISED = [Linear4bit, Linear8bit, FP8Linear]


def bert(kind):
    """A BERT whose linear modules in layers are of a kind."""
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**SMALL)).eval()
    for name, module in list(model.encoder.named_modules()):
        if isinstance(module, nn.Linear):
            model.encoder.set_submodule(name, kind(module))
    return model


def output(model):
    return model.eval()(torch.arange(6)[None]).last_hidden_state


def disturb(model):
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".host." not in name:
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("method", [LoRA(rank=2), KronA(), Houlsby(reduction_factor=4), LiST(bottleneck_width=4)])
def test_what_is_added_to_a_quantised_module_has_its_widths_and_computes_beside_it(kind, method):
    plain, quantised = (disturb(inject(bert(one), method)) for one in (SameLinear, kind))
    torch.testing.assert_close(output(quantised), output(plain))


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("method", [LoRA(rank=2), LiST(bottleneck_width=4)])
def test_nothing_is_merged_into_a_quantised_weight(kind, method):
    model = disturb(inject(bert(kind), method))
    before, bytes_of = output(model), {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(TypeError, match=rf"cannot be merged: the weight of its {kind.__name__} is quantised"):
        kronlit.merge(model)
    torch.testing.assert_close(output(model), before, rtol=0, atol=0)
    assert all(torch.equal(p.view(torch.uint8), bytes_of[n].view(torch.uint8)) for n, p in model.named_parameters())


@pytest.mark.parametrize("kind", QUANTISED)
def test_packed_bytes_are_not_cast(kind):
    model = inject(bert(kind), LoRA(rank=2))
    dtype = model.encoder.layer[0].attention.self.query.host.weight.dtype
    store_frozen(model, torch.bfloat16)
    assert model.encoder.layer[0].attention.self.query.host.weight.dtype == dtype


def test_a_module_that_applies_something_else_than_its_weight_is_not_merged():
    model = disturb(inject(bert(ScaledLinear), LoRA(rank=2)))
    with pytest.raises(TypeError, match="a ScaledLinear applies something else than its weight"):
        kronlit.merge(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_module_that_applies_its_weight_in_its_own_words_is_merged(dtype):
    model = disturb(inject(bert(SameLinear).to(dtype), LoRA(rank=2)))
    before = output(model)
    kronlit.merge(model)
    torch.testing.assert_close(output(model), before, rtol=1e-4, atol=1e-5 if dtype == torch.float32 else 0.2)


def test_a_router_is_no_linear_module():
    model = bert(lambda linear: linear)
    model.pooler.dense = Router(model.pooler.dense)
    model.pooler.forward = lambda states: model.pooler.dense(states[:, 0])[0]
    with pytest.raises(ValueError, match=r"pooler\.dense: a Delta goes on a module .* a Router does not"):
        inject(model, LoRA(rank=2, sites=(r"pooler\.dense",)))


@pytest.mark.parametrize("kind", [Linear4bit, Linear8bit])
def test_quantised_weights_are_not_trained(kind):
    with pytest.raises(ValueError, match=r"`trains` has 'all', and quantised weights \(torch\.u?int8\)"):
        inject(bert(kind), FullFineTuning())


def test_bitfit_gives_a_packed_module_a_bias_of_its_width():
    model = bert(lambda linear: linear)
    packed = Linear4bit(nn.Linear(24, 24, bias=False))
    model.encoder.layer[0].attention.self.query = packed
    inject(model, BitFit())
    assert model.encoder.layer[0].attention.self.query.added_bias.shape == (24,)
    output(model)


def test_a_weight_of_three_dimensions_is_refused():
    odd = type("Conv1D", (nn.Module,), {})()
    odd.weight = nn.Parameter(torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match=r"this Conv1D has a weight of shape \(3, 4, 5\)"):
        features(odd)
