"""How a module is trained: by which optimizer, at which learning rates, over which schedule."""

from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from kronlit.config.user_error import UserError
from kronlit.modules.optimizer import check_multipliers, check_optimizer, new_optimizer, parameter_groups
from kronlit.modules.schedule import check_schedule, new_schedule


class Optimized(LightningModule):
    """A module with an optimizer and a schedule of the learning rate; by default AdamW and linear decay.

    Args:
        lr: peak learning rate.
        weight_decay: the optimizer's weight decay, on all that is trained except biases, layer norms and scalars.
        warmup: number of steps of linear warm-up; a value below 1 is a share of all steps.
        optimizer: a class of torch.optim by name, such as AdamW, SGD or Adafactor, or the path of another, such as
            transformers.Adafactor.
        optimizer_args: its further arguments, such as `{betas: [0.9, 0.98]}`.
        schedule: what the learning rate does after the warm-up: linear, cosine, constant_with_warmup, constant,
            polynomial, inverse_sqrt or another of Transformers' schedules that go by steps.
        schedule_args: its further arguments, such as `{num_cycles: 2}`.
        head_lr: peak learning rate of the head, such as a classifier, and of all else that is drawn anew; by default
            `lr`.
        lr_multipliers: by name of trained parameters, a factor of their learning rate: `{b: 16}` is LoRA+ (Hayou et
            al. 2024, arXiv:2402.12354). A name is whole, or its end after a dot, and * stands for anything.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        warmup: float = 0.0,
        optimizer: str = "AdamW",
        optimizer_args: dict[str, Any] | None = None,
        schedule: str = "linear",
        schedule_args: dict[str, Any] | None = None,
        head_lr: float | None = None,
        lr_multipliers: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        numbers = {"lr": lr, "weight_decay": weight_decay, "warmup": warmup, "head_lr": head_lr}
        for name, value in numbers.items():
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"`model.{name}`={value} must be a number from 0 up.")
        check_multipliers(lr_multipliers)
        check_optimizer(optimizer, lr, weight_decay, optimizer_args)
        check_schedule(schedule, schedule_args)
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.optimizer = optimizer
        self.optimizer_args = optimizer_args
        self.schedule = schedule
        self.schedule_args = schedule_args
        self.head_lr = head_lr
        self.lr_multipliers = lr_multipliers

    def head_parameters(self) -> set[int]:
        """The trained parameters (by `id`) that `head_lr` is for."""
        return set()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        head = self.head_parameters()
        groups = parameter_groups(self, self.lr, self.weight_decay, head, self.head_lr, self.lr_multipliers)
        optimizer = new_optimizer(self.optimizer, groups, self.lr, self.weight_decay, self.optimizer_args)
        steps = self.trainer.estimated_stepping_batches
        schedule = new_schedule(self.schedule, optimizer, self.warmup, steps, self.schedule_args)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
