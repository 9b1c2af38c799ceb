"""The precision `bf16-true`: all that is frozen is bfloat16, and what is trained is float32."""

from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision


class TrueBFloat16(MixedPrecision):
    """Products and what lies between layers are bfloat16, as in Lightning's `bf16-true`; trained parameters are not.

    Lightning's own rounds these too, to three digits, and then loses most steps of Adam, which are smaller. `FrozenPLM`
    stores the frozen model in bfloat16, embeddings and layer norms with it, and autocast meets what is float32.

    Args:
        accelerator: `trainer.accelerator`.
    """

    def __init__(self, accelerator: str = "auto") -> None:
        on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
        super().__init__("bf16-mixed", "cpu" if on_cpu else "cuda")
        self.precision = "bf16-true"  # the name that a run is known by

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast(self.device, dtype=torch.bfloat16, cache_enabled=False)


def use_true_bfloat16(trainer: Any) -> None:
    """Put this in the place of Lightning's own in the settings of a trainer."""
    if trainer.precision == "bf16-true":
        trainer.precision = None
        trainer.plugins.append(TrueBFloat16(str(trainer.accelerator)))
