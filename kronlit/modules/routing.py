"""The mixtures of a model in training: where they draw their experts from, and which experts rest."""

from collections.abc import Iterable

import torch
from torch import nn

from kronlit.modules.idle_experts import IdleExperts
from kronlit.structured import Mixture


class Routing:
    """What the mixtures of one model share.

    Attributes:
        generator: of the draws in training. It is alike on all processes: one expert takes the whole global batch.
    """

    def __init__(self) -> None:
        self.generator = torch.Generator()
        self._mixtures: list[Mixture] = []
        self._idle: IdleExperts | None = None

    def take(self, modules: Iterable[nn.Module]) -> None:
        """Have the mixtures among `modules` draw from one generator in training, and from another in evaluation."""
        self._mixtures = [module for module in modules if isinstance(module, Mixture)]
        evaluation = torch.Generator()
        for mixture in self._mixtures:
            mixture.generator, mixture.evaluation_generator = self.generator, evaluation

    def restore(self, state: torch.Tensor | None) -> None:
        """Go on with the draws in training from a state of the generator, if there is one."""
        if state is not None:
            self.generator.set_state(state.cpu())

    @property
    def draws(self) -> bool:
        """Whether two passes of a batch may go through different experts."""
        return any(mixture.num_experts > 1 for mixture in self._mixtures)

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the experts that rest in the next step of `optimizer`."""
        self._idle = IdleExperts(self._mixtures, optimizer)

    def after_step(self) -> None:
        """Undo what the step did to them."""
        if self._idle is not None:
            self._idle.restore()
            self._idle = None
