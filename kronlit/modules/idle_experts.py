"""Keeps an optimiser step from changing experts of a mixture that no training forward has drawn."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kronlit.structured import Mixture


class IdleExperts:
    """The experts that were not drawn since the last step, with copies of their values and optimiser state.

    Make it before a step, and call `restore` after it. AdamW counts the steps of all experts of a factor together, so
    the bias correction of an expert also counts the steps in which it rested.

    Args:
        modules: modules that include the mixtures; only mixtures whose `idle` is `rest` count.
        optimizer: the optimiser that is about to step.
    """

    def __init__(self, modules: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.kept: list[tuple[nn.Parameter, list[int], Tensor, dict[str, Tensor]]] = []
        for module in modules:
            if isinstance(module, Mixture) and module.idle == "rest":
                for experts, idle in module.idle_experts():
                    state = {name: value[idle].clone() for name, value in self._moments(experts)}
                    self.kept.append((experts, idle, experts.detach()[idle].clone(), state))

    def _moments(self, experts: nn.Parameter) -> list[tuple[str, Tensor]]:
        """The optimiser's state of `experts` that has the same shape: one entry for each number."""
        state = self.optimizer.state.get(experts, {})
        return [(name, value) for name, value in state.items() if getattr(value, "shape", None) == experts.shape]

    @torch.no_grad()
    def restore(self) -> None:
        """Undo the step for these experts."""
        for experts, idle, values, state in self.kept:
            experts[idle] = values
            for name, value in self._moments(experts):
                value[idle] = state.get(name, value.new_zeros(()))
