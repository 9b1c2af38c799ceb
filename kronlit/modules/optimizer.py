"""The optimizer: which one, and which parameters take which learning rate and weight decay."""

import fnmatch
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kronlit.config.user_error import UserError
from kronlit.methods.base import is_norm

UNFIT = ("Optimizer", "SparseAdam", "LBFGS")
"""What torch.optim has besides: the base class, one for sparse gradients, and one that takes no groups."""


def optimizer_class(name: str) -> type[Optimizer]:
    """The class of `torch.optim` with this name, or the one at this path.

    Raises:
        UserError: if there is none, or it takes no `params` and `lr`.
    """
    module, _, last = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "torch.optim"), last, None)
    except (ImportError, TypeError, ValueError) as error:  # the latter two where dots lead the path
        raise UserError(f"`model.optimizer`={name!r} cannot be imported: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, Optimizer) and found is not Optimizer):
        known = ", ".join(sorted(key for key, kind in vars(torch.optim).items() if is_optimizer(kind)))
        raise UserError(
            f"`model.optimizer`={name!r} must be a class of torch.optim ({known}), or the path of another optimizer's "
            "class, such as transformers.Adafactor."
        )
    return found


def is_optimizer(kind: object) -> bool:
    """Whether `kind` is an optimizer that takes groups of parameters, and their gradients as they come here, dense."""
    return isinstance(kind, type) and issubclass(kind, Optimizer) and kind.__name__ not in UNFIT


def new_optimizer(
    name: str, groups: list[dict[str, Any]], lr: float, weight_decay: float, arguments: Mapping[str, Any] | None
) -> Optimizer:
    """Make an optimizer of groups that have their own `lr` and `weight_decay`.

    Raises:
        UserError: if it does not take these arguments.
    """
    kind: Callable[..., Optimizer] = optimizer_class(name)
    given = dict(arguments or {})
    for ours in ("lr", "weight_decay"):
        if ours in given:
            raise UserError(f"`model.optimizer_args` has {ours!r}: give it as `model.{ours}`.")
    if "params" in given:
        raise UserError("`model.optimizer_args` has 'params', which are those that the method trains: leave it out.")
    takes = inspect.signature(kind).parameters
    if "weight_decay" not in takes:
        if weight_decay:
            raise UserError(f"`model.weight_decay`={weight_decay}: {name} has no weight decay; leave it out.")
        groups = [{key: value for key, value in each.items() if key != "weight_decay"} for each in groups]
    try:
        return kind(groups, lr=lr, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"`model.optimizer`={name!r} with `model.optimizer_args`={given}: {error}") from error


def check_optimizer(name: str, lr: float, weight_decay: float, arguments: Mapping[str, Any] | None) -> None:
    """Raise `UserError` unless the optimizer can be made, which is tried with one small matrix."""
    new_optimizer(name, [{"params": [nn.Parameter(torch.zeros(2, 2))]}], lr, weight_decay, arguments)


def parameter_groups(
    module: nn.Module,
    lr: float,
    weight_decay: float,
    head: set[int],
    head_lr: float | None = None,
    lr_multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """The optimizer's parameter groups: one for each learning rate, with and without weight decay.

    Biases, layer norms and scalars have no weight decay. The groups of `lr` itself come first.

    Args:
        module: the module whose parameters are trained.
        lr: learning rate of all parameters that have no other.
        weight_decay: weight decay of those that have one.
        head: the parameters of the head, by `id`.
        head_lr: learning rate of the head.
        lr_multipliers: by name of parameters a factor of their learning rate; of several names, the last one counts.

    Raises:
        UserError: if a name is that of no trained parameter, or there is no head for `head_lr`.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    norms = {id(p) for part in module.modules() if is_norm(part) for p in part.parameters(False)}
    if head_lr is not None and not head:
        raise UserError(
            f"`model.head_lr`={head_lr}: this model has no head that is trained, and nothing is drawn anew; leave it "
            "out, or use `model.lr_multipliers` for parameters by name."
        )
    factors = dict.fromkeys(trained, 1.0)
    for pattern, factor in (lr_multipliers or {}).items():
        named = [name for name in trained if is_named(name, pattern)]
        if not named:
            last = sorted({name.split(".")[-1] for name in trained})
            raise UserError(
                f"`model.lr_multipliers`: {pattern!r} is the name of no trained parameter; their last parts are "
                f"{', '.join(last)}, and * stands for anything."
            )
        factors |= dict.fromkeys(named, float(factor))
    groups: dict[tuple[float, bool], list[Tensor]] = {(lr, True): [], (lr, False): []}
    for name, p in trained.items():
        rate = (head_lr if head_lr is not None and id(p) in head else lr) * factors[name]
        decays = not (re.search(r"bias(\.\d+)?$", name) or id(p) in norms or p.ndim == 0)
        groups.setdefault((rate, decays), []).append(p)
    return [
        {"params": some, "lr": rate, "weight_decay": weight_decay if decays else 0.0}
        for (rate, decays), some in groups.items()
        if some
    ]


def is_named(name: str, pattern: str) -> bool:
    """Whether a parameter's whole name, or its end after a dot, matches `pattern`."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"*.{pattern}")


def check_multipliers(lr_multipliers: Mapping[str, Any] | None) -> None:
    """Raise `UserError` unless all values are numbers from 0 up."""
    for pattern, factor in (lr_multipliers or {}).items():
        number = cast(float, factor) if isinstance(factor, int | float) and not isinstance(factor, bool) else -1.0
        if not 0 <= number < float("inf"):
            raise UserError(f"`model.lr_multipliers`: {pattern}={factor!r} must be a number from 0 up.")
