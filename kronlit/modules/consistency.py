"""The divergence of two stochastic passes: Wang et al., AdaMix, arXiv:2205.12410; Liang et al., R-Drop, 2106.14448."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kronlit.modules.batch import Batch, TrainingPass


def symmetric_divergence(p: Tensor, q: Tensor) -> Tensor:
    r""":math:`\frac12 [\mathrm{KL}(\bar q \| p) + \mathrm{KL}(\bar p \| q)]`, the mean over predictions.

    A bar stops the gradient. Both arguments are log-probabilities, `(predictions, classes)`.
    """
    first = F.kl_div(p, q.detach(), reduction="batchmean", log_target=True)
    second = F.kl_div(q, p.detach(), reduction="batchmean", log_target=True)
    return (first + second) / 2


def two_passes(training_pass: TrainingPass, batch: Batch, apart: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The losses of a first pass of a batch, its log-probabilities, and those of a second pass.

    Args:
        training_pass: gives losses and log-probabilities, both by prediction.
        batch: the rows.
        apart: take one pass after the other, as each has experts of its own. Else both are one pass of twice the rows,
            which takes a fifth less time where batches are small.
    """
    if apart:
        (losses, p), (_, q) = training_pass(batch), training_pass(batch)
        assert p is not None
        assert q is not None
        return losses, p, q
    losses, both = training_pass(repeat_batch(batch))
    assert both is not None
    p, q = both.chunk(2)
    return losses.chunk(2)[0], p, q


def repeat_batch(batch: Batch) -> Batch:
    """Repeat all rows of a batch once, in the same order."""
    return {name: torch.cat((v, v)) if isinstance(v, Tensor) else [*v, *v] for name, v in batch.items()}
