"""Weights from a few labelled rows: Huang et al., LoraHub, 2023, arXiv:2307.13269, section 3."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, cast

import torch

from kronlit.config.signatures import parameters
from kronlit.config.user_error import UserError
from kronlit.data import TaskData
from kronlit.exchange.combine.combination import Combination
from kronlit.exchange.combine.weights import Weights
from kronlit.modules import FrozenPLM
from kronlit.modules.batch import Batch

REACH = 1.5
"""No weight is larger in size (recalled of the paper's code)."""
PENALTY = 0.05
"""What the mean size of the weights is multiplied by and added to the loss, as copies of the paper's code have it."""
STEPS = 40
"""How often the rows are read, as copies of the paper's code have it."""


def few_batches(module: FrozenPLM, data: TaskData) -> list[Batch]:
    """The training rows of `data` as batches of `module`."""
    data.trainer = cast(Any, SimpleNamespace(lightning_module=module, global_rank=0, world_size=1))
    loaders: Iterator[Any] = data._eval_loaders(("train",))
    return list(chain.from_iterable(loaders))


def check_own_rows(kind: type[TaskData]) -> None:
    """Raise `ValueError` unless data of this kind can be told which file to read."""
    if "train" not in parameters(kind):
        raise UserError(
            f"`few` is a file, and the config's data, {kind.__name__}, reads none: take a config of your own files, "
            "such as TextFiles or InstructionFiles."
        )


def search_weights(
    combination: Combination, module: FrozenPLM, batches: Sequence[Batch], steps: int = STEPS, penalty: float = PENALTY
) -> Weights:
    """The weights with the least loss on `batches`, plus `penalty` times the mean of their sizes.

    They begin uniform and lie in [-1.5, 1.5]. No gradient is taken: the search is scipy's COBYQA, which models the
    loss by quadratics and draws nothing.

    Args:
        combination: the adapters in their model.
        module: the module that reads the rows; its model becomes that of `combination`.
        batches: the rows.
        steps: the most evaluations.
        penalty: the factor of the penalty.
    """
    try:
        from scipy.optimize import Bounds, minimize
    except ImportError as error:
        raise UserError("`few` searches by scipy, which is not here: pip install 'kronlit[study]'.") from error
    module.model = combination.model
    module.eval()
    adapters, layers = len(combination.members), combination.layers

    def loss(values: Sequence[float]) -> float:
        combination.set_weights([[float(value)] * layers for value in values])
        size = sum(abs(float(value)) for value in values) / adapters
        return mean_loss(module, batches) + penalty * size

    best = Lowest(loss, adapters)
    options = {"maxfev": steps, "initial_tr_radius": 0.5}
    found = minimize(best, [1 / adapters] * adapters, method="COBYQA", bounds=Bounds(-REACH, REACH), options=options)
    losses = f"loss with its penalty {best.value:.4f}, with equal weights {best.start:.4f}"
    print(f"{found.nfev} readings of the rows; {losses}.")
    return [[value] * layers for value in best.at]


class Lowest:
    """A function that remembers its lowest value, where that was, and its first value."""

    def __init__(self, of: Callable[[Sequence[float]], float], size: int) -> None:
        self.of = of
        self.at: list[float] = [1 / size] * size
        self.value, self.start = math.inf, math.nan

    def __call__(self, values: Sequence[float]) -> float:
        found = self.of(values)
        if math.isnan(self.start):
            self.start = found
        if found < self.value:
            self.at, self.value = [float(value) for value in values], found
        return found


@torch.no_grad()
def mean_loss(module: FrozenPLM, batches: Sequence[Batch]) -> float:
    """The mean loss of all predictions of some batches."""
    losses = torch.cat([module.training_pass(batch)[0].float().flatten() for batch in batches])
    return losses.mean().item()
