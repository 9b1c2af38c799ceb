"""Whether what callbacks watch in training is logged at all, asked before the training."""

from lightning.pytorch import Callback

from kronlit.config.explain import nearest
from kronlit.config.user_error import UserError
from kronlit.modules import FrozenPLM
from kronlit.modules.causal_lm import CausalLM

IN_TRAINING = ("train/loss", "train/lr", "train/epoch_seconds", "epoch", "step")
"""What Lightning and `FrozenPLM` log beside the metrics of validation."""


def check_monitors(module: FrozenPLM, callbacks: dict[str, list[Callback]]) -> None:
    """Check what callbacks watch.

    Args:
        module: what is trained.
        callbacks: by the option that gives them.

    Raises:
        ValueError: if one watches what is not logged. Where a class of a third party is among them there may be more.
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
    """The names of what a fit logs; `None` where its metrics do not say theirs."""
    values = getattr(module.val_metrics[0], "names", None)
    if values is None:
        return None
    if isinstance(module, CausalLM) and module.validate_by == "loss":
        values = [name for name in values if name not in module.task.metrics]  # they need texts
    splits = ("val", *(f"val_{name}" for name in module.task.validation))
    return {*IN_TRAINING, *(f"{split}/{name}" for split in splits for name in values)}
