"""Placements that change a weight otherwise than by adding a matrix: HiRA's, DoRA's and OFT's, against PEFT's."""

import copy
from functools import partial

import peft
import pytest
import torch
from peft import HiraConfig, LoraConfig, OFTConfig
from test_adapters import build, disturb, run
from test_quantised import Linear4bit
from torch import nn
from torch.nn import functional as F

import kronlit
from kronlit import OFT, DoRA, HiRA, LoRA
from kronlit.adapters import Delta, Hadamard, Product, WeightDecomposed, placements
from kronlit.adapters.joint import Rows, join_modules, share_frozen
from kronlit.structured import BlockOrthogonal, Circulant, Kronecker, LowRank, Mixture

KINDS = {
    "Hadamard": partial(Hadamard, matrix=partial(LowRank, rank=3)),
    "Hadamard, Kronecker": partial(Hadamard, matrix=Kronecker, scale=0.5),
    "Hadamard, scale trained": partial(Hadamard, matrix=partial(Circulant, zero_start=False), scale="trained"),
    "DoRA": partial(WeightDecomposed, matrix=partial(LowRank, rank=3), scale=2.0),
    "DoRA, circulant": partial(WeightDecomposed, matrix=Circulant),
    "OFT": partial(Product, matrix=partial(BlockOrthogonal, block_size=4)),
}
SLICES = {"query": slice(0, 4), "value": slice(8, 12)}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def loud(architecture):
    """A model whose weights are so large that a change of one shows."""
    model = build(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)
    return model


def placed(kind, host=None, slices=None):
    host = nn.Linear(8, 12) if host is None else host
    placement = kind(host.requires_grad_(False), 8, 12, **({} if slices is None else {"slices": slices}))
    for parameter in placement.added():
        nn.init.normal_(parameter, std=0.5)
    return placement


def changed(placement):
    """The changed weight by its definition, on autograd's own way."""
    weight = placement.host.weight
    if isinstance(placement, Product):
        rows = {None: weight} if placement.slices is None else {n: weight[s] for n, s in placement.slices.items()}
        if placement.slices is None:
            return weight @ placement.matrix.to_dense()
        whole = weight.clone()
        for name, part in rows.items():
            whole[placement.slices[name]] = part @ placement.matrix[name].to_dense()
        return whole
    matrix = placement.scale * placement.matrix.to_dense()
    if isinstance(placement, Hadamard):
        return weight + weight * matrix
    total = weight + matrix
    ratio, start = torch.ones(12, 1, dtype=weight.dtype), 0
    for part in placement.parts.values():
        length = total[part].norm(dim=1, keepdim=True).detach()
        ratio[part] = placement.magnitude[start : start + len(length), None] / length
        start += len(length)
    return ratio * total


@every
@pytest.mark.parametrize("slices", [None, SLICES], ids=["whole", "parts"])
@pytest.mark.parametrize("tokens", [(2, 3), (40,)], ids=["few tokens", "many tokens"])
def test_outputs_and_gradients_are_those_of_the_changed_weight(kind, slices, tokens):
    placement = placed(kind, slices=slices).double()
    x = torch.randn(*tokens, 8, dtype=torch.float64, requires_grad=True)
    ours, theirs = placement(x), F.linear(x, changed(placement), placement.host.bias)
    torch.testing.assert_close(ours, theirs)
    inputs, dy = [x, *placement.added()], torch.randn_like(ours)
    expected = torch.autograd.grad(theirs, inputs, dy)
    torch.testing.assert_close(torch.autograd.grad(ours, inputs, dy), expected, rtol=1e-6, atol=1e-8)


@every
def test_merging_gives_the_changed_weight(kind):
    placement = placed(kind)
    expected = changed(placement).detach()
    torch.testing.assert_close(placement.merge().weight, expected)


@every
def test_nothing_changes_at_the_start(kind):
    host, x = nn.Linear(8, 12), torch.randn(5, 8)
    torch.testing.assert_close(kind(host, 8, 12)(x), host(x))


@pytest.mark.parametrize("kind", [KINDS["Hadamard"], KINDS["OFT"]], ids=["Hadamard", "OFT"])
def test_gradients_are_those_of_finite_differences(kind):
    placement = placed(kind).double()
    names, values = zip(*((n, p) for n, p in placement.named_parameters() if p.requires_grad), strict=True)
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)

    def call(x, *values):
        return torch.func.functional_call(placement, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *values))


def test_the_norm_of_dora_is_a_constant_in_the_backward_pass():
    placement = placed(KINDS["DoRA"]).double()
    x, dy = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 12, dtype=torch.float64)
    (detached,) = torch.autograd.grad(placement(x), placement.matrix.b, dy)
    total = placement.host.weight + placement.scale * placement.matrix.to_dense()
    whole = placement.magnitude[:, None] * total / total.norm(dim=1, keepdim=True)
    (through,) = torch.autograd.grad(F.linear(x, whole), placement.matrix.b, dy)
    assert (detached - through).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["Hadamard", "DoRA", "OFT"])
def test_a_16_bit_weight_is_changed_by_float32_parameters(kind):
    placement, x = placed(KINDS[kind]), torch.randn(40, 8)
    exact = placement(x)
    placement.host.to(torch.bfloat16)
    y = placement(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05 * exact.abs().max().item())
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in placement.added())
    merged = placement.merge()
    assert merged.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["Hadamard", "DoRA", "OFT"])
def test_in_16_bits_a_small_change_is_not_rounded_away(kind):
    placement = KINDS[kind](nn.Linear(8, 12).requires_grad_(False), 8, 12)
    x = torch.rand(4000, 8).bfloat16()
    placement.host.to(torch.bfloat16)
    before = placement(x).float().mean(0)
    with torch.no_grad():
        parameter = placement.get_parameter({"Hadamard": "matrix.b", "DoRA": "magnitude", "OFT": "matrix.q"}[kind])
        parameter.add_(1e-3 * (parameter.abs() if kind == "DoRA" else 1))
    assert (placement(x).float().mean(0) - before).abs().max() > 1e-5


@pytest.mark.parametrize("kind", ["Hadamard", "DoRA", "OFT"])
def test_autocast_computes_in_bfloat16(kind):
    placement, x = placed(KINDS[kind]), torch.randn(40, 8)
    exact = placement(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = placement(x)
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05 * exact.abs().max().item())
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in placement.added())


@pytest.mark.parametrize("kind", ["Hadamard", "DoRA", "OFT"])
@pytest.mark.parametrize("slices", [None, SLICES], ids=["whole", "parts"])
def test_a_quantised_host_is_changed_as_it_is_applied(kind, slices):
    torch.manual_seed(3)
    plain = placed(KINDS[kind], slices=slices)
    packed = copy.deepcopy(plain)
    packed.host = Linear4bit(plain.host)
    if hasattr(packed, "_plain"):
        packed._plain = False
    x = torch.randn(40, 8)
    torch.testing.assert_close(packed(x), plain(x))
    assert "quantised" in packed.merge_blocker
    if kind == "DoRA":
        fresh = KINDS[kind](Linear4bit(plain.host), 8, 12)
        torch.testing.assert_close(fresh.magnitude, plain.host.weight.norm(dim=1))


@pytest.mark.parametrize("kind", ["Hadamard", "DoRA"])
def test_dropout_is_of_the_matrixs_input_alone(kind):
    placement, x = placed(KINDS[kind]), torch.randn(40, 8)
    placement.dropout = 0.4
    torch.testing.assert_close(placement.eval()(x), F.linear(x, changed(placement), placement.host.bias))
    torch.manual_seed(5)
    y = placement.train()(x)
    torch.manual_seed(5)
    seen = F.dropout(x, 0.4)
    matrix, weight = placement.scale * placement.matrix.to_dense(), placement.host.weight
    if kind == "Hadamard":
        expected = placement.host(x) + F.linear(seen, weight * matrix)
    else:
        ratio = placement.magnitude / (weight + matrix).norm(dim=1)
        expected = ratio * (F.linear(x, weight) + F.linear(seen, matrix)) + placement.host.bias
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("kind", [Hadamard, WeightDecomposed])
def test_a_mixture_is_refused_where_the_matrix_is_read(kind):
    with pytest.raises(ValueError, match=rf"a {kind.__name__} reads its matrix, and a Mixture draws one"):
        kind(nn.Linear(8, 12), 8, 12, partial(Mixture, expert=Kronecker))


def test_a_matrix_that_starts_as_zero_is_refused_before_a_weight():
    with pytest.raises(ValueError, match="this one starts as zero: take one that starts as the identity"):
        Product(nn.Linear(8, 12), 8, 12, LowRank)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (lambda: HiRA(rank=4, matrix=Kronecker), "`rank`=4 is that of the paper's matrix"),
        (lambda: LoRA(rank_stabilized=True), "`alpha`=None is no number: give one"),
        (lambda: LoRA(rank_stabilized=True, alpha="auto"), "`alpha`='?auto'? is no number: give one"),
        (lambda: kronlit.inject(build("bert"), OFT()), r"`block_size`=32 .* divide the larger width, 24"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(method, words):
    with pytest.raises(ValueError, match=words):
        method()


ON = {"target_modules": ["query", "value"]}
PEFT = {
    "HiRA": (HiRA(rank=3), HiraConfig(r=3, **ON), {"hira_A": "a", "hira_B": "b"}),
    "DoRA": (
        DoRA(matrix=partial(LowRank, rank=3), scale=2.0),
        LoraConfig(r=3, lora_alpha=6, use_dora=True, **ON),
        {"lora_A": "a", "lora_B": "b"},
    ),
    "OFT": (OFT(block_size=4), OFTConfig(oft_block_size=4, use_cayley_neumann=False, **ON), {"oft_R": "q"}),
    "OFT, of a series": (
        OFT(block_size=8, neumann_terms=5),
        OFTConfig(oft_block_size=8, num_cayley_neumann_terms=5, **ON),
        {"oft_R": "q"},
    ),
    "rsLoRA": (
        LoRA(rank=4, alpha=6.0, rank_stabilized=True),
        LoraConfig(r=4, lora_alpha=6, use_rslora=True, **ON),
        {"lora_A": "a", "lora_B": "b"},
    ),
}


@pytest.mark.parametrize(("method", "config", "names"), PEFT.values(), ids=PEFT)
def test_it_is_that_of_peft_in_forward_backward_and_merge(method, config, names):
    model = loud("bert")
    before = run(model)
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    ours = kronlit.inject(model, method)
    disturb(ours)
    pairs = []
    for name, placement in placements(ours):
        layer = theirs.get_submodule(f"base_model.model.{name}")
        for their, our in names.items():
            parameter = getattr(layer, their)["default"]
            parameter = getattr(parameter, "weight", parameter)
            sign = -1 if getattr(method, "neumann_terms", None) else 1  # PEFT's two parametrisations differ by it
            pairs.append((parameter, getattr(placement.matrix, our), sign))
        if "DoRA" in type(method).__name__:
            pairs.append((layer.lora_magnitude_vector["default"].weight, placement.magnitude, 1))
    with torch.no_grad():
        for their, our, sign in pairs:
            our.mul_(0.3)  # a series of large powers leaves float32
            their.copy_(sign * our)
    torch.testing.assert_close(run(ours), run(theirs), rtol=1e-5, atol=1e-5)
    assert (run(ours) - before).abs().max() > 1e-3
    run(ours).square().sum().backward()
    run(theirs).square().sum().backward()
    for their, our, sign in pairs:
        torch.testing.assert_close(our.grad, sign * their.grad, rtol=1e-3, atol=1e-5)
    kronlit.merge(ours)
    torch.testing.assert_close(run(ours), run(theirs.merge_and_unload()), rtol=1e-5, atol=1e-5)


def test_dora_starts_at_the_lengths_that_peft_starts_at():
    model = build("bert")
    theirs = peft.get_peft_model(copy.deepcopy(model), PEFT["DoRA"][1])
    for name, placement in placements(kronlit.inject(model, PEFT["DoRA"][0])):
        layer = theirs.get_submodule(f"base_model.model.{name}")
        torch.testing.assert_close(placement.magnitude, layer.lora_magnitude_vector["default"].weight)


@pytest.mark.parametrize(
    "method",
    [HiRA(rank=3), DoRA(scale=2.0), OFT(block_size=4), kronlit.Structured(matrix=Circulant)],
    ids=lambda method: type(method).__name__,
)
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_models_side_by_side_compute_each_its_own(method, architecture):
    first = loud(architecture)
    models = [first, build(architecture)]
    models[1].load_state_dict(first.state_dict())
    for model in models:
        disturb(kronlit.inject(model, method)).double()
    expected = [run(model) for model in models]
    share_frozen(models)
    rows = Rows()
    joint = join_modules(models, rows)
    rows.begin([2, 2])
    ids = torch.arange(3, 17).reshape(2, 7).repeat(2, 1)
    logits = joint(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(logits, torch.cat(expected))
    assert (expected[0] - expected[1]).abs().max() > 1e-2


class Halved(Delta):
    """A placement of one's own that hands its arguments on: half the matrix is added."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = self.scale / 2


def test_a_placement_of_ones_own_stands_on_parts_of_a_module():
    model = build("gpt2")
    kronlit.adapters.inject(model, [kronlit.adapters.Insertion(("query",), partial(Halved, matrix=Kronecker))])
    disturb(model)
    before = run(model)
    kronlit.merge(model)
    torch.testing.assert_close(run(model), before, rtol=1e-4, atol=1e-5)
