"""Mixtures for every combination of what their experts share: training, evaluation and rest agree."""

from functools import partial
from itertools import product

import pytest
import torch
from transformers import BertConfig, BertModel

import kronlit
from kronlit import AdaMix, AdaMixKronA, AdaMixLoRA
from kronlit.modules.idle_experts import IdleExperts
from kronlit.structured import Dense, Kronecker, LowRank, Mixture

PRODUCTS = [partial(LowRank, rank=1), partial(Kronecker, a_shape=(1, 1))]
SHARED = [(), ("a",), ("b",), ("a", "b")]
CASES = [*product(PRODUCTS, SHARED), (Dense, ()), (Dense, ("weight",))]


def filled(expert, shared, **options):
    """A mixture of 1 x 1 matrices in which every number is another power of two, so that sums and products differ."""
    mixture = Mixture(1, 1, expert, num_experts=3, shared=shared, **options)
    exponents = iter((0, 1, 3, 0, 4, 9, 15, 17, 20))
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.copy_(torch.tensor([2.0 ** next(exponents) for _ in range(len(parameter))]).view_as(parameter))
    return mixture.double()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("expert", "shared"), CASES)
def test_evaluation_is_the_mean_of_what_training_draws(expert, shared, bias):
    # Factors are drawn on their own, so the product of their means is the mean over all that can be drawn.
    torch.manual_seed(0)
    mixture = filled(expert, shared, bias=bias)
    x = torch.ones(1, 1, dtype=torch.float64)
    drawn = {mixture(x).item() for _ in range(200)}
    assert len(drawn) == 3 ** (len(mixture.factors) - len(shared))
    assert mixture.eval()(x).item() == pytest.approx(sum(drawn) / len(drawn), rel=1e-12)


@pytest.mark.parametrize("evaluation", ["mean", "random", "first"])
@pytest.mark.parametrize(("expert", "shared"), [*product(PRODUCTS, [("a", "b")]), (Dense, ("weight",))])
def test_where_all_is_shared_training_and_every_evaluation_are_one(expert, shared, evaluation):
    mixture = Mixture(3, 2, expert, 4, shared, bias=True, evaluation=evaluation)
    assert mixture.bias.shape == (1, 2)
    with torch.no_grad():
        mixture.bias.copy_(torch.tensor([[1.0, -2.0]]))
    x = torch.randn(5, 3)
    trained = mixture(x)
    torch.testing.assert_close(mixture.eval()(x), trained)
    torch.testing.assert_close(trained, x @ mixture.to_dense().T + torch.tensor([1.0, -2.0]))


@pytest.mark.parametrize(
    "method",
    [
        AdaMix(4, share_down=True, share_up=True),
        AdaMixLoRA(share_a=True, share_b=True),
        AdaMixKronA(share_a=True, share_b=True),
    ],
    ids=lambda method: type(method).__name__,
)
def test_methods_that_share_all_train_what_they_evaluate(method):
    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=1, hidden_size=12, num_attention_heads=2, vocab_size=9)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model = kronlit.inject(BertModel(config), method)
    for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.arange(8).view(2, 4)
    trained = model.train()(ids).last_hidden_state
    torch.testing.assert_close(model.eval()(ids).last_hidden_state, trained, rtol=0, atol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("expert", "shared"), CASES)
def test_only_experts_that_were_not_drawn_rest(expert, shared, bias):
    torch.manual_seed(0)
    mixture = Mixture(1, 1, expert, num_experts=3, shared=shared, bias=bias, idle="rest").double()
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    before = {name: parameter.detach().clone() for name, parameter in mixture.named_parameters()}
    optimizer = torch.optim.SGD(mixture.parameters(), lr=0.1)
    mixture(torch.ones(1, 1, dtype=torch.float64)).sum().backward()
    drawn = {name: set(experts) for name, experts in mixture.drawn.items()}
    idle = IdleExperts([mixture], optimizer)
    optimizer.step()
    idle.restore()
    for name, parameter in mixture.named_parameters():
        moved = {index for index in range(len(parameter)) if not torch.equal(parameter[index], before[name][index])}
        assert moved == (drawn[name] if len(parameter) > 1 else {0})
        assert len(moved) == 1


@pytest.mark.parametrize("num_experts", [1, 4])
def test_a_mixture_whose_idle_experts_rest_trains_what_all_share(num_experts):
    # B, which AdaMix-LoRA shares, starts as zero: without it nothing would be learned.
    torch.manual_seed(0)
    mixture = Mixture(4, 4, partial(LowRank, rank=2), num_experts, shared=("b",), idle="rest")
    optimizer = torch.optim.AdamW(mixture.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (mixture(torch.ones(2, 4)) - 1).square().sum().backward()
        idle = IdleExperts([mixture], optimizer)
        optimizer.step()
        idle.restore()
    assert mixture.b.abs().min() > 0.01
