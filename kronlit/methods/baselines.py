"""Baselines without adapters: BitFit, a trained head, full fine-tuning."""

from dataclasses import dataclass

from torch import nn

from kronlit.adapters import Bias
from kronlit.adapters.calls import first_calls, is_passed_over
from kronlit.adapters.sites import is_named
from kronlit.methods.base import Group, Method, is_norm


@dataclass(frozen=True)
class BitFit(Method):
    """Train the biases (Ben Zaken et al., 2022, arXiv:2106.10199).

    A linear module or layer norm without a bias gets one that starts as zero. T5 has no biases at all, and Mahabadi et
    al. (arXiv:2106.04647) add one to every projection, to every layer norm and to the language-model head.

    Args:
        trains: what is trained besides the added biases.
    """

    trains: tuple[Group, ...] = ("bias", "head")

    def apply(self, model: nn.Module) -> None:
        super().apply(model)
        bare = [
            (name, module)
            for name, module in model.named_modules()
            if (isinstance(module, nn.Linear) or is_norm(module)) and getattr(module, "bias", None) is None
        ]
        calls = first_calls(model) if bare and not is_named(model) else {}
        for name, module in bare:
            if calls and is_passed_over(name, model, calls):  # the model only reads its weight
                continue
            width = module.out_features if isinstance(module, nn.Linear) else module.weight.shape[0]
            model.set_submodule(name, Bias(module, width, width).to(module.weight.device))


@dataclass(frozen=True)
class HeadOnly(Method):
    """Train only the head, on the frozen model's features (linear probing).

    Args:
        trains: what is trained.
    """

    trains: tuple[Group, ...] = ("head",)


@dataclass(frozen=True)
class FullFineTuning(Method):
    """Train everything.

    Args:
        trains: what is trained.
    """

    trains: tuple[Group, ...] = ("all",)
