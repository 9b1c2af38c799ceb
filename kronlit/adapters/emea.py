"""Weights of several adapters for the rows at hand: Wang et al., Efficient test time adapter ensembling, 2021.

arXiv:2109.04877, algorithm 1: entropy minimised ensemble of adapters (EMEA).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from kronlit.adapters.several import Blend

Over = Literal["tokens", "all"]
Shared = Literal["row", "batch"]


def entropies(logits: Tensor) -> Tensor:
    """The entropy of each prediction in nats, `(...)`, of logits `(..., classes)`."""
    log_probabilities = logits.log_softmax(-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def check_layers(blend: Blend) -> None:
    """Raise a `ValueError` if there are no layers in which adapters could have weights."""
    if not blend.layers:
        raise ValueError(
            "`ensemble`='emea' finds weights by layer, and these adapters change no layer, only what lies outside of "
            "them: take 'uniform'."
        )


def minimise_entropy(
    blend: Blend,
    predict: Callable[[], tuple[Tensor, Tensor]],
    rows: int,
    steps: int = 10,
    step_size: float = 10.0,
    weights_of: Shared = "row",
    over: Over = "tokens",
) -> None:
    r"""Set the weights of `blend` to those with which it is sure of its predictions for some rows.

    Scores :math:`a` start at 0 in each layer, and take steps :math:`a - \gamma \nabla_a H`; the weights are their
    softmax. :math:`H` is the mean entropy of the predictions. No label is read.

    Args:
        blend: the weights to set.
        predict: gives logits `(rows, tokens, classes)` under the present weights, and which tokens are real,
            `(rows, tokens)`.
        rows: the number of rows.
        steps: the number of steps :math:`T`; 0 mixes uniformly.
        step_size: the size :math:`\gamma` of a step.
        weights_of: whether each row has its own weights, as with the paper's batches of one row, or all rows of the
            batch share them.
        over: whether H is the mean over real tokens, or over padding too, as in the paper's code.

    Raises:
        ValueError: if the adapters change no layer.
    """
    check_layers(blend)
    each = (rows,) if weights_of == "row" else ()
    scores = torch.zeros(len(blend.layers), *each, blend.adapters)
    for _ in range(steps):
        with torch.enable_grad():
            scores.requires_grad_()
            blend.weights = scores.softmax(-1)
            logits, real = predict()
            real = torch.ones_like(real) if over == "all" else real
            found = torch.where(real, entropies(logits), 0)
            mean = (found.sum(-1) / real.sum(-1)).sum() if each else found.sum() / real.sum()
            (gradient,) = torch.autograd.grad(mean, scores)
        scores = (scores - step_size * gradient).detach()
    blend.weights = scores.softmax(-1)
