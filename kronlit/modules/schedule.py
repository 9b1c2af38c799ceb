"""The schedule of the learning rate: one of Transformers', by name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import SchedulerType, get_scheduler

from kronlit.config.user_error import UserError

BY_SCORE = ("reduce_lr_on_plateau", "greedy")
"""Those of Transformers' schedules that follow a score rather than the steps."""
ENDLESS = ("constant", "constant_with_warmup", "inverse_sqrt")
"""Those that need not know the last step."""
PLAIN = ("constant", "constant_with_warmup")
"""Those without arguments of their own, to which Transformers would pass none."""
SCHEDULES = tuple(kind.value for kind in SchedulerType if kind.value not in BY_SCORE)


def new_schedule(
    name: str, optimizer: Optimizer, warmup: float, steps: float, arguments: Mapping[str, Any] | None
) -> LambdaLR:
    """Make a schedule of all training steps.

    Args:
        name: its name in Transformers.
        optimizer: the optimizer whose rates it sets.
        warmup: number of steps of warm-up; a value below 1 is a share of all steps.
        steps: number of all steps; infinity if there is no end.
        arguments: further arguments of the schedule.

    Raises:
        UserError: if it is unknown, needs an end, or does not take these arguments.
    """
    if name not in SCHEDULES:
        why = " it follows a score, not the steps, and" if name in BY_SCORE else ""
        raise UserError(f"`model.schedule`={name!r}:{why} it must be one of {', '.join(SCHEDULES)}.")
    if steps == float("inf") and (name not in ENDLESS or 0 < warmup < 1):
        raise UserError(
            f"`model.schedule`={name!r} with `model.warmup`={warmup} needs an end: set `trainer.max_epochs` or "
            "`trainer.max_steps`."
        )
    rising = round(warmup * steps) if 0 < warmup < 1 else int(warmup)
    if name == "constant" and rising:
        raise UserError(f"`model.warmup`={warmup} is for `model.schedule`='constant_with_warmup': 'constant' has none.")
    end = None if steps == float("inf") else int(steps)
    given = dict(arguments or {})
    if name == "warmup_stable_decay" and end is not None:  # it needs its last part's length, and gives no default
        given.setdefault("num_decay_steps", max(1, end // 10))
    if given and name in PLAIN:
        raise UserError(f"`model.schedule_args`={given}: {name!r} takes none; leave it out.")
    try:
        schedule = get_scheduler(name, optimizer, rising, end, scheduler_specific_kwargs=given)
    except (TypeError, ValueError) as error:
        raise UserError(f"`model.schedule`={name!r} with `model.schedule_args`={given}: {error}") from error
    assert isinstance(schedule, LambdaLR)
    return schedule


def check_schedule(name: str, arguments: Mapping[str, Any] | None) -> None:
    """Raise `UserError` unless the schedule can be made, which is tried for ten steps."""
    new_schedule(name, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), 0.0, 10.0, arguments)
