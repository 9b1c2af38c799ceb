"""The choice of optimizer, learning rates and schedule: a run is a plain PyTorch loop with the same choices."""

import copy
import math
import re

import pytest
import torch
import transformers
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from test_modules import Losses, build, trainer

from kronlit import FullFineTuning, HeadOnly, KronA, LoRA
from kronlit.config.user_error import UserError
from kronlit.modules import SequenceClassification, TextToText

STEPS = 12


def linear(step, warmup=0):
    return step / warmup if step < warmup else (STEPS - step) / (STEPS - warmup)


def cosine(step, warmup=3):
    return step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))


def constant(step, warmup=4):
    return min(1.0, step / warmup)


def root(step, warmup=2):  # Vaswani et al. 2017, equation 3
    return step / warmup if step < warmup else 1 / math.sqrt(step / warmup)


class Watch(Callback):
    """Keeps a copy of the module before its first step, and every batch."""

    def __init__(self):
        self.batches = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not self.batches:
            self.copy = copy.deepcopy(pl_module.model)
        self.batches.append({name: tensor.clone() for name, tensor in batch.items()})


def plain_loop(model, batches, make, rate_of, factor, decay):
    """What PyTorch's own loop makes of the trained parameters."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = make(
        [
            {
                "params": [p],
                "lr": rate_of(name),
                **({} if decay is None else {"weight_decay": 0.0 if p.ndim < 2 else decay}),
            }
            for name, p in trained.items()
        ]
    )
    peaks = [group["lr"] for group in optimizer.param_groups]
    for step, batch in enumerate(batches):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor(step)
        inputs = {name: value for name, value in batch.items() if name not in ("row", "label", "group")}
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits, batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: p.detach() for name, p in trained.items()}


CASES = {
    "default": ({}, torch.optim.AdamW, linear, 0.0),
    "AdamW with betas": (
        {"optimizer_args": {"betas": [0.5, 0.9], "eps": 1e-3}, "weight_decay": 0.3},
        lambda groups: torch.optim.AdamW(groups, betas=(0.5, 0.9), eps=1e-3),
        linear,
        0.3,
    ),
    "SGD, cosine": (
        {"optimizer": "SGD", "optimizer_args": {"momentum": 0.9}, "schedule": "cosine", "warmup": 0.25, "lr": 0.1},
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        cosine,
        0.0,
    ),
    "Adafactor of torch, constant after a warm-up": (
        {"optimizer": "Adafactor", "schedule": "constant_with_warmup", "warmup": 4},
        lambda groups: torch.optim.Adafactor(groups, lr=1e-2),
        constant,
        0.0,
    ),
    "Adafactor of Transformers": (
        {
            "optimizer": "transformers.Adafactor",
            "optimizer_args": {"scale_parameter": False, "relative_step": False},
            "schedule": "constant",
        },
        lambda groups: transformers.Adafactor(groups, lr=1e-2, scale_parameter=False, relative_step=False),
        lambda step: 1.0,
        0.0,
    ),
    "Rprop has no weight decay": (
        {"optimizer": "Rprop", "schedule": "inverse_sqrt", "warmup": 2},
        torch.optim.Rprop,
        root,
        None,
    ),
}


@pytest.mark.parametrize(("options", "make", "factor", "decay"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("rates", [False, True], ids=["one rate", "rates by group"])
def test_a_run_is_a_plain_loop(options, make, factor, decay, rates, request, tmp_path, glue):
    own = {"head_lr": 3e-3, "lr_multipliers": {"b": 16, "query*.b": 4.0}} if rates else {}
    seed_everything(3)
    module, data = build(SequenceClassification, request, glue, KronA(), **own)
    again = {"lr": 1e-2, "warmup": 0.0} | options
    for name, value in again.items():
        setattr(module, name, value)
    watch = Watch()
    still = trainer(
        tmp_path, watch, max_steps=STEPS, max_epochs=-1, enable_checkpointing=False, limit_val_batches=0, logger=False
    )
    module.configure_model()
    for part in module.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    still.fit(module, data)

    def rate_of(name):
        if name.startswith("classifier"):
            return 3e-3 if rates else again["lr"]
        times = 1 if not rates or not name.endswith(".b") else 4.0 if "query" in name else 16
        return again["lr"] * times

    expected = plain_loop(watch.copy, watch.batches, make, rate_of, factor, decay)
    found = {name: p.detach() for name, p in module.model.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    assert len(watch.batches) == STEPS
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [SequenceClassification, TextToText])
def test_it_resumes_to_the_digit(kind, request, tmp_path, glue):
    choices = {
        "optimizer": "Adafactor",
        "optimizer_args": {"beta2_decay": -0.5},
        "schedule": "cosine_with_restarts",
        "schedule_args": {"num_cycles": 2},
        "lr_multipliers": {"b": 16, "a": 0.5},
    } | ({"head_lr": 1e-3} if kind is SequenceClassification else {})

    def fit(folder, ckpt_path=None):
        seed_everything(0 if ckpt_path is None else 99)
        module, data = build(kind, request, glue, LoRA(rank=2), **choices)
        losses = Losses()
        keep = ModelCheckpoint(folder, save_top_k=-1, filename="{step}", every_n_train_steps=5)
        trainer(folder, losses, keep, max_epochs=2).fit(module, data, ckpt_path=ckpt_path)
        return losses.values, {name: p.detach().clone() for name, p in module.named_parameters()}

    whole, weights = fit(tmp_path / "whole")
    rest, again = fit(tmp_path / "again", tmp_path / "whole" / "step=5.ckpt")
    assert rest == whole[5:]
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize("method", [HeadOnly(), FullFineTuning(), KronA()], ids=lambda method: type(method).__name__)
def test_the_rate_of_the_head_is_that_of_the_classifier_alone(method, request, tmp_path, glue):
    module, data = build(SequenceClassification, request, glue, method, head_lr=1e-5)
    fitted = trainer(tmp_path, max_steps=1, enable_checkpointing=False)
    fitted.fit(module, data)
    names = {id(p): name for name, p in module.model.named_parameters()}
    rates = {names[id(p)]: group["initial_lr"] for group in fitted.optimizers[0].param_groups for p in group["params"]}
    assert rates == {name: 1e-5 if name.startswith("classifier.") else 1e-2 for name in rates}
    assert {name for name in rates if name.startswith("classifier.")} == {"classifier.weight", "classifier.bias"}


def test_what_loading_draws_anew_has_the_rate_of_the_head(request, tmp_path, glue):
    module, data = build(SequenceClassification, request, glue, KronA(trains=()), "mnli", head_lr=1e-5)
    fitted = trainer(tmp_path, max_steps=1, enable_checkpointing=False)
    fitted.fit(module, data)  # the files have two classes, MNLI has three
    rates = [group["initial_lr"] for group in fitted.optimizers[0].param_groups for _ in group["params"]]
    assert sorted(rates) == [1e-5, 1e-5, *[1e-2] * 8]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"optimizer": "Adamw"}, "`model.optimizer`='Adamw' must be a class of torch.optim (ASGD, "),
        ({"optimizer": "Optimizer"}, "`model.optimizer`='Optimizer' must be a class of torch.optim"),
        ({"optimizer": "no_such.Adam"}, "`model.optimizer`='no_such.Adam' cannot be imported: No module named"),
        ({"optimizer_args": {"beta": 1}}, "`model.optimizer_args`={'beta': 1}: "),
        ({"optimizer_args": {"betas": [2, 0.9]}}, "Invalid beta parameter at index 0: 2"),
        ({"optimizer_args": {"lr": 1}}, "`model.optimizer_args` has 'lr': give it as `model.lr`."),
        ({"optimizer_args": {"params": []}}, "`model.optimizer_args` has 'params', which are those that the method"),
        ({"optimizer": "..Adam"}, "`model.optimizer`='..Adam' cannot be imported: "),
        ({"optimizer": "transformers.Adafactor"}, "relative_step"),
        ({"optimizer": "Rprop", "weight_decay": 0.1}, "`model.weight_decay`=0.1: Rprop has no weight decay"),
        ({"schedule": "lineal"}, "`model.schedule`='lineal': it must be one of linear, cosine, "),
        ({"schedule": "reduce_lr_on_plateau"}, "it follows a score, not the steps, and it must be one of linear, "),
        ({"schedule_args": {"cycles": 2}}, "`model.schedule_args`={'cycles': 2}: "),
        ({"schedule": "constant", "schedule_args": {"x": 2}}, "`model.schedule_args`={'x': 2}: 'constant' takes none"),
        ({"head_lr": -1.0}, "`model.head_lr`=-1.0 must be a number from 0 up."),
        ({"lr_multipliers": {"b": -16}}, "`model.lr_multipliers`: b=-16 must be a number from 0 up."),
        ({"lr_multipliers": {"b": "x"}}, "`model.lr_multipliers`: b='x' must be a number from 0 up."),
    ],
    ids=str,
)
def test_a_bad_choice_is_one_line_before_the_model_is_loaded(options, line, request, glue):
    with pytest.raises(UserError, match=re.escape(line)) as raised:
        build(SequenceClassification, request, glue, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (TextToText, {"head_lr": 1e-3}, "`model.head_lr`=0.001: this model has no head that is trained"),
        (
            TextToText,
            {"lr_multipliers": {"c": 2}},
            "'c' is the name of no trained parameter; their last parts are a, b",
        ),
        (SequenceClassification, {"optimizer": "Muon"}, "`model.optimizer`='Muon'"),
        (SequenceClassification, {"optimizer": "LBFGS"}, "LBFGS doesn't support per-parameter options"),
    ],
)
def test_a_choice_that_does_not_suit_the_model_is_one_line(kind, options, line, request, tmp_path, glue):
    module, data = build(kind, request, glue, KronA(), **options)
    with pytest.raises(UserError, match=re.escape(line)) as raised:
        trainer(tmp_path, max_steps=1, enable_checkpointing=False).fit(module, data)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_a_training_without_an_end_needs_a_schedule_without_one(schedule, request, tmp_path, glue):
    module, data = build(SequenceClassification, request, glue, schedule=schedule)
    module.warmup = 0.0
    endless = trainer(tmp_path, max_epochs=-1, enable_checkpointing=False, limit_val_batches=0)
    stop = Callback()
    stop.on_train_batch_end = lambda trainer, *_: setattr(trainer, "should_stop", trainer.global_step >= 3)
    endless.callbacks.append(stop)
    if schedule == "linear":
        with pytest.raises(UserError, match=r"`model.schedule`='linear'.*needs an end: set `trainer.max_epochs`"):
            endless.fit(module, data)
    else:
        endless.fit(module, data)
        assert endless.optimizers[0].param_groups[0]["lr"] == 1e-2
