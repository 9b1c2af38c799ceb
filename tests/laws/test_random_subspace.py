"""Intrinsic SAID: every tensor moves along directions of its own."""

import itertools

import torch
from torch.nn.utils import parametrize
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit import IntrinsicSAID


def moves(plm, seed):
    """How the tensors of a model move for one and the same θ, by name."""
    model = AutoModelForSequenceClassification.from_pretrained(plm)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    kronlit.inject(model, IntrinsicSAID(intrinsic_dimension=200, projection_seed=seed))
    (theta,) = {id(p): p for name, p in model.named_parameters() if name.endswith(".theta")}.values()
    torch.manual_seed(0)
    torch.nn.init.normal_(theta)
    found = {}
    for module_name, module in model.named_modules():
        for name in getattr(module, "parametrizations", {}) if parametrize.is_parametrized(module) else {}:
            found[f"{module_name}.{name}"] = getattr(module, name).detach() - before[f"{module_name}.{name}"]
    return found


def cosine(one, other):
    return torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0).abs().item()


def test_tensors_of_one_shape_move_apart_and_so_does_one_under_another_seed(tiny_bert):
    first, second = moves(tiny_bert, 0), moves(tiny_bert, 1)
    large = [name for name, move in first.items() if move.numel() >= 500]
    assert len(large) > 5
    for one, other in itertools.combinations(large, 2):
        if first[one].shape == first[other].shape:
            assert cosine(first[one], first[other]) < 0.3
    assert all(cosine(first[name], second[name]) < 0.3 for name in large)
    for one, other in itertools.pairwise(large):  # nor is one seed's first tensor the next seed's second
        assert first[one].shape != second[other].shape or cosine(first[one], second[other]) < 0.3
