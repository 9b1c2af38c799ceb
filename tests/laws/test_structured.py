"""Laws of every structured matrix that a walk of the package finds, and each one's own oracle."""

import importlib
import inspect
import pkgutil
from functools import partial

import pytest
import scipy.linalg
import torch
from torch.utils.flop_counter import FlopCounterMode

import kronlit.structured
from kronlit.structured import (
    LDR,
    PHM,
    BlockCirculant,
    BlockOrthogonal,
    Circulant,
    Dense,
    GatedKroneckers,
    KhatriRao,
    Kronecker,
    KroneckerSum,
    LowRank,
    LowRankHadamard,
    Mixture,
    Monarch,
    SkewCirculant,
    Stacked,
    StructuredLinear,
    SymmetricToeplitz,
    TensorCircuit,
    Toeplitz,
    ToeplitzProduct,
    WeightedSum,
)
from kronlit.structured.fastfood import Fastfood, walsh_hadamard
from kronlit.structured.kronecker import applies_b_first, balanced_shape


def in_evaluation(matrix):
    """Mixtures are maps in evaluation; in training they draw."""
    return lambda *widths: matrix(*widths).eval()


def by_fft(matrix):
    """Small matrices are applied as dense ones, unless they are told otherwise."""

    def make(*widths):
        w = matrix(*widths)
        w.dense_below = 0
        return w

    return make


MATRICES = {
    "Dense": Dense,
    "LowRank": partial(LowRank, rank=3),
    "LowRank, glorot": partial(LowRank, rank=3, init="glorot"),
    "PHM": PHM,
    "PHM, low rank": partial(PHM, phm_dim=2, rank=3),
    "PHM, shared rule": partial(PHM, rank=1, shared_rule=True),
    "Mixture": in_evaluation(partial(Mixture, expert=partial(LowRank, rank=3))),
    "Mixture, shared": in_evaluation(partial(Mixture, expert=Kronecker, num_experts=3, shared=("b",))),
    "Mixture, of one": partial(Mixture, expert=Kronecker, num_experts=1),
    "Stacked": partial(Stacked, matrix=Kronecker, slices={"first": slice(0, 4), "last": slice(8, 12)}),
    "Stacked, of mixtures": in_evaluation(
        partial(Stacked, matrix=partial(Mixture, expert=Kronecker), slices={"last": slice(6, 12), "first": slice(0, 6)})
    ),
    "Kronecker": Kronecker,
    "Kronecker, tall A": partial(Kronecker, a_shape=(12, 1)),
    "Kronecker, wide A": partial(Kronecker, a_shape=(1, 8)),
    "Kronecker, A alone": partial(Kronecker, a_shape=(12, 8)),
    "Kronecker, of SURM": partial(Kronecker, init="surm"),
    "KroneckerSum": KroneckerSum,
    "KroneckerSum, other shapes": partial(KroneckerSum, num_components=3, r1=3, r2=4, alpha=2.0),
    "GatedKroneckers": GatedKroneckers,
    "KhatriRao": KhatriRao,
    "LowRankHadamard": partial(LowRankHadamard, rank1=3, rank2=2),
    "TensorCircuit": TensorCircuit,
    "TensorCircuit, two axes": partial(TensorCircuit, axes=(2, 6)),
    "Monarch": Monarch,
    "Monarch, other blocks": partial(Monarch, num_blocks=2, rank=3),
    "BlockCirculant": BlockCirculant,
    "BlockCirculant, by FFT": by_fft(BlockCirculant),
    "BlockCirculant, of two": by_fft(partial(BlockCirculant, block_size=2)),
    "BlockOrthogonal": partial(BlockOrthogonal, block_size=4),
    "BlockOrthogonal, Neumann": partial(BlockOrthogonal, block_size=4, neumann_terms=5),
    "Circulant": Circulant,
    "Circulant, by FFT": by_fft(Circulant),
    "Circulant, Hadamard": by_fft(partial(Circulant, hadamard=True)),
    "SkewCirculant": SkewCirculant,
    "SkewCirculant, by FFT": by_fft(SkewCirculant),
    "Toeplitz": Toeplitz,
    "Toeplitz, by FFT": by_fft(Toeplitz),
    "SymmetricToeplitz": SymmetricToeplitz,
    "SymmetricToeplitz, Hadamard, by FFT": by_fft(partial(SymmetricToeplitz, hadamard=True)),
    "ToeplitzProduct": ToeplitzProduct,
    "LDR": partial(LDR, rank=3),
    "WeightedSum": partial(
        WeightedSum, matrices=[Kronecker, partial(LowRank, rank=2), Circulant], weights=[0.5, -2, 1]
    ),
    "WeightedSum, of thin ones": partial(WeightedSum, matrices=[partial(LowRank, rank=2), KroneckerSum]),
    "Mixture, of circulants": in_evaluation(partial(Mixture, expert=partial(Circulant, hadamard=True))),
}
every = pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)


def random_(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def test_every_structure_of_the_package_is_under_test():
    for info in pkgutil.iter_modules(kronlit.structured.__path__):
        importlib.import_module(f"kronlit.structured.{info.name}")
    found = {cls.__name__ for cls in StructuredLinear.__subclasses__() if cls.__module__.startswith("kronlit.")}
    assert found == {name.split(",")[0] for name in MATRICES}


@every
@pytest.mark.parametrize("leading", [(), (5,), (2, 0), (2, 3, 4)], ids=str)
def test_forward_is_multiplication_by_the_dense_matrix(matrix, leading):
    w = random_(matrix(8, 12)).double()
    x = torch.randn(*leading, 8, dtype=torch.float64)
    torch.testing.assert_close(w(x), x @ w.to_dense().T)


@every
@pytest.mark.matrix  # `check_structure` holds all these matrices to it by default, in test_testing.py
def test_gradients_are_those_of_finite_differences(matrix):
    w = random_(matrix(8, 12)).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    names, values = zip(*w.named_parameters(), strict=True)

    def call(x, *values):
        return torch.func.functional_call(w, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *values))


@every
def test_an_input_that_is_not_contiguous_gives_the_same(matrix):
    w = random_(matrix(8, 12)).double()
    x = torch.randn(8, 3, 5, dtype=torch.float64).movedim(0, -1)
    torch.testing.assert_close(w(x), w(x.contiguous()))


@every
def test_autocast_computes_in_bfloat16_and_keeps_float32_gradients(matrix):
    w = random_(matrix(8, 12))
    x = torch.randn(4, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = w(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 for p in w.parameters())
    expected = x @ w.to_dense().T
    torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.02 * expected.abs().max().item())


@every
def test_a_bfloat16_input_stays_bfloat16(matrix):
    assert matrix(8, 12)(torch.randn(4, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@every
def test_widths_are_kept_and_documented(matrix):
    w = matrix(8, 12)
    assert (w.in_features, w.out_features) == (8, 12)
    assert "Args:" in inspect.getdoc(type(w))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Kronecker(8, 12, (5, 2)), r"`a_shape`=\(5, 2\) must divide the map's shape \(12, 8\)"),
        (lambda: Kronecker(8, 12, (0, 2)), r"`a_shape`=\(0, 2\)"),
        (lambda: LowRank(8, 12, 9), "`rank`=9 must lie between 1 and 8"),
        (lambda: LowRank(8, 12, 0), "`rank`=0"),
        (lambda: Dense(0, 12), "positive widths"),
        (lambda: PHM(8, 12, 3), r"`phm_dim`=3 must divide the map's shape \(12, 8\)"),
        (lambda: PHM(8, 12, 0), "`phm_dim`=0"),
        (lambda: PHM(8, 12, rank=0), "`rank`=0 must be at least 1"),
        (lambda: LDR(8, 12, rank=0), "`rank`=0 must be at least 1"),
        (lambda: KroneckerSum(8, 12, r1=5), "`r1`=5 must divide the output's width, 12"),
        (lambda: KroneckerSum(9, 12), "`r2`=2 must divide the input's width, 9"),
        (lambda: KroneckerSum(8, 12, num_components=0), "`num_components`=0 must be at least 1"),
        (lambda: GatedKroneckers(8, 12, ((5, 2),)), r"`a_shapes` has \(5, 2\), which must divide \(12, 8\)"),
        (lambda: GatedKroneckers(8, 12, ()), r"`a_shapes`=\(\) must name"),
        (lambda: LowRankHadamard(8, 12, 4, 9), "`rank2`=9 must lie between 1 and 8"),
        (lambda: LowRankHadamard(8, 12, rank1=0), "`rank1`=0"),
        (lambda: TensorCircuit(8, 12, (4, 2)), r"`axes`=\(4, 2\) must be two or more whose product is .*, 12"),
        (lambda: TensorCircuit(8, 12, (12,)), r"`axes`=\(12,\)"),
        (lambda: Mixture(8, 12, TensorCircuit), "experts that keep start2_3 beside .* cannot be mixed"),
        (lambda: Monarch(8, 12, num_blocks=3), r"`num_blocks`=3 must divide the map's shape \(12, 8\)"),
        (lambda: Monarch(8, 12, rank=0), "`rank`=0 must be at least 1"),
        (lambda: BlockCirculant(8, 12, 3), "`block_size`=3 must divide both widths, 12 and 8, as 4 does"),
        (lambda: BlockOrthogonal(8, 12), "`block_size`=32 must be at least 2 and divide the larger width, 12"),
        (lambda: BlockOrthogonal(8, 12, 4, neumann_terms=1), "`neumann_terms`=1 must be at least 2"),
        (lambda: Stacked(8, 12, Dense, {"a": slice(0, 7), "b": slice(6, 12)}), "`slices`=.* each of them once"),
        (lambda: Stacked(8, 12, Dense, {}), "`slices`={} must name rows of 12"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def kron_by_hand(a, b):
    return torch.stack([torch.cat([a[i, j] * b for j in range(a.shape[1])], 1) for i in range(a.shape[0])]).flatten(
        0, 1
    )


def test_kronecker_is_the_block_matrix_of_its_definition():
    w = random_(Kronecker(8, 12, (3, 4)))
    torch.testing.assert_close(w.to_dense(), kron_by_hand(w.a, w.b))


def test_kronecker_keeps_no_activation_but_its_input():
    w, x, kept = random_(Kronecker(768, 768)), torch.randn(50, 768, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        w(x)
    assert sorted(kept) == [768, 768, x.numel()]


@pytest.mark.parametrize(
    ("a_shape", "b_first"),
    # Multiply-adds a token of the two orders, counted by hand: 32*32*(24+24) > 24*24*(32+32); 2*2*768 < 384*384*4.
    [((24, 32), False), ((32, 24), True), ((384, 2), True), ((2, 384), False)],
)
def test_kronecker_contracts_in_the_cheaper_order(a_shape, b_first):
    w, x = Kronecker(768, 768, a_shape), torch.randn(5, 768, requires_grad=True)
    assert applies_b_first(w.a, w.b) == b_first
    (a1, a2), (b1, b2) = w.a.shape, w.b.shape
    cheaper = a2 * b1 * (b2 + a1) if b_first else a1 * b2 * (a2 + b1)  # multiply-adds a token, two flops each
    with FlopCounterMode(display=False) as forward:
        y = w(x)
    assert forward.get_total_flops() == 2 * 5 * cheaper
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    # Again what is not kept, then for each of the two products the gradients of both its operands
    again = a2 * b1 * b2 if b_first else a1 * a2 * b2
    assert backward.get_total_flops() == 2 * 5 * (2 * cheaper + again)


@pytest.mark.parametrize("shape", [(768, 768), (1024, 1024), (384, 512), (7, 5), (1, 1)])
def test_the_balanced_shape_has_fewest_parameters_and_then_highest_rank(shape):
    rows, columns = shape
    best = min(
        (a1 * a2 + rows // a1 * (columns // a2), -min(a1, a2) * min(rows // a1, columns // a2))
        for a1 in range(1, rows + 1)
        for a2 in range(1, columns + 1)
        if rows % a1 == 0 and columns % a2 == 0
    )
    w = Kronecker(columns, rows, balanced_shape(rows, columns))
    rank = torch.linalg.matrix_rank(random_(w).double().to_dense()).item()
    assert (sum(p.numel() for p in w.parameters()), -rank) == best


def test_kronecker_starts_as_the_paper_has_it():
    # Kaiming-uniform with a=√5 on the paper's A_k = Aᵀ, (a1, a2): uniform in ±1/√a2, which is our number of rows.
    w = Kronecker(4096, 4096, (16, 64))
    bound = 16**-0.5
    assert w.a.abs().max() <= bound
    assert w.a.abs().max() > 0.98 * bound
    torch.testing.assert_close(w.a.std().item(), bound / 3**0.5, rtol=0.05, atol=0)


@pytest.mark.parametrize("rank", [None, 1, 3])
def test_phm_is_the_papers_sum_on_rows(rank):
    # Equation 4 in the paper's own order, y = x H and H = sum of A_i ⊗ B_i, of our factors' transposes
    w, x = random_(PHM(8, 12, phm_dim=2, rank=rank)).double(), torch.randn(5, 8, dtype=torch.float64)
    b = w.b if rank is None else [w.s[i] @ w.t[i] for i in range(2)]
    h = kron_by_hand(w.rule[0].T, b[0].T) + kron_by_hand(w.rule[1].T, b[1].T)
    assert h.shape == (8, 12)
    torch.testing.assert_close(w(x), x @ h)


def test_phm_keeps_no_activation_but_its_input():
    w, x, kept = PHM(768, 24), torch.randn(5000, 768, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        w(x)
    assert sorted(n for n in kept if n > 768 * 24) == [x.numel()]


def test_low_rank_starts_as_the_papers_code_has_it():
    w = LowRank(4096, 64, rank=16)
    torch.testing.assert_close(w.a.std().item(), 4096**-0.5 / 3**0.5, rtol=0.05, atol=0)


def test_walsh_hadamard_is_scipys():
    x = torch.randn(64, dtype=torch.float64)
    torch.testing.assert_close(walsh_hadamard(x), torch.from_numpy(scipy.linalg.hadamard(64).astype(float)) @ x)


@pytest.mark.parametrize(("columns", "rows"), [(5, 16), (16, 5), (7, 7), (1, 1), (3, 40)])
def test_fastfood_is_the_product_of_its_definition(columns, rows):
    projection, x = Fastfood(columns, rows, seed=3), torch.randn(columns, dtype=torch.float64, requires_grad=True)
    signs, permutation, normal = (factor.double() for factor in projection._draw(x.device))
    n = len(signs)
    h = torch.from_numpy(scipy.linalg.hadamard(n).astype(float))
    p = h @ torch.diag(normal) @ torch.eye(n, dtype=torch.float64)[permutation.long()] @ h @ torch.diag(signs)
    torch.testing.assert_close(projection(x), p[:rows, :columns] @ x)
    assert torch.autograd.gradcheck(projection, x)
    assert torch.equal(projection(x), Fastfood(columns, rows, seed=3)(x))
    assert rows == 1 or not torch.equal(projection(x), Fastfood(columns, rows, seed=4)(x))


@pytest.mark.parametrize("rows", [500, 5000])
def test_fastfood_keeps_norms(rows):
    x = torch.randn(2000)
    torch.testing.assert_close(Fastfood(2000, rows)(x).norm(), x.norm(), rtol=0.1, atol=0)


def test_dense_starts_normal_where_asked():
    torch.testing.assert_close(Dense(300, 300, std=0.01).weight.std().item(), 0.01, rtol=0.05, atol=0)
