"""How every parameter starts: the papers' distributions, on a layer of their width."""

import copy
import math
import re
from functools import cache, partial

import pytest
import torch
from scipy import stats
from test_adapters import added
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

import kronlit
from kronlit import (
    OFT,
    PA,
    SURM,
    AdaMix,
    AdaMixKronA,
    AdaMixLoRA,
    AdapterDrop,
    Compacter,
    CompacterPP,
    DoRA,
    HiRA,
    Houlsby,
    IntrinsicSAID,
    KronA,
    KronAB,
    KronABRes,
    LiST,
    LoRA,
    LowRankAdapter,
    Pfeiffer,
    PHMAdapter,
    PromptTuning,
    Structured,
    SURMAdapter,
)
from kronlit.structured import LDR


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


def normal(std):
    return stats.norm(0, std)


def kaiming(fan):
    """`kaiming_uniform_(a=√5)`: ± 1/√fan."""
    return uniform(1 / math.sqrt(fan))


def glorot(rows, columns):
    """Xavier-uniform with gain √2: ± √2 √(6 / (rows + columns))."""
    return uniform(math.sqrt(2) * math.sqrt(6 / (rows + columns)))


DENSE = {"down.weight": normal(0.01), "up.weight": normal(0.01), "down_bias": 0, "up_bias": 0}
COMPACTER = {
    # Edalati's and Mahabadi's own: rule N(0, 1e-4) where it is shared; each slice of s and t Glorot, gain √2, n = 4
    "rule": normal(1e-4),
    "down.s": glorot(24 // 4, 1),
    "down.t": glorot(1, 768 // 4),
    "up.s": glorot(768 // 4, 1),
    "up.t": glorot(1, 24 // 4),
    "down_bias": 0,
    "up_bias": 0,
}
# Edalati et al., appendix B.1: Kaiming-uniform on the paper's A_k, (32, 24), so ± 1/√24; B zero
BRANCHES = {r"branches.\d.a": kaiming(24), r"branches.\d.b": 0, r"output_bias.\d": 0}
START = [
    (KronA(), {"matrix.a": kaiming(24), "matrix.b": 0}),
    (KronA(a_shape=(2, 384)), {"matrix.a": kaiming(384), "matrix.b": 0}),
    (KronAB(), BRANCHES),
    (KronAB(num_biases=2, bias_per="module"), BRANCHES | {r"inner_bias.\d": 0}),
    (KronABRes(), BRANCHES | {"residual_scale": 1}),
    (KronABRes(residual_scale=0.5), BRANCHES | {"residual_scale": 0.5}),
    (LoRA(), {"matrix.a": kaiming(768), "matrix.b": 0}),
    # LiST's code: both projections N(0, 0.02)
    (LiST(), {"body.a": normal(0.02), "body.b": normal(0.02)}),
    (
        AdaMix(),  # Transformers' own initialisation, which the authors' code runs over all linear modules
        {"down.weight": normal(0.02), "up.weight": normal(0.02), "down.bias": 0, "up_bias": 0},
    ),
    (AdaMixLoRA(), {"matrix.a": kaiming(768), "matrix.b": 0}),
    (AdaMixKronA(), {"matrix.a": kaiming(24), "matrix.b": 0}),
    # SURM's code, src/lora and src/adapter: its Kronecker A is our right factor, (32, 24), Kaiming over its columns
    (SURM(), {"matrix.a": normal(1), "matrix.b": 0}),
    (SURM(std=0.02), {"matrix.a": normal(0.02), "matrix.b": 0}),
    (SURM(variant="single", sites=("key",)), {"matrix.a": 0}),
    (SURM(variant="single", scale="trained"), {"matrix.a": normal(1), "scale": 0}),
    (SURM(structure="toeplitz"), {"matrix.a": normal(0.02), "matrix.b": 0}),
    (SURM(structure="toeplitz", scale="trained"), {"matrix.a": normal(0.02), "matrix.b": normal(0.02), "scale": 0}),
    (SURM(structure="toeplitz", variant="hadamard"), {"matrix.a": normal(0.02), "matrix.b": 0}),
    (SURM(structure="toeplitz", variant="general"), {"matrix.column": 0, "matrix.row": 0}),
    (SURM(structure="kronecker"), {"matrix.a": 0, "matrix.b": kaiming(24)}),
    (SURM(structure="kronecker", a_shape=(8, 96)), {"matrix.a": 0, "matrix.b": kaiming(96)}),
    (SURM(structure="kronecker", scale="trained"), {"matrix.a": kaiming(32), "matrix.b": kaiming(24), "scale": 0}),
    (SURM(structure="ldr", rank=2), {"matrix.g": 0, "matrix.h": normal(0.02)}),
    (SURM(structure="ldr", scale="trained"), {"matrix.g": normal(0.02), "matrix.h": normal(0.02), "scale": 0}),
    (Structured(matrix=partial(LDR, rank=2)), {"matrix.g": 0, "matrix.h": normal(0.02)}),
    (SURMAdapter(), {"matrix.a": normal(0.02), "matrix.b": 0, "body.bias": 0}),
    (SURMAdapter(variant="single"), {"matrix.a": 0, "body.bias": 0}),
    (SURMAdapter(structure="toeplitz"), {"matrix.a": normal(0.02), "matrix.b": 0, "body.bias": 0}),
    (SURMAdapter(structure="kronecker"), {"matrix.a": 0, "matrix.b": normal(0.02), "body.bias": 0}),
    (SURMAdapter(structure="ldr", std=0.1), {"matrix.g": 0, "matrix.h": normal(0.1), "body.bias": 0}),
    (Houlsby(), DENSE),
    (Pfeiffer(), DENSE),
    (AdapterDrop(first_layer=1), DENSE),
    (PA(), {"down.weight": kaiming(768), "up.weight": 0, "down_bias": 0, "up_bias": 0}),
    (Compacter(), COMPACTER),
    (CompacterPP(), COMPACTER),
    (
        PHMAdapter(phm_dim=12),
        {
            "rule": normal(0.01),
            "down.b": glorot(24 // 12, 768 // 12),
            "up.b": glorot(768 // 12, 24 // 12),
            "down_bias": 0,
            "up_bias": 0,
        },
    ),
    (
        LowRankAdapter(),
        {
            "down.a": glorot(1, 768),
            "down.b": glorot(24, 1),
            "up.a": glorot(1, 24),
            "up.b": glorot(768, 1),
            "down_bias": 0,
            "up_bias": 0,
        },
    ),
    (PromptTuning(init="random", num_tokens=50), {"encoder.prompt": uniform(0.5)}),
    (HiRA(), {"matrix.a": kaiming(768), "matrix.b": 0}),
    # The lengths of the rows of BERT's weights, which start N(0, 0.02)
    (DoRA(), {"matrix.a": kaiming(768), "matrix.b": 0, "magnitude": stats.chi(768, scale=0.02)}),
    (OFT(), {"matrix.q": 0}),
    (IntrinsicSAID(intrinsic_dimension=999), {"theta": 0, r"weight.0.scale|bias.0.scale": 1}),
]


def build(method):
    return copy.deepcopy(plain(isinstance(method, PromptTuning)))


@cache
def plain(is_t5):
    if is_t5:
        return T5ForConditionalGeneration(T5Config(d_model=768, num_layers=1, vocab_size=99, decoder_start_token_id=0))
    return BertModel(BertConfig(num_hidden_layers=6, vocab_size=9, intermediate_size=96))  # narrow where nothing starts


@pytest.mark.parametrize(("method", "expected"), START, ids=[repr(method) for method, _ in START])
def test_every_parameter_starts_as_its_paper_has_it(method, expected):
    model = kronlit.inject(build(method), method)
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (kind,) = [kind for kind in expected if re.search(rf"\.({kind})$", f".{name}")]
            values = parameter.detach()
            if isinstance(method, AdaMixLoRA):  # its experts start alike: eight copies of a number are one draw
                assert torch.equal(values, values[:1].expand_as(values))
                values = values[0]
            found.setdefault(kind, []).append(values.flatten())
    assert set(found) == set(expected)
    for kind, start in expected.items():
        values = torch.cat(found[kind]).double()
        if isinstance(start, (int, float)):
            assert (values == start).all(), kind
        else:
            # The whole distribution, by Kolmogorov and Smirnov; the seed is fixed, so this is no matter of luck
            assert len(values) >= 60
            assert stats.kstest(values.numpy(), start.cdf).pvalue > 0.001, kind
            assert values.min() >= start.support()[0]
            assert values.max() <= start.support()[1]


def test_every_method_that_adds_something_is_under_test():
    from kronlit.config.explain import subclasses

    tested = {type(method) for method, _ in START}
    for cls in subclasses(kronlit.Method):
        if cls not in tested and cls.__module__.startswith("kronlit."):
            # A `Combined` starts as its parts do.
            assert cls.__name__ in ("HeadOnly", "BitFit", "FullFineTuning", "Combined"), cls


def test_a_prompt_from_the_vocabulary_is_its_first_tokens():
    model = build(PromptTuning())
    expected = model.get_input_embeddings().weight[:20].detach().clone()
    kronlit.inject(model, PromptTuning(num_tokens=20))
    assert torch.equal(model.encoder.prompt, expected)
    assert model.encoder.prompt.data_ptr() != model.get_input_embeddings().weight.data_ptr()


def test_biases_that_bitfit_adds_start_as_zero():
    model = kronlit.inject(build(PromptTuning()), kronlit.BitFit())
    assert added(model)
    assert all((model.get_parameter(name) == 0).all() for name in added(model))
