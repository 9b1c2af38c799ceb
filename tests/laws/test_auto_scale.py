"""The law of `scale: auto`: a first step of Adam moves the weight as far as that of PEFT's LoRA, r = 8, alpha = 16."""

import dataclasses
import math
import statistics
from functools import cache, lru_cache, partial
from typing import get_args

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModel

import kronlit
from kronlit import SURM, KronA, KronAB, LoRA, Structured
from kronlit.adapters import Delta, ParallelAdapter, auto_scale, placements
from kronlit.adapters.branches import KroneckerBranches
from kronlit.exchange.init_adapter import init_adapter
from kronlit.exchange.peft.write import to_peft
from kronlit.methods.surm import Structure
from kronlit.structured import (
    LDR,
    PHM,
    BlockCirculant,
    Circulant,
    Dense,
    GatedKroneckers,
    KhatriRao,
    Kronecker,
    KroneckerSum,
    LowRank,
    Mixture,
    Monarch,
    SkewCirculant,
    StructuredLinear,
    SymmetricToeplitz,
    Toeplitz,
    ToeplitzProduct,
    first_step,
)


class Own(StructuredLinear):
    """A user's own matrix: constant along its rows, which start as 3."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.rows = nn.Parameter(torch.empty(out_features, 1))
        self.factor = nn.Parameter(torch.empty(1, in_features))
        self.reset_parameters()

    def forward(self, x):
        return x @ self.to_dense().T

    def to_dense(self):
        return self.rows @ self.factor

    def reset_parameters(self):
        nn.init.constant_(self.rows, 3.0)
        nn.init.zeros_(self.factor)


class PartlyFrozen(StructuredLinear):
    """A user's own matrix of low rank, whose outer factors are drawn and never trained."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.right = nn.Parameter(torch.empty(4, in_features), requires_grad=False)
        self.left = nn.Parameter(torch.empty(out_features, 4), requires_grad=False)
        self.middle = nn.Parameter(torch.empty(4, 1))
        self.rows = nn.Parameter(torch.empty(out_features, 1))
        self.reset_parameters()

    def forward(self, x):
        return x @ self.to_dense().T

    def to_dense(self):
        return self.rows * (self.left @ (self.middle * self.right))

    def reset_parameters(self):
        for factor in (self.right, self.left):
            nn.init.normal_(factor)
        nn.init.constant_(self.middle, 0.1)
        nn.init.zeros_(self.rows)


MATRICES = {
    "Kronecker": Kronecker,
    "Kronecker of SURM": partial(Kronecker, init="surm"),
    "Kronecker, tall": partial(Kronecker, a_shape=(32, 2)),
    "Kronecker, both drawn": partial(Kronecker, zero_start=False),
    "LowRank 1": partial(LowRank, rank=1),
    "LowRank 16": partial(LowRank, rank=16),
    "LowRank, Glorot": partial(LowRank, rank=4, init="glorot"),
    "Circulant": Circulant,
    "Circulant, Hadamard": partial(Circulant, hadamard=True, std=1.0),
    "SkewCirculant": SkewCirculant,
    "Toeplitz": Toeplitz,
    "SymmetricToeplitz": SymmetricToeplitz,
    "ToeplitzProduct": ToeplitzProduct,
    "LDR": LDR,
    "LDR 3": partial(LDR, rank=3),
    "PHM": partial(PHM, phm_dim=4),
    "Dense": Dense,
    "CDKA": KroneckerSum,
    "MoKA": GatedKroneckers,
    "C3A": BlockCirculant,
    "MoRe": Monarch,
    "KRAdapter": KhatriRao,
    "Mixture": partial(Mixture, expert=partial(LowRank, rank=4)),  # in evaluation: the mean of the experts
    "one's own": Own,
    "one's own, partly frozen": PartlyFrozen,
}
OTHERS = [(64, 64), (64, 128), (256, 64), (256, 256), (384, 1536), (768, 768), (1024, 256), (1024, 1024)]
SIZES = [(128, 64), *(pytest.param(*size, marks=pytest.mark.slow) for size in OTHERS)]
LR = 1e-5


def mean_square_step(layer, trained, lr=LR):
    """Mean square of what a step of torch's Adam adds to the matrix that `layer` applies, over that of `lr`."""
    layer.double().eval()
    identity = torch.eye(layer.in_features, dtype=torch.float64)
    before = layer(identity).detach()
    optimizer = torch.optim.Adam(trained, lr=lr)
    (layer(identity) * torch.randn_like(before)).sum().backward()
    optimizer.step()
    return ((layer(identity).detach() - before) / lr).square().mean().item()


@cache
def of_lora(in_features, out_features):
    """The root mean square over the starts of PEFT's LoRA, once for each size: of 64 starts it is known to 0.2 %."""
    torch.manual_seed(0)
    squares = []
    for _ in range(min(64, most_draws(in_features, out_features))):
        model = nn.Sequential(nn.Linear(in_features, out_features))
        model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["0"], lora_dropout=0.0))
        squares.append(mean_square_step(model.base_model.model[0], [p for p in model.parameters() if p.requires_grad]))
    return root_mean(squares)


def root_mean(values):
    return math.sqrt(sum(values) / len(values))


def most_draws(in_features, out_features):
    return min(256, max(8, 2**22 // (in_features * out_features)))


def is_known(squares):
    """Whether the standard error of the mean is below 1.5 %: a seventh of what the tests let pass."""
    return len(squares) >= 16 and statistics.stdev(squares) < 0.015 * statistics.fmean(squares) * len(squares) ** 0.5


@pytest.mark.parametrize(("in_features", "out_features"), SIZES)
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_the_first_step_is_that_of_lora(matrix, in_features, out_features):
    lora = of_lora(in_features, out_features)
    torch.manual_seed(1)
    moved = []
    while len(moved) < most_draws(in_features, out_features) and not is_known(moved):
        host = nn.Linear(in_features, out_features).requires_grad_(False)
        delta = Delta(host, in_features, out_features, matrix, "auto")
        moved.append(mean_square_step(delta, [p for p in delta.added() if p.requires_grad]))
    assert root_mean(moved) == pytest.approx(lora, rel=0.05)


@pytest.mark.parametrize("matrix", [Kronecker, LowRank, LDR])
def test_each_slice_of_a_stack_moves_as_far(matrix):
    slices = {"query": slice(0, 64), "value": slice(128, 192)}
    moved = {name: [] for name in slices}
    for _ in range(64):
        host = nn.Linear(64, 192).requires_grad_(False)
        delta = Delta(host, 64, 192, matrix, "auto", slices=slices).double()
        before = delta(torch.eye(64).double()).detach()
        mean_square_step(delta, list(delta.added()))
        step = (delta(torch.eye(64).double()).detach() - before) / LR
        for name, part in slices.items():
            moved[name].append(step[:, part].square().mean().item())
        assert not step[:, 64:128].any()
    lora = of_lora(64, 64)
    assert [root_mean(each) for each in moved.values()] == pytest.approx([lora, lora], rel=0.05)


def test_slices_of_several_heights_are_refused():
    slices = {"query": slice(0, 64), "value": slice(64, 80)}
    with pytest.raises(ValueError, match=r"`scale`='auto' is one number .* have \[16, 64\] rows: give a number"):
        Delta(nn.Linear(64, 80), 64, 80, Kronecker, "auto", slices=slices)


@pytest.mark.parametrize("branches", [1, 2])
def test_the_branches_of_krona_b_move_as_far_together(branches):
    moved, body = [], partial(KroneckerBranches, num_branches=branches, output_biases=1)
    for _ in range(24):
        host = nn.Linear(64, 64).requires_grad_(False)
        adapter = ParallelAdapter(host, 64, 64, body, "auto")
        moved.append(mean_square_step(adapter, [p for p in adapter.added() if p.ndim > 1]))
    assert root_mean(moved) == pytest.approx(of_lora(64, 64), rel=0.05)


@pytest.mark.parametrize("rank", [1, 8, 32])
def test_lora_of_rank_8_has_the_alpha_that_is_the_rule(rank, request):
    model = AutoModel.from_pretrained(request.getfixturevalue("wide_bert"))
    kronlit.inject(model, LoRA(rank=rank, alpha="auto"))
    for _, placement in placements(model):
        assert placement.scale == pytest.approx(2 * math.sqrt(8 / rank), rel=0.05 if rank > 1 else 0.12)


METHODS = {
    "KronA": KronA(scale="auto"),
    "KronAB": KronAB(scale="auto"),
    "LoRA": LoRA(rank=2, alpha="auto"),
    "Structured": Structured(matrix=LDR, scale="auto"),
    **{structure: SURM(structure=structure, scale="auto") for structure in get_args(Structure)},
}
both = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@pytest.fixture
def few_starts(monkeypatch):
    """Scales of few starts and a cache of their own, where what a scale is does not matter."""
    monkeypatch.setattr(first_step, "MOST", first_step.FEWEST)
    monkeypatch.setattr(first_step, "cached_rms", lru_cache(first_step.cached_rms.__wrapped__))


@both
@pytest.mark.usefixtures("few_starts")
def test_random_numbers_are_neither_used_nor_moved(method, request):
    def injected(method, seed):
        first_step.cached_rms.cache_clear()
        model = AutoModel.from_pretrained(request.getfixturevalue("tiny_bert"))
        torch.manual_seed(seed)
        kronlit.inject(model, method)
        sums = [value.sum().item() for value in model.parameters() if value.requires_grad]
        return [placement.scale for _, placement in placements(model)], sums, torch.rand(1).item()

    fixed = dataclasses.replace(method, **{"alpha" if isinstance(method, LoRA) else "scale": 1.0})
    one, other = injected(method, 0), injected(method, 1)
    assert one[0] == other[0]
    assert one[1:] == injected(fixed, 0)[1:]
    assert one[1:] != other[1:]


@both
@pytest.mark.usefixtures("few_starts")
def test_the_number_in_a_file_counts(method, request, tmp_path, monkeypatch):
    def model():
        return AutoModel.from_pretrained(request.getfixturevalue("tiny_bert"))

    trained = kronlit.inject(model(), method)
    for p in trained.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.1)
    ids = torch.arange(2, 12).view(2, 5)
    expected = trained.eval()(ids).last_hidden_state
    kronlit.save(trained, tmp_path / "adapter")
    scales = [placement.scale for _, placement in placements(trained)]
    monkeypatch.setattr(auto_scale, "scale_like_lora", lambda *_: 123.0)  # a version that computes another
    loaded = kronlit.load(tmp_path / "adapter", model())
    assert [placement.scale for _, placement in placements(loaded)] == scales
    torch.testing.assert_close(loaded(ids).last_hidden_state, expected)
    if not isinstance(method, KronAB):
        kronlit.merge(loaded)
        torch.testing.assert_close(loaded(ids).last_hidden_state, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("a_shape", [None, (8, 8), pytest.param((4, 4), marks=pytest.mark.slow)], ids=str)
def test_a_single_start_does_not_decide(a_shape, monkeypatch):
    """Of small factors the starts differ by tens of per cent; the scale does not, whatever the draws begin with."""
    seed = torch.default_generator.manual_seed
    scales = []
    for start in range(6):
        monkeypatch.setattr(torch, "default_generator", type("", (), {"manual_seed": lambda *_, s=start: seed(s)})())
        first_step.cached_rms.cache_clear()
        scales.append(first_step.scale_like_lora(partial(Kronecker, a_shape=a_shape), 256, 256))
    first_step.cached_rms.cache_clear()
    assert scales == pytest.approx([sum(scales) / 6] * 6, rel=0.05)


@both
@pytest.mark.usefixtures("few_starts")
def test_it_is_computed_once_for_all_sites(method, request, monkeypatch):
    found, real = [], first_step.first_step_rms
    monkeypatch.setattr(first_step, "first_step_rms", lambda *words: found.append(words) or real(*words))
    first_step.cached_rms.cache_clear()
    model = kronlit.inject(AutoModel.from_pretrained(request.getfixturevalue("tiny_bert")), method)
    assert len(list(placements(model))) > 1
    assert len(found) == 1


def test_other_arguments_have_a_scale_of_their_own():
    ranks = [first_step.scale_like_lora(partial(LowRank, rank=rank), 64, 64) for rank in (1, 16)]
    assert ranks[0] == pytest.approx(4 * ranks[1], rel=0.15)
    listed = first_step.scale_like_lora(partial(Kronecker, a_shape=[8, 4]), 64, 64)  # as a file has it
    assert listed == first_step.scale_like_lora(partial(Kronecker, a_shape=(8, 4)), 64, 64)


def test_the_random_numbers_of_gpus_are_left_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    first_step.first_step_rms(LowRank, 16, 16)
    assert not seeded


def test_a_model_may_be_made_without_gradients():
    with torch.inference_mode():
        inside = Delta(nn.Linear(16, 16), 16, 16, LowRank, "auto").scale
    first_step.cached_rms.cache_clear()
    assert inside == Delta(nn.Linear(16, 16), 16, 16, LowRank, "auto").scale


def test_the_number_is_not_rounded_with_the_model(monkeypatch):
    delta = Delta(nn.Linear(16, 16), 16, 16, Kronecker, "auto").bfloat16()
    scale = delta.scale
    monkeypatch.setattr(auto_scale, "scale_like_lora", lambda *_: 123.0)
    other = Delta(nn.Linear(16, 16), 16, 16, Kronecker, "auto").bfloat16()
    other.load_state_dict(delta.state_dict())
    assert other.scale == scale
    assert not [name for name, buffer in other.named_buffers() if buffer.dtype == torch.float64]


def test_a_state_without_the_number_is_told():
    delta = Delta(nn.Linear(16, 16), 16, 16, Kronecker, "auto")
    state = {name: tensor for name, tensor in delta.state_dict().items() if name != "auto_scale"}
    assert delta.load_state_dict(state, strict=False).missing_keys == ["auto_scale"]
    with pytest.raises(RuntimeError, match="auto_scale"):
        delta.load_state_dict(state)


def test_it_starts_from_a_lora_of_peft(request, tmp_path):
    path, ids = request.getfixturevalue("tiny_bert"), torch.arange(2, 12).view(2, 5)
    config = peft.LoraConfig(r=2, lora_alpha=10, target_modules=["query", "value"], init_lora_weights=False)
    theirs = peft.get_peft_model(AutoModel.from_pretrained(path), config).eval()
    theirs.save_pretrained(tmp_path / "peft")
    method = LoRA(rank=2, alpha="auto", trains=())
    ours = kronlit.inject(AutoModel.from_pretrained(path), method).eval()
    scales = [placement.scale for _, placement in placements(ours)]
    init_adapter(ours, method, str(tmp_path / "peft"))
    assert [placement.scale for _, placement in placements(ours)] == scales
    torch.testing.assert_close(ours(ids).last_hidden_state, theirs(ids).last_hidden_state)


def test_peft_opens_it(request, tmp_path):
    path = request.getfixturevalue("tiny_bert")
    trained = kronlit.inject(AutoModel.from_pretrained(path), LoRA(rank=2, alpha="auto"))
    for p in trained.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.1)
    ids = torch.arange(2, 12).view(2, 5)
    (tmp_path / "peft").mkdir()
    to_peft(trained, str(path)).write(tmp_path / "peft", {})
    theirs = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(path), tmp_path / "peft").eval()
    torch.testing.assert_close(theirs(ids).last_hidden_state, trained.eval()(ids).last_hidden_state)


def test_a_matrix_that_does_not_move_is_named():
    class Still(Own):
        def reset_parameters(self):
            nn.init.zeros_(self.rows)
            nn.init.zeros_(self.factor)

    with pytest.raises(ValueError, match=r"`scale`='auto' needs a matrix that Adam's first step moves"):
        Delta(nn.Linear(8, 8), 8, 8, Still, "auto")


@pytest.mark.parametrize("method", [KronA, KronAB, SURM, Structured])
def test_another_word_is_refused(method, request):
    model = AutoModel.from_pretrained(request.getfixturevalue("tiny_bert"))
    with pytest.raises(ValueError, match=r"`scale`='atuo' must be a number or auto"):
        kronlit.inject(model, method(scale="atuo"))


def test_another_word_as_alpha_is_refused():
    with pytest.raises(ValueError, match=r"^`alpha`='atuo' must be a number or auto\.$"):
        LoRA(alpha="atuo")
