"""Mixtures: how they are routed, averaged and collapsed, and the consistency of two passes."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from scipy import stats
from test_modules import Losses, batch_of, build, trainer
from torch.nn import functional as F
from transformers import BertConfig, BertModel

import kronlit
from kronlit import AdaMix, AdaMixKronA, AdaMixLoRA, KronA, LoRA
from kronlit.adapters.state import adapter_state
from kronlit.modules import CausalLM, SequenceClassification, TextToText
from kronlit.modules.consistency import symmetric_divergence
from kronlit.structured import Dense, Kronecker, LowRank, Mixture

ADAMIX = AdaMix(bottleneck_width=4)


def numbered(**options):
    """A mixture of 1 x 1 matrices, expert i being i: its output on 1 tells who was drawn."""
    mixture = Mixture(1, 1, Dense, **options)
    with torch.no_grad():
        mixture.weight.copy_(torch.arange(mixture.num_experts).view(-1, 1, 1))
    return mixture


def routes(mixture, passes):
    return np.array([int(mixture(torch.ones(3, 1))[0]) for _ in range(passes)])


def test_each_expert_is_drawn_as_often_and_whatever_was_drawn_before():
    torch.manual_seed(0)
    drawn = routes(numbered(num_experts=4), 4000)
    assert stats.chisquare(np.bincount(drawn, minlength=4)).pvalue > 0.001
    pairs = np.zeros((4, 4))
    np.add.at(pairs, (drawn[:-1], drawn[1:]), 1)
    assert stats.chi2_contingency(pairs).pvalue > 0.001


def test_projections_and_layers_are_drawn_on_their_own():
    torch.manual_seed(0)
    model = BertModel(BertConfig(num_hidden_layers=2, hidden_size=12, num_attention_heads=2, vocab_size=9))
    kronlit.inject(model, AdaMix(bottleneck_width=4, share_up=False)).train()
    mixtures = [module for module in model.modules() if isinstance(module, Mixture)]
    assert len(mixtures) == 4
    drawn = []
    for _ in range(2000):
        for mixture in mixtures:
            mixture.drawn["weight"].clear()
        for mixture in mixtures:
            mixture(torch.zeros(1, mixture.in_features))
        drawn.append([next(iter(mixture.drawn["weight"])) for mixture in mixtures])
    drawn = np.array(drawn)
    for one in range(4):
        for other in range(one):
            pairs = np.zeros((4, 4))
            np.add.at(pairs, (drawn[:, one], drawn[:, other]), 1)
            assert stats.chi2_contingency(pairs).pvalue > 0.001


def test_one_expert_takes_the_whole_batch_in_training():
    torch.manual_seed(0)
    mixture = numbered(num_experts=4)
    assert all(len(mixture(torch.ones(50, 2, 1)).unique()) == 1 for _ in range(20))


def test_the_factors_of_a_product_are_drawn_apart_and_a_shared_one_is_alone():
    torch.manual_seed(0)
    mixture = Mixture(1, 1, partial(LowRank, rank=1), num_experts=2, shared=())
    with torch.no_grad():
        mixture.a.copy_(torch.tensor([1.0, 10.0]).view(2, 1, 1))
        mixture.b.copy_(torch.tensor([1.0, 100.0]).view(2, 1, 1))
    assert {mixture(torch.ones(1)).item() for _ in range(100)} == {1, 10, 100, 1000}
    assert Mixture(4, 6, partial(LowRank, rank=2), shared=("b",)).b.shape == (1, 6, 2)


def test_a_bias_is_drawn_with_its_expert():
    torch.manual_seed(0)
    mixture = numbered(num_experts=3, bias=True)
    with torch.no_grad():
        mixture.bias.copy_(torch.tensor([[0.0], [10.0], [20.0]]))
    assert {mixture(torch.ones(1, 1)).item() for _ in range(100)} == {0, 11, 22}
    assert mixture.eval()(torch.ones(1, 1)).item() == 1 + 10


def test_evaluation_is_the_mean_the_first_or_one_for_each_row():
    x = torch.ones(400, 2, 1)
    assert set(numbered(num_experts=4).eval()(x).flatten().tolist()) == {1.5}
    assert set(numbered(num_experts=4, evaluation="first").eval()(x).flatten().tolist()) == {0}
    torch.manual_seed(0)
    rows = numbered(num_experts=4, evaluation="random").eval()(x)[:, :, 0]
    assert torch.equal(rows[:, 0], rows[:, 1])
    assert stats.chisquare(np.bincount(rows[:, 0].int().numpy())).pvalue > 0.001


@pytest.mark.parametrize(("mixed", "plain"), [(AdaMixLoRA, partial(LoRA, 4, 32.0)), (AdaMixKronA, KronA)])
def test_a_mixture_of_one_is_the_plain_method(mixed, plain):
    outputs = []
    for method in (mixed(num_experts=1), plain()):
        torch.manual_seed(0)
        model = BertModel(BertConfig(num_hidden_layers=2, hidden_size=12, num_attention_heads=2, vocab_size=9))
        kronlit.inject(model, method).train().double()  # KronA alone is one product with the weight, which rounds once
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if ".matrix." in name:
                torch.nn.init.normal_(parameter)
        outputs.append(model(torch.arange(8).view(2, 4)).last_hidden_state)
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", [ADAMIX, AdaMix(4, share_up=False), AdaMixLoRA(), AdaMixKronA()], ids=repr)
def test_what_is_collapsed_is_what_was_evaluated_in_the_size_of_one(method):
    torch.manual_seed(0)
    model = BertModel(BertConfig(num_hidden_layers=2, hidden_size=12, num_attention_heads=2, vocab_size=9)).eval()
    kronlit.inject(model, method)
    for name, parameter in model.named_parameters():
        if ".matrix." in name or ".body." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.arange(8).view(2, 4)
    evaluated = model(ids).last_hidden_state
    kronlit.collapse(model)
    torch.testing.assert_close(model(ids).last_hidden_state, evaluated)
    torch.testing.assert_close(model.train().eval()(ids).last_hidden_state, evaluated)
    one = BertModel(model.config)
    kronlit.inject(one, type(method)(**{**vars(method), "num_experts": 1}))
    shapes = {name: tensor.shape for name, tensor in adapter_state(one).items()}
    assert {name: tensor.shape for name, tensor in adapter_state(model).items()} == shapes


def test_the_mean_is_of_the_parameters_each_side_by_itself():
    torch.manual_seed(0)
    mixture = Mixture(4, 6, Kronecker, num_experts=3).eval()
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    a, b = mixture.a.detach().numpy().mean(0), mixture.b.detach().numpy().mean(0)
    np.testing.assert_allclose(mixture.to_dense().detach().numpy(), np.kron(a, b), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_experts": 0}, "`num_experts`=0 must be at least 1"),
        ({"shared": ("c",)}, "`shared` has 'c'; an expert has a, b"),
    ],
)
def test_what_cannot_be_mixed_is_an_error_that_says_so(options, words):
    with pytest.raises(ValueError, match=words):
        Mixture(4, 4, Kronecker, **options)


def test_the_same_seed_gives_the_same_draws_and_a_resumed_run_goes_on_with_them(request, tmp_path, glue):
    def fit(folder, ckpt_path=None):
        module, data = build(SequenceClassification, request, glue, ADAMIX, consistency=1.0)
        seed_everything(0 if ckpt_path is None else 99)
        losses = Losses()
        keep = ModelCheckpoint(folder, save_top_k=-1, filename="{step}", every_n_train_steps=5)
        trainer(folder, losses, keep, max_epochs=2).fit(module, data, ckpt_path=ckpt_path)
        return losses.values, adapter_state(module)

    whole, weights = fit(tmp_path / "whole")
    assert fit(tmp_path / "twice")[0] == whole
    for checkpoint in sorted((tmp_path / "whole").glob("*.ckpt")):
        step = int(checkpoint.stem.split("=")[1])
        rest, again = fit(tmp_path / "again" / checkpoint.stem, checkpoint)
        assert rest == whole[step:]
        assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize("kind", [SequenceClassification, TextToText, CausalLM])
def test_gradient_checkpointing_draws_again_what_was_drawn(kind, request, glue):
    gradients = []
    for checkpointing in (False, True):
        module, data = build(kind, request, glue, ADAMIX, consistency=1.0, gradient_checkpointing=checkpointing)
        seed_everything(0)
        module.configure_model()
        _, batch = batch_of(module, data, 4)
        module.train()
        module.routing.generator.manual_seed(3)
        torch.manual_seed(0)
        module.train_loss(batch).backward()
        gradients.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize(("idle", "moves"), [("update", True), ("rest", False)])
def test_idle_experts_decay_or_rest(idle, moves, request, tmp_path, glue):
    method = AdaMix(bottleneck_width=4, num_experts=50, idle_experts=idle)
    seed_everything(0)
    module, data = build(SequenceClassification, request, glue, method, weight_decay=0.1)
    seed_everything(0)
    module.configure_model()
    before = {name: p.detach().clone() for name, p in module.named_parameters() if name.endswith("down.weight")}
    drawn = {}
    original = Mixture._draw

    def watched(self):
        route = original(self)
        if self.training:
            drawn.setdefault(id(self.weight), set()).add(route["weight"])
        return route

    Mixture._draw = watched
    try:
        trainer(tmp_path, enable_checkpointing=False, max_steps=5).fit(module, data)
    finally:
        Mixture._draw = original
    for name, start in before.items():
        experts = module.get_parameter(name)
        busy = drawn[id(experts)]
        changed = {index for index in range(50) if not torch.equal(experts[index], start[index])}
        assert changed == (set(range(50)) if moves else busy)
        assert 1 < len(busy) <= 5


# A plain adapter has both passes in one, of a doubled batch.
@pytest.mark.parametrize("method", [ADAMIX, AdaMix(4, 1), KronA()], ids=["AdaMix", "one expert", "KronA"])
@pytest.mark.parametrize("kind", [SequenceClassification, TextToText, CausalLM])
def test_consistency_is_the_symmetric_divergence_of_two_passes(kind, method, request, glue):
    module, data = build(kind, request, glue, method, consistency=2.0)
    module.configure_model()
    for name, parameter in module.named_parameters():
        if ".matrix." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    _, batch = batch_of(module, data, 4)
    module.train()
    module.routing.generator.manual_seed(3)
    torch.manual_seed(1)
    both = module.train_loss(batch).item()
    module.routing.generator.manual_seed(3)
    torch.manual_seed(1)

    def logits(batch):
        if kind is SequenceClassification:
            return module(batch).detach().double().numpy()
        if kind is CausalLM:  # without a slice of the logits: those before each target token, wherever it stands
            tokens, mask = batch["input_ids"], batch["attention_mask"]
            target = F.pad(batch["target_ids"], (tokens.shape[1] - batch["target_ids"].shape[1], 0), value=-100)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            output = module.model(input_ids=tokens, attention_mask=mask, position_ids=positions).logits
            return output[:, :-1].detach().double()[target[:, 1:] >= 0].numpy()
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        output = module.model(**inputs, labels=batch["target_ids"]).logits.detach().double()
        return output[batch["target_ids"] >= 0].numpy()

    if method is ADAMIX:
        first, second = logits(batch), logits(batch)
    else:
        twice = {name: torch.cat((v, v)) if isinstance(v, torch.Tensor) else [*v, *v] for name, v in batch.items()}
        first, second = np.split(logits(twice), 2)
    labels = batch["label"] if kind is SequenceClassification else batch["target_ids"][batch["target_ids"] >= 0]
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (first, second))
    cross_entropy = -np.log(p[np.arange(len(labels)), labels.numpy()]).mean()
    divergence = 0.5 * ((q * np.log(q / p)).sum(1).mean() + (p * np.log(p / q)).sum(1).mean())
    assert divergence > 1e-6
    assert both == pytest.approx(cross_entropy + 2.0 * divergence, rel=1e-5)


@pytest.mark.parametrize("method", [AdaMix, AdaMixLoRA, AdaMixKronA])
def test_a_checkpoint_is_scored_by_any_evaluation(method, request, tmp_path, glue):
    # The paper's ablation: a run that was validated with the mean, tested with random experts and with the first
    fitted = trainer(tmp_path, max_steps=3)
    fitted.fit(*build(SequenceClassification, request, glue, method(num_experts=3)))
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    losses = []
    for evaluation in ("mean", "random", "first"):
        seed_everything(0)
        module, data = build(SequenceClassification, request, glue, method(num_experts=3, evaluation=evaluation))
        (values,) = trainer(tmp_path).validate(module, data, ckpt_path=tmp_path / "a.ckpt", verbose=False)
        losses.append(values["val/loss"])
        assert {m.evaluation for m in module.modules() if isinstance(m, Mixture)} == {evaluation}
    assert len(set(losses)) == 3


def test_no_gradient_goes_to_the_target_of_a_divergence():
    logits = torch.tensor([[0.3, -0.2, 1.0]], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[0.5, 0.1, -1.0]], dtype=torch.float64)
    symmetric_divergence(logits.log_softmax(-1), other.log_softmax(-1)).backward()
    # d KL(q || softmax(z)) / dz = softmax(z) - q, by hand; the other direction has no gradient for z
    expected = (F.softmax(logits.detach(), -1) - F.softmax(other, -1)) / 2
    torch.testing.assert_close(logits.grad, expected)


def test_a_number_has_no_consistency_and_no_second_pass(request, glue):
    losses = []
    for consistency in (0.0, 1.0):
        module, data = build(SequenceClassification, request, glue, KronA(), task="stsb", consistency=consistency)
        seed_everything(0)
        module.configure_model()
        _, batch = batch_of(module, data, 4)
        module.train()
        torch.manual_seed(0)
        losses.append((module.train_loss(batch).item(), torch.rand(()).item()))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("method", [AdaMix, AdaMixLoRA])
def test_validating_with_random_experts_leaves_training_as_it_was(method, request, tmp_path, glue):
    def fit(ckpt_path=None, seed=0, **options):
        seed_everything(seed)
        module, data = build(SequenceClassification, request, glue, method(num_experts=3, evaluation="random"))
        keep = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_epochs=1)
        trainer(tmp_path, keep, max_epochs=2, **options).fit(module, data, ckpt_path=ckpt_path)
        return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}, module

    without, _ = fit(limit_val_batches=0)
    validated, module = fit()
    assert all(torch.equal(validated[name], without[name]) for name in without)
    resumed, again = fit(tmp_path / "step=11.ckpt", seed=99)
    assert all(torch.equal(resumed[name], without[name]) for name in without)
    assert again.trainer.callback_metrics["val/loss"] == module.trainer.callback_metrics["val/loss"]


def test_each_evaluation_draws_the_same_experts_and_none_of_trainings():
    mixture = numbered(num_experts=4, evaluation="random")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    drawn = [mixture.eval()(torch.ones(64, 1)).flatten().tolist() for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {0, 1, 2, 3}
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert mixture.eval()(torch.ones(64, 1)).flatten().tolist() != drawn[0]
