"""How a mixture starts, which expert is drawn, from where, and what becomes of those that are not."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from test_modules import build
from torch import nn

from kronlit import AdaMix, AdaMixKronA, AdaMixLoRA
from kronlit.modules import SequenceClassification
from kronlit.modules.idle_experts import IdleExperts
from kronlit.structured import Dense, LowRank, Mixture


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_experts_start_alike_where_they_are_to_and_nowhere_else(same, again):
    mixture = Mixture(4, 6, partial(LowRank, rank=2), num_experts=3, same_start=same)
    if again:
        mixture.reset_parameters()
    assert all(torch.equal(mixture.a[0], mixture.a[i]) == same for i in (1, 2))
    assert mixture.a[0].abs().min() > 0


@pytest.mark.parametrize(("method", "same"), [(AdaMix(4), False), (AdaMixLoRA(), True), (AdaMixKronA(), False)])
def test_only_adamix_lora_starts_its_experts_alike(method, same, request, glue):
    module, _ = build(SequenceClassification, request, glue, method)
    module.configure_model()
    for mixture in (mixture for mixture in module.modules() if isinstance(mixture, Mixture)):
        first = mixture.get_parameter(mixture.factors[0])
        assert torch.equal(first[0], first[1]) == same


@pytest.mark.parametrize(("shared", "of"), [((), 0), (("a",), 1)])
def test_a_bias_goes_with_the_first_factor_that_is_drawn(shared, of):
    torch.manual_seed(0)
    mixture = Mixture(1, 1, partial(LowRank, rank=1), num_experts=2, shared=shared, bias=True)
    a, b, bias = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 16.0]), torch.tensor([0.25, 0.5])
    with torch.no_grad():
        mixture.a.copy_(a[: len(mixture.a)].view(-1, 1, 1))
        mixture.b.copy_(b.view(2, 1, 1))
        mixture.bias.copy_(bias.view(2, 1))
    routes = [(i, j) for i in range(len(mixture.a)) for j in range(2)]
    expected = {(a[i] * b[j] + bias[(i, j)[of]]).item() for i, j in routes}
    assert {mixture(torch.ones(1)).item() for _ in range(100)} == expected


def drawn(mixture, passes=40):
    values = []
    for _ in range(passes):
        mixture.drawn["weight"].clear()
        mixture(torch.zeros(1, mixture.in_features))
        values += mixture.drawn["weight"]
    return values


@pytest.mark.parametrize("evaluation", [False, True])
def test_draws_come_from_the_mixtures_own_generator(evaluation):
    mixture = Mixture(1, 1, Dense, num_experts=4, evaluation="random").train(not evaluation)
    with torch.no_grad():
        mixture.weight.copy_(torch.arange(4.0).view(4, 1, 1))
    seen = []
    for seed in (1, 2):
        name = "evaluation_generator" if evaluation else "generator"
        setattr(mixture, name, torch.Generator().manual_seed(7))
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        seen.append([mixture(torch.ones(1, 1)).item() for _ in range(40)])
        assert torch.equal(torch.get_rng_state(), state)
    own = torch.Generator().manual_seed(7)
    assert seen[0] == seen[1] == [float(torch.randint(4, (1,), generator=own)) for _ in range(40)]


def test_all_mixtures_of_a_model_draw_from_its_router(request, glue):
    module, _ = build(SequenceClassification, request, glue, AdaMix(4, share_up=False))
    module.configure_model()
    mixtures = [mixture for mixture in module.modules() if isinstance(mixture, Mixture)]
    seen = []
    for seed in (1, 2):
        module.routing.generator.manual_seed(7)
        torch.manual_seed(seed)
        seen.append([drawn(mixture) for mixture in mixtures])
    assert seen[0] == seen[1]
    assert len({str(one) for one in seen[0]}) == len(mixtures)


def test_experts_that_rest_are_trained_as_parameters_of_their_own(monkeypatch):
    # Each a parameter that an optimizer of its own steps where it was drawn, momentum and weight decay included.
    draws = [0, 2, 2, 1, 0, 0, 2, 1, 1, 1, 0, 2]
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    mixture = Mixture(2, 2, Dense, num_experts=3, idle="rest").double()
    alone = [nn.Parameter(mixture.weight[i].detach().clone()) for i in range(3)]
    optimizers = [torch.optim.SGD([one], **options) for one in alone]
    optimizer = torch.optim.SGD(mixture.parameters(), **options)
    sequence = iter(draws)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: next(sequence))
    for step, index in enumerate(draws):
        x, y = torch.full((1, 2), 1.0 + step).double(), torch.tensor([[1.0, -1.0]]).double()
        for output, steps in ((mixture(x), optimizer), (x @ alone[index].T, optimizers[index])):
            steps.zero_grad()
            (output - y).square().mean().backward()
        idle = IdleExperts([mixture], optimizer)
        optimizer.step()
        idle.restore()
        optimizers[index].step()
        torch.testing.assert_close(mixture.weight.detach(), torch.stack(alone).detach())


def test_idle_are_those_that_were_not_drawn_since_the_last_step():
    mixture = Mixture(1, 1, Dense, num_experts=4)
    mixture.drawn["weight"] |= {1, 3}
    assert [idle for _, idle in mixture.idle_experts()] == [[0, 2]]
    mixture.drawn["weight"].add(0)
    assert [idle for _, idle in mixture.idle_experts()] == [[1, 2, 3]]


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_each_process_has_its_own_dropout_and_all_have_one_router(rank, request, glue):
    module, _ = build(SequenceClassification, request, glue)
    module._trainer = SimpleNamespace(world_size=4, global_rank=rank)
    torch.manual_seed(5)
    module.on_train_start()
    router = torch.Generator().manual_seed(5)
    assert torch.rand(4, generator=module.routing.generator).tolist() == torch.rand(4, generator=router).tolist()
    own = torch.Generator().manual_seed(5 + rank)
    assert torch.rand(4).tolist() == torch.rand(4, generator=own).tolist()


def test_one_process_alone_draws_on_as_it_did(request, glue):
    module, _ = build(SequenceClassification, request, glue)
    module._trainer = SimpleNamespace(world_size=1, global_rank=0)
    torch.manual_seed(5)
    torch.rand(9)
    state = torch.get_rng_state()
    module.on_train_start()
    assert torch.equal(torch.get_rng_state(), state)
