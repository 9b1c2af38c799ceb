"""Experts of a mixture that no training forward drew, and that an optimiser is to leave alone."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kronlit.structured import Mixture


class IdleExperts:
    """The experts that were not drawn since the last step, with their values and their state in the optimiser.

    Take them before a step, and `restore` them after it. AdamW counts steps once for all experts of a factor, so the
    bias correction of an expert that rested counts its rests.

    Args:
        modules: among which are the mixtures; those whose `idle` is `rest` count.
        optimizer: that is about to step.
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
        """What the optimiser keeps of `experts` with one entry for each number."""
        state = self.optimizer.state.get(experts, {})
        return [(name, value) for name, value in state.items() if getattr(value, "shape", None) == experts.shape]

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what the step did to them."""
        for experts, idle, values, state in self.kept:
            experts[idle] = values
            for name, value in self._moments(experts):
                value[idle] = state.get(name, value.new_zeros(()))
