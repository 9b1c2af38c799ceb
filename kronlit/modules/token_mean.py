"""The loss as the mean over all target tokens of an optimizer's step, over its batches and processes."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor


class TokenMean:
    """Weighs batches by their target tokens.

    A trainer averages over the batches that it accumulates and over processes, so a token of a batch of few would
    weigh more. Here each batch gives the sum of its losses over a constant, and the gradients are divided by the number
    of all tokens when that is known, before they are clipped.

    Args:
        unit: the constant: about the number of tokens of a batch, so that losses of 16 bits stay in range.
    """

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.tokens: Tensor | None = None

    def share(self, mean: Tensor, tokens: Tensor) -> Tensor:
        """The share of a batch in its step's loss.

        Args:
            mean: mean loss of a token of the batch.
            tokens: number of its target tokens.
        """
        self.tokens = tokens if self.tokens is None else self.tokens + tokens
        return mean * tokens / self.unit

    def rescale(self, optimizer: torch.optim.Optimizer, trainer: Trainer) -> None:
        """Make the gradients those of the mean over the step's tokens."""
        if self.tokens is None:
            return
        tokens = trainer.strategy.reduce(self.tokens, reduce_op="sum")
        factor = self.unit * trainer.accumulate_grad_batches * trainer.world_size / tokens
        self.tokens = None
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
