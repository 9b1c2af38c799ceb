"""Weights that move in one random subspace: Aghajanyan et al., Intrinsic dimensionality, 2021, arXiv:2012.13255."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kronlit.adapters.reparametrisation import Reparametrisation, reparametrise
from kronlit.structured.fastfood import Fastfood


class RandomSubspace(Reparametrisation):
    r"""The parametrisation of one tensor as :math:`\theta_0 + \lambda P \theta` (SAID, equation 3).

    Args:
        theta: the coordinates in the subspace, `(d,)`. They start as zero, and all tensors share them.
        numel: number of entries of the tensor.
        seed: seed of its projection :math:`P`.
    """

    def __init__(self, theta: nn.Parameter, numel: int, seed: int) -> None:
        super().__init__()
        self.theta = theta
        self.scale = nn.Parameter(torch.ones((), device=theta.device))
        self.projection = Fastfood(len(theta), numel, seed)
        self._value: tuple[Any, Tensor] | None = None

    def forward(self, original: Tensor) -> Tensor:
        # Formed once a step and kept: Hugging Face code reads `weight` several times in each layer's forward pass.
        state = (self.theta._version, self.scale._version, original._version, torch.is_grad_enabled(), original.device)
        if self._value is None or self._value[0] != state:
            # These hooks do nothing but override those of gradient checkpointing, which would drop the saved tensors.
            with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
                value = original + (self.scale * self.projection(self.theta)).view_as(original)
            if value.requires_grad:
                value.register_hook(self._forget)  # backward frees this value's graph, so it cannot be used again
            self._value = (state, value)
        return self._value[1]

    def _forget(self, gradient: Tensor) -> None:
        self._value = None


def restrict(model: nn.Module, parameters: Iterable[nn.Parameter], dimension: int, seed: int) -> None:
    """Restrict `parameters` of `model` to one random subspace. Tied parameters stay tied.

    Args:
        model: the model whose modules hold the parameters.
        parameters: the parameters to restrict.
        dimension: how many numbers are trained in all, including the λ of each tensor.
        seed: seed of the projections.

    Raises:
        ValueError: if `dimension` does not exceed the number of tensors.
    """
    moves = list({id(parameter): parameter for parameter in parameters}.values())
    if packed := next((parameter.dtype for parameter in moves if not parameter.is_floating_point()), None):
        raise ValueError(f"all weights would move, and quantised ones ({packed}) cannot: leave out the quantisation.")
    if dimension <= len(moves):
        raise ValueError(
            f"`intrinsic_dimension`={dimension} must exceed the number of tensors, {len(moves)}, as each has a scale."
        )
    device = next(model.parameters()).device
    theta = nn.Parameter(torch.zeros(dimension - len(moves), device=device))
    maps = {
        id(parameter): RandomSubspace(theta, parameter.numel(), seed * 1_000_003 + number).to(device)
        for number, parameter in enumerate(moves)
    }
    reparametrise(model, maps)
