"""What docs/structures.md says a structure costs is what it costs."""

import pytest
import torch
from fixtures.runs import ROOT
from torch.utils.flop_counter import FlopCounterMode

import kronlit.structured as structured

PAGE = (ROOT / "docs/structures.md").read_text()
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in PAGE.split("\n\n")[2].splitlines()[2:]
]
# What the letters of the table stand for: p, q and n are the widths. They divide as the shapes need, and are wide
# enough for every bound on the rank to be another one.
P, Q = 24, 36
LETTERS = {"a1": 6, "a2": 4, "b1": 6, "b2": 6, "m": 2, "p": P, "q": Q, "n": Q, "r1": 3, "r2": 2, "u": 4, "v": 9}
LETTERS |= {"b": 12, "w": 4, "d1": 9, "d2": 4}
RANKS = {"LowRank": 3, "PHM": 1, "LDR": 2, "KroneckerSum": 3, "Monarch": 3}


def value(formula, name):
    return eval(formula, LETTERS | {"r": RANKS.get(name, 0), "min": min, "abs": abs})


def made(row):
    name, _, arguments = row[0].partition("(")
    matrix = eval(f"{row[0]}" if arguments else f"{name}()", {name: lambda **given: (name, given)}, scope(name))
    return name, getattr(structured, name)(P, Q, **matrix[1])


def scope(name):
    return LETTERS | {"r": RANKS.get(name, 0)}


def test_every_structure_has_its_row():
    names = {row[0].partition("(")[0] for row in ROWS}
    assert names == set(structured.__all__) - {"Mixture", "Stacked", "StructuredLinear", "WeightedSum"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_parameters_and_rank_are_as_the_page_says(row):
    name, matrix = made(row)
    assert sum(parameter.numel() for parameter in matrix.parameters()) == value(row[2], name)
    with torch.no_grad():
        for parameter in matrix.parameters():
            torch.nn.init.normal_(parameter)
        dense = matrix.double().to_dense()
    assert torch.linalg.matrix_rank(dense) == value(row[3], name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_it_starts_as_the_page_says(row):
    _, matrix = made(row)
    dense = matrix.to_dense()
    if row[5].startswith("0"):
        assert not dense.any()
    elif row[5] == "small":
        assert 0 < dense.abs().max() < 0.1
    elif row[5] == "I":
        assert torch.equal(dense, torch.eye(Q, P))


NUMBERS = [row for row in ROWS if not row[4].startswith("O(")]


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row[0])
def test_the_multiply_adds_are_those_that_torch_counts(row):
    name, matrix = made(row)
    tokens = 7

    def counted(tokens):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            matrix(torch.randn(tokens, P))
        return counter.get_total_flops()

    # What is done once a pass, such as forming W, drops out of the difference. torch counts two for a multiply-add.
    assert counted(2 * tokens) - counted(tokens) == 2 * tokens * value(row[4], name)
