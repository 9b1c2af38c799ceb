"""Checks that Lightning's strategy and precision can train adapters and save them."""

from typing import Any

from lightning.pytorch.plugins import BitsandbytesPrecision, DeepSpeedPrecision
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
)
from lightning.pytorch.strategies.single_xla import SingleDeviceXLAStrategy
from lightning.pytorch.strategies.xla import XLAStrategy

from kronlit.config.user_error import UserError
from kronlit.modules.precision import PRECISIONS

WORK = ("auto", "ddp", "ddp_sharded")
OTHERS = (DeepSpeedStrategy, XLAStrategy, SingleDeviceXLAStrategy)
"""Subclasses of the DDP and single-device strategies that keep weights and checkpoints in their own way."""
SHORT = ("32", "bf16", "16")
"""Lightning's short names for `PRECISIONS`."""


def check_strategy(strategy: str | Strategy, plugins: list[Any]) -> None:
    """Refuse strategies that would fail or write unreadable checkpoints, and plugins of such strategies.

    Raises:
        ValueError: if it is neither DDP nor for a single device, or does not start its processes by a command line.
    """
    if any(isinstance(plugin, DeepSpeedPrecision) for plugin in plugins):
        raise UserError(
            "`trainer.plugins`: DeepSpeedPrecision is for DeepSpeed alone: set `trainer.precision` instead."
        )
    if any(isinstance(plugin, BitsandbytesPrecision) for plugin in plugins):
        raise UserError(
            "`trainer.plugins`: BitsandbytesPrecision would quantise what is trained, too: set `model.quantization` "
            "instead."
        )
    kind, start, name = type(strategy), getattr(strategy, "_start_method", "popen"), type(strategy).__name__
    if isinstance(strategy, str):
        if strategy == "auto":
            return
        known = dict(StrategyRegistry).get(strategy, {"strategy": object, "init_params": {}})
        kind, start, name = known["strategy"], known["init_params"].get("start_method", "popen"), strategy
    if not issubclass(kind, (DDPStrategy, SingleDeviceStrategy)) or issubclass(kind, OTHERS) or start != "popen":
        raise UserError(
            f"`trainer.strategy`={name!r} cannot train what is added and save it: use one of {', '.join(WORK)}."
        )


def check_precision_name(precision: str | int | None) -> None:
    """Refuse what `check_precision` would refuse, before Lightning asks for packages that it needs."""
    if precision is not None and str(precision) not in (*PRECISIONS, *SHORT):
        raise UserError(f"`trainer.precision`='{precision}' would not train in float32; use {', '.join(PRECISIONS)}.")
