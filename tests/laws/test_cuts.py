"""A part of a module that computes query, key and value is what the model's own attention takes for it."""

from collections.abc import Callable

import pytest
import torch
from fixtures.architectures import build, run
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import kronlit
from kronlit import SURM, KronA, LoRA
from kronlit.adapters import Delta, placements
from kronlit.adapters.cuts import LAYOUTS, rows_of
from kronlit.structured import Kronecker, Stacked
from kronlit.structured.rows import Interleaved, row_numbers

PARTS = ("query", "key", "value")
States = dict[str, torch.Tensor]


def by_interface(model, monkeypatch, seen):
    """States as the model hands them to whatever computes attention."""

    def spy(module, query, key, value, *args, **kwargs):
        seen.append(dict(zip(PARTS, (query, key, value), strict=True)))
        return sdpa_attention_forward(module, query, key, value, *args, **kwargs)

    AttentionInterface.register("spy", spy)
    model.config._attn_implementation = "spy"


def by_method(name: str, taken: Callable) -> Callable:
    """States as a method of the model's attention gives or takes them."""

    def watch(model, monkeypatch, seen):
        attention = next(type(m) for m in model.modules() if hasattr(type(m), name))
        own = getattr(attention, name)

        def spy(self, *args, **kwargs):
            result = own(self, *args, **kwargs)
            seen.append(dict(zip(PARTS, taken(args, result), strict=True)))
            return result

        monkeypatch.setattr(attention, name, spy)

    return watch


def by_products(number: int) -> Callable:
    """States as factors of matrix products: the first is that of query and key, and the one of this number of value."""

    def watch(model, monkeypatch, seen):
        own, factors = torch.matmul, []

        def spy(a, b, *args, **kwargs):
            factors.append((a, b))
            if len(factors) == number:
                (query, key), *_, (_, value) = factors
                seen.append({"query": query, "key": key.mT, "value": value})
            return own(a, b, *args, **kwargs)

        monkeypatch.setattr(torch, "matmul", spy)

    return watch


GIVEN, TAKEN = (lambda args, result: result), (lambda args, result: args[:3])
WATCH = {
    "modernbert": by_interface,
    "phi3": by_interface,
    "gpt_neox": by_interface,
    "gpt_bigcode": by_interface,
    "gpt_bigcode plain": by_interface,
    "gpt2": by_interface,
    "persimmon": by_interface,
    "bloom": by_method("_reshape", GIVEN),
    "falcon": by_method("_split_heads", GIVEN),
    "falcon new": by_method("_split_heads", GIVEN),
    "falcon plain": by_method("_split_heads", GIVEN),
    "gpt_neox_japanese": by_method("_attn", TAKEN),
    "openai-gpt": by_method("_attn", TAKEN),
    "imagegpt": by_method("_attn", TAKEN),
    "codegen": by_interface,
    "mpt": by_products(2),
    "deberta": by_products(4),  # two are of the distances
}


def states(model, architecture, monkeypatch) -> States:
    """What the first layer's attention of the model computes with."""
    seen = []
    with monkeypatch.context() as patch:
        WATCH[architecture](model, patch, seen)
        with torch.no_grad():
            run(model)
    return seen[0]


def disturbed(architecture, part):
    torch.manual_seed(3)
    model = kronlit.inject(build(architecture), LoRA(rank=2, sites=(part,)))
    for _, placement in placements(model):
        nn.init.normal_(placement.matrix.get_submodule(part).b)
    return model


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("architecture", WATCH)
def test_a_change_of_one_part_changes_those_states_alone(architecture, part, monkeypatch):
    before = states(build(architecture), architecture, monkeypatch)
    after = states(disturbed(architecture, part), architecture, monkeypatch)
    for name in PARTS:
        if name == part:
            assert (after[name] != before[name]).float().mean() > 0.99
        else:
            assert torch.equal(after[name], before[name])


@pytest.mark.parametrize("architecture", WATCH)
def test_the_rows_of_a_change_are_the_heads_in_their_order(architecture, monkeypatch):
    model, inputs = disturbed(architecture, "query"), []
    _, placement = next(placements(model))
    placement.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    after = states(model, architecture, monkeypatch)["query"]
    before = states(build(architecture), architecture, monkeypatch)["query"]
    # The first token, which no rotation turns, as (rows, heads, width of a head)
    change = (after - before).transpose(1, 2)[:, 0] if before.shape[1] == 4 else (after - before)[:, 0]
    expected = inputs[0][:, 0] @ placement.matrix.query.to_dense().mT
    # DeBERTa and others divide the query by a number
    torch.testing.assert_close(unit(change.flatten(1)), unit(expected), rtol=1e-3, atol=1e-4)


def unit(x):
    return x / x.norm()


def test_every_layout_is_under_test():
    assert {name.split()[0] for name in WATCH} == set(LAYOUTS)


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        ((1, {"query": 1, "key": 1, "value": 1}), ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11])),
        ((1, {"query": 4, "key": 1, "value": 1}), ([0, 1, 2, 3, 4, 5, 6, 7], [8, 9], [10, 11])),
        ((2, {"query": 1, "key": 1, "value": 1}), ([0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11])),
        ((2, {"query": 1, "value": 1, "key": 1}), ([0, 1, 6, 7], [4, 5, 10, 11], [2, 3, 8, 9])),
        ((2, {"query": 4, "key": 1, "value": 1}), ([0, 1, 2, 3, 6, 7, 8, 9], [4, 10], [5, 11])),
    ],
)
def test_a_layout_gives_the_rows_that_a_count_by_hand_gives(layout, rows):
    assert tuple(row_numbers(rows_of(part, layout, 12), 12).tolist() for part in PARTS) == rows


def test_a_layout_that_does_not_divide_the_width_says_so():
    with pytest.raises(ValueError, match=r"13 outputs are not 2 x \(1 \+ 1 \+ 1\) parts"):
        rows_of("key", (2, {"query": 1, "key": 1, "value": 1}), 13)


def test_an_interleaved_part_is_scattered_to_its_rows():
    part = Interleaved(2, slice(1, 3))
    stacked = Stacked(6, 8, Kronecker, {"key": part})
    nn.init.normal_(stacked.key.b)
    dense = torch.zeros(8, 6)
    dense[[1, 2, 5, 6]] = torch.kron(stacked.key.a, stacked.key.b)
    torch.testing.assert_close(stacked.to_dense(), dense)
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(stacked(x), x @ dense.T)
    assert stacked.indices()["key"].tolist() == [1, 2, 5, 6]


def test_interleaved_parts_that_overlap_are_refused():
    parts = {"one": Interleaved(2, slice(1, 3)), "other": slice(0, 2)}
    with pytest.raises(ValueError, match="each of them once"):
        Stacked(6, 8, Kronecker, parts)


@pytest.mark.parametrize("method", [KronA(scale="auto"), SURM(structure="kronecker")])
def test_one_scale_for_parts_of_several_heights_is_refused_with_a_cure(method):
    with pytest.raises(
        ValueError, match=r"qkv_proj: `(scale|a_shape)`=.* \[16, 32\] rows.*: give an? (number|`a_shape`)"
    ):
        kronlit.inject(build("phi3"), method)


def test_auto_scale_of_interleaved_parts_is_that_of_plain_ones():
    host = nn.Linear(64, 192)
    cut = {"query": Interleaved(4, slice(0, 16)), "value": Interleaved(4, slice(32, 48))}
    plain = {"query": slice(0, 64), "value": slice(128, 192)}
    scales = [Delta(host, 64, 192, Kronecker, "auto", slices=slices).scale for slices in (cut, plain)]
    assert scales[0] == scales[1]
