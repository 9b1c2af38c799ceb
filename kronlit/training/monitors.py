"""Checks before a training that the metrics which callbacks monitor will be logged at all."""

from lightning.pytorch import Callback

from kronlit.config.explain import nearest
from kronlit.config.user_error import UserError
from kronlit.modules import FrozenPLM
from kronlit.modules.causal_lm import CausalLM

IN_TRAINING = ("train/loss", "train/lr", "train/epoch_seconds", "epoch", "step")
"""The names that Lightning and `FrozenPLM` log besides the metrics of validation."""


def check_monitors(module: FrozenPLM, callbacks: dict[str, list[Callback]]) -> None:
    """Check the metrics that callbacks monitor.

    Args:
        module: the trained module.
        callbacks: the callbacks of each option that gives some.

    Raises:
        ValueError: if a callback monitors something that is not logged. With third-party classes nothing is checked,
            because they may log more.
    """
    everything = [module, *(callback for some in callbacks.values() for callback in some)]
    names = logged_names(module)
    if names is None or not all(type(one).__module__.split(".")[0] in ("kronlit", "lightning") for one in everything):
        return
    for option, some in callbacks.items():
        for callback in some:
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str) and getattr(callback, "strict", True) and monitor not in names:
                there = nearest(monitor, names, everything=True)
                raise UserError(f"`{option}.monitor`={monitor!r} is not logged in training{there}")


def logged_names(module: FrozenPLM) -> set[str] | None:
    """The names that a fit logs; `None` if the module's metrics do not tell theirs."""
    values = getattr(module.val_metrics[0], "names", None)
    if values is None:
        return None
    if isinstance(module, CausalLM) and not module.writes_in_validation:
        values = [name for name in values if name not in module.task.metrics]  # they need texts
    splits = ("val", *(f"val_{name}" for name in module.task.validation))
    return {*IN_TRAINING, *(f"{split}/{name}" for split in splits for name in values)}
