"""The structures of 2023 to 2026 against their definitions, written out by hand, and their published counts."""

import math
from functools import partial

import peft
import pytest
import scipy.linalg
import torch
from peft import C3AConfig, LoHaConfig, OFTConfig
from torch import nn

from kronlit.adapters import Delta
from kronlit.structured import (
    BlockCirculant,
    BlockOrthogonal,
    GatedKroneckers,
    KhatriRao,
    KroneckerSum,
    LowRankHadamard,
    Monarch,
    TensorCircuit,
)

COUNTS = {  # trained numbers for one 768 x 768 layer, as the papers have them
    "CDKA": (KroneckerSum, 12_288),
    "C3A": (BlockCirculant, 768),
    "C3A, blocks of 128": (partial(BlockCirculant, block_size=128), 768 * 768 // 128),
    "KRAdapter": (KhatriRao, 43_008),
    "ABBA": (LowRankHadamard, 2 * 16 * (768 + 768)),  # as LoRA of rank 32
    "MoRe": (Monarch, 6_144),
    "OFT": (BlockOrthogonal, 11_904),
    "MoKA": (GatedKroneckers, 4 * (768 + 768) + 4),  # ours: two factors of 768 numbers each, and the gate
}


def random_(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.double()


@pytest.mark.parametrize(("matrix", "count"), COUNTS.values(), ids=COUNTS)
def test_counts_are_the_published_ones(matrix, count):
    assert sum(p.numel() for p in matrix(768, 768).parameters()) == count


@pytest.mark.parametrize(("r", "r1", "r2"), [(8, 2, 2), (3, 4, 1), (1, 1, 6)])
def test_cdka_is_the_scaled_sum_of_its_products(r, r1, r2):
    w = random_(KroneckerSum(12, 8, r, r1, r2, alpha=5.0))
    assert (tuple(w.b[0].shape), tuple(w.a[0].shape)) == ((8 // r1, r2), (r1, 12 // r2))
    expected = 5 / math.sqrt(r * r2) * sum(torch.kron(w.b[i], w.a[i]) for i in range(r))
    x = torch.randn(3, 12, dtype=torch.float64)
    torch.testing.assert_close(w(x), x @ expected.T)


def test_cdka_starts_kaiming_uniform_by_component():
    a = KroneckerSum(2048, 64).a
    bound = 1024**-0.5  # a = √5: 1 / √(columns)
    assert a.abs().max() <= bound
    torch.testing.assert_close(a.std().item(), bound / 3**0.5, rtol=0.05, atol=0)


@pytest.mark.parametrize("shape", [(12, 12), (12, 8), (8, 12), (5, 40)])
def test_a_khatri_rao_product_has_the_products_of_columns(shape):
    rows, columns = shape
    w = random_(KhatriRao(columns, rows))
    few, many = min(shape), max(shape)
    rho = math.isqrt(few)
    delta = next(d for d in range(1000) if rho * (rho + d) >= many)
    assert (tuple(w.u.shape), tuple(w.v.shape)) == ((rho, few), (rho + delta, few))
    product = 2 * torch.einsum("ik,jk->ijk", w.u, w.v).reshape(-1, few)[:many]
    expected = product if rows >= columns else product.T
    x = torch.randn(3, columns, dtype=torch.float64)
    torch.testing.assert_close(w(x), x @ expected.T)


def test_a_khatri_rao_product_starts_as_the_paper_has_it():
    v = KhatriRao(1024, 1024).v
    assert v.abs().max() <= 1024**-0.5
    torch.testing.assert_close(v.std().item(), 1024**-0.5 / 3**0.5, rtol=0.05, atol=0)


def test_a_khatri_rao_product_keeps_nothing_but_the_input():
    w, x, kept = KhatriRao(768, 768), torch.randn(50, 768, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        w(x)
    assert sorted(kept) == sorted([27 * 768, 29 * 768, x.numel()])


@pytest.mark.parametrize(("k", "rank"), [(4, 4), (2, 3), (4, 1), (1, 5)])
def test_a_monarch_matrix_is_the_product_of_its_four(k, rank):
    w = random_(Monarch(8, 12, k, rank))

    def transposition(rows, columns):
        """What reads `rows * columns` numbers as a matrix and writes its transpose."""
        p = torch.zeros(rows * columns, rows * columns, dtype=torch.float64)
        for i in range(rows):
            for j in range(columns):
                p[j * rows + i, i * columns + j] = 1
        return p

    first = torch.from_numpy(scipy.linalg.block_diag(*w.a.detach().numpy()))
    last = torch.from_numpy(scipy.linalg.block_diag(*w.b.detach().numpy()))
    expected = transposition(k, 12 // k) @ last @ transposition(rank, k) @ first
    x = torch.randn(3, 8, dtype=torch.float64)
    torch.testing.assert_close(w(x), x @ expected.T)


def test_a_gated_sum_weighs_its_products_by_a_softmax():
    w = random_(GatedKroneckers(12, 8, ((2, 3), (4, 1), (8, 12))))
    g = torch.exp(w.gate) / torch.exp(w.gate).sum()
    expected = sum(g[i] * torch.kron(getattr(w, f"a{i}"), getattr(w, f"b{i}")) for i in range(3))
    x = torch.randn(3, 12, dtype=torch.float64)
    torch.testing.assert_close(w(x), x @ expected.T)


def peft_layer(config, in_features, out_features):
    """PEFT's layer in place of a linear one without a bias, in float64 where PEFT takes it."""
    model = nn.Sequential(nn.Linear(in_features, out_features, bias=False))
    return peft.inject_adapter_in_model(config, model)[0]


@pytest.mark.parametrize("shape", [(12, 12, 12), (12, 12, 4), (12, 8, 4), (8, 12, 2), (7, 7, 7), (400, 200, 200)])
def test_c3a_is_that_of_peft(shape):
    in_features, out_features, block = shape
    layer = peft_layer(C3AConfig(target_modules=["0"], block_size=block), in_features, out_features)
    w = BlockCirculant(in_features, out_features, block)
    nn.init.normal_(w.kernel)
    layer.c3a_kernel["default"].data.copy_(w.kernel.data)
    x = torch.randn(3, in_features, requires_grad=True)
    theirs, ours = layer(x) - layer.base_layer(x), w(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(w.to_dense(), layer.get_delta_weight("default"), rtol=1e-4, atol=1e-5)
    dy = torch.randn_like(ours)
    (theirs,) = torch.autograd.grad(theirs, layer.c3a_kernel["default"], dy)
    of_x, of_kernel = torch.autograd.grad(ours, (x, w.kernel), dy)
    torch.testing.assert_close(of_kernel, theirs, rtol=1e-4, atol=1e-4)
    # That of the input, PEFT 0.21 correlates where it should convolve: it is not the transpose of its own forward.
    torch.testing.assert_close(of_x, dy @ layer.get_delta_weight("default"), rtol=1e-4, atol=1e-4)


def test_c3a_starts_as_that_of_peft():
    theirs = peft_layer(C3AConfig(target_modules=["0"], block_size=512), 1024, 512).c3a_kernel["default"]
    ours = BlockCirculant(1024, 512).kernel
    bound = math.sqrt(6 / 1536)
    for kernel in (theirs, ours):
        assert kernel.shape == (1, 2, 512)
        assert 0.98 * bound < kernel.abs().max() <= bound


@pytest.mark.parametrize("neumann", [None, 4, 5, 7])
def test_oft_is_that_of_peft(neumann):
    options = {"use_cayley_neumann": neumann is not None, "num_cayley_neumann_terms": neumann or 5}
    layer = peft_layer(OFTConfig(target_modules=["0"], oft_block_size=4, **options), 12, 8)
    w = BlockOrthogonal(12, 12, 4, neumann)
    nn.init.normal_(w.q, std=0.2)
    # PEFT multiplies rows from the left, and its two parametrisations have opposite signs.
    layer.oft_R["default"].weight.data.copy_(w.q.data if neumann is None else -w.q.data)
    x = torch.randn(3, 12)
    torch.testing.assert_close(layer.base_layer(w(x)), layer(x))


@pytest.mark.parametrize("size", [2, 5, 32])
def test_a_cayley_transform_is_orthogonal_and_the_series_near_it(size):
    exact, series = (BlockOrthogonal(4 * size, 4 * size, size, terms).double() for terms in (None, 8))
    nn.init.normal_(exact.q, std=0.05 / size**0.5)
    series.q.data.copy_(exact.q.data)
    R, Q = exact.to_dense(), torch.zeros(size, size, dtype=torch.float64)
    torch.testing.assert_close(R @ R.T, torch.eye(4 * size, dtype=torch.float64))
    Q[torch.triu_indices(size, size, 1).unbind()] = exact.q[0].detach()
    Q -= Q.T.clone()
    eye = torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(R[:size, :size], (eye + Q) @ torch.linalg.inv(eye - Q))
    torch.testing.assert_close(series.to_dense(), R, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 12), (12, 8), (400, 300)])  # the last by two thin products, beside a weight too
def test_abba_is_the_loha_of_peft(shape):
    in_features, out_features = shape
    layer = peft_layer(LoHaConfig(target_modules=["0"], r=3, alpha=6.0, init_weights=False), in_features, out_features)
    ours = Delta(layer.base_layer, in_features, out_features, partial(LowRankHadamard, rank1=3, rank2=3, alpha=2.0))
    theirs = [getattr(layer, f"hada_w{name}")["default"] for name in ("1_a", "1_b", "2_a", "2_b")]
    own = [getattr(ours.matrix, name) for name in ("b1", "a1", "b2", "a2")]
    for one, other in zip(own, theirs, strict=True):
        nn.init.normal_(other, std=0.3)
        one.data.copy_(other.data)
    assert (ours.matrix.summand() is None) == (in_features == 400)
    x = torch.randn(5 * in_features, in_features, requires_grad=True)
    torch.testing.assert_close(ours(x), layer(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.matrix.to_dense(), layer.get_delta_weight("default"), rtol=1e-4, atol=1e-5)
    dy = torch.randn(len(x), out_features) / len(x)
    found, expected = torch.autograd.grad(ours(x), own, dy), torch.autograd.grad(layer(x), theirs, dy)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_abba_starts_from_the_best_approximation_of_its_weight():
    host = nn.Linear(60, 40)
    u, _ = torch.linalg.qr(torch.randn(40, 40))
    v, _ = torch.linalg.qr(torch.randn(60, 40))
    host.weight.data = u * torch.logspace(0, -12, 40) @ v.T
    w = Delta(host, 60, 40, partial(LowRankHadamard, rank1=3, rank2=4)).matrix
    left, s, right = torch.linalg.svd(host.weight.data)
    best = left[:, :3] * s[:3] @ right[:3]
    torch.testing.assert_close(w.b1 @ w.a1, best, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(w.b1.norm(dim=0), w.a1.norm(dim=1))
    assert not w.to_dense().any()
    # Of the half, whose singular values fall less steeply, the power iteration finds it less exactly
    halves = {"query": slice(0, 20), "value": slice(20, 40)}
    parts = Delta(host, 60, 40, partial(LowRankHadamard, rank1=3, rank2=4), slices=halves).matrix
    lower = torch.linalg.svd(host.weight.data[20:])
    best = lower[0][:, :3] * lower[1][:3] @ lower[2][:3]
    torch.testing.assert_close(parts.value.b1 @ parts.value.a1, best, rtol=0, atol=1e-3)


@pytest.mark.parametrize("tokens", [2, 40])  # matrix by matrix, and formed
def test_quanta_is_the_product_of_its_tensors(tokens):
    w = TensorCircuit(24, 24, axes=(2, 3, 4)).double()
    start = w.to_dense()
    x = torch.randn(tokens, 24, dtype=torch.float64)

    def contracted():
        """The authors' expression: of axes (-1, -2), (-1, -3), (-2, -3), each tensor with the earlier axis first."""
        g = {pair: getattr(w, f"gate{pair[0]}_{pair[1]}") for pair in ((1, 2), (0, 2), (0, 1))}
        g = {(i, j): gate.reshape(*[w.axes[i], w.axes[j]] * 2) for (i, j), gate in g.items()}
        y = torch.einsum("tabc,BCbc->taBC", x.reshape(-1, 2, 3, 4), g[1, 2])
        y = torch.einsum("tabc,ACac->tAbC", y, g[0, 2])
        return torch.einsum("tabc,ABab->tABc", y, g[0, 1]).reshape(-1, 24)

    before = contracted()
    for gate in w.gates():
        nn.init.normal_(gate)
    torch.testing.assert_close(w(x), contracted() - before)
    assert not start.any()


def test_quanta_has_the_published_count_on_llama_2():
    # 0.041 % of the 6.74 billion of Llama-2-7B: query and value of 32 layers, axes 16-8-8-4
    count = sum(p.numel() for p in TensorCircuit(4096, 4096, axes=(16, 8, 8, 4)).parameters())
    assert round(100 * 64 * count / 6.738e9, 3) == 0.041
