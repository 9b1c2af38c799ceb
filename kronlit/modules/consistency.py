"""Two stochastic passes that are to agree: Wang et al., AdaMix, arXiv:2205.12410; Liang et al., R-Drop, 2106.14448."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def symmetric_divergence(p: Tensor, q: Tensor) -> Tensor:
    r""":math:`\frac12 [\mathrm{KL}(\bar q \| p) + \mathrm{KL}(\bar p \| q)]`, the mean over predictions.

    A bar means that no gradient goes there. Both are log-probabilities, `(predictions, classes)`.
    """
    first = F.kl_div(p, q.detach(), reduction="batchmean", log_target=True)
    second = F.kl_div(q, p.detach(), reduction="batchmean", log_target=True)
    return (first + second) / 2


def doubled(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of the same rows, tensors or lists, twice over, all once before any comes again."""
    return {name: torch.cat((v, v)) if isinstance(v, Tensor) else [*v, *v] for name, v in batch.items()}
