"""Logs how far a step moves the weights: the one figure that is comparable between structures."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from kronlit.adapters import Delta, WeightChange, placements
from kronlit.adapters.linear import is_whole, matrix_of, weight_of

PER_EPOCH = 4
"""Steps of an epoch that are measured."""
GAP = 25
"""The fewest steps between two that are measured, so that short epochs cost no more."""
HOSTS = 4
"""The most layers of a site that are measured; they lie evenly from the first to the last."""


@dataclass
class Measured:
    """A change of a weight that is measured.

    Args:
        site: the site.
        placement: the placement.
        rows: the rows of the weight, by a slice or their numbers.
        size: root mean square of these rows of the frozen weight.
    """

    site: str
    placement: WeightChange
    rows: Tensor | slice
    size: float


class UpdateRatio(Callback):
    """Logs `update_ratio/SITE`: the root mean square of a step of ΔW over that of the frozen weight.

    It is the mean over some layers. 1e-4 to 1e-3 is usual where a fine-tuning goes well.
    """

    def __init__(self) -> None:
        self.measured: list[Measured] = []
        self.before: list[list[Tensor]] | None = None
        self.step = 0

    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        by_site: dict[str, list[Measured]] = {}
        for each in changes(cast(Any, pl_module).model):
            by_site.setdefault(each.site, []).append(each)
        self.measured = [each for some in by_site.values() for each in spread(some)]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.step = trainer.global_step
        steps = trainer.num_training_batches / trainer.accumulate_grad_batches
        every = max(GAP, int(steps / PER_EPOCH)) if steps < float("inf") else 10 * GAP
        if self.measured and self.step % every == every // 2:  # not the first, at which a warm-up has a rate of 0
            self.before = [[p.detach().clone() for p in trained(each.placement)] for each in self.measured]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if self.before is None:
            return
        ratios: dict[str, list[float]] = {}
        for each, values in zip(self.measured, self.before, strict=True):
            now = dense(each)
            parameters = trained(each.placement)
            for p, value in zip(parameters, values, strict=True):  # exchanged, not copied: the step's values stay
                p.data, value.data = value.data, p.data
            then = dense(each)
            for p, value in zip(parameters, values, strict=True):
                p.data, value.data = value.data, p.data
            ratios.setdefault(each.site, []).append(root_mean_square(now - then) / each.size)
        self.before = None
        for logger in trainer.loggers:
            logger.log_metrics({f"update_ratio/{site}": fmean(some) for site, some in ratios.items()}, self.step)


def changes(model: torch.nn.Module) -> Iterator[Measured]:
    """All changes of plain weights in `model`, the parts of a module that computes several projections apart."""
    for _, placement in placements(model):
        if not isinstance(placement, WeightChange) or not trained(placement):
            continue
        weight = weight_of(placement.host)
        # A weight that is sharded over processes is gathered by all of them.
        whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        if not is_whole(whole) or not (whole is weight or isinstance(placement, Delta)):  # others need it at each step
            continue
        matrix = whole if weight is matrix_of(placement.host) else whole.T
        for site, rows in placement.parts.items():
            if size := root_mean_square(matrix[rows]):
                yield Measured(site, placement, rows, size)


def spread(some: list[Measured]) -> list[Measured]:
    """At most `HOSTS` of them, evenly from the first to the last."""
    last = len(some) - 1
    return some if last < HOSTS else [some[round(i * last / (HOSTS - 1))] for i in range(HOSTS)]


def trained(placement: WeightChange) -> list[torch.nn.Parameter]:
    """The trained parameters of a change."""
    return [p for p in placement.added() if p.requires_grad]


def dense(each: Measured) -> Tensor:
    """The change itself, `(rows, in_features)`."""
    return each.placement.change(matrix_of(each.placement.host))[each.rows]


def root_mean_square(values: Tensor) -> float:
    """Root mean square of all entries."""
    return (torch.linalg.vector_norm(values, dtype=torch.float32) / values.numel() ** 0.5).item()
