"""Records in a checkpoint what its weights belong to, and checks that a module has the same."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from kronlit.adapters.state import fingerprint_below, state_mismatch
from kronlit.config.user_error import UserError
from kronlit.data.trained_task import check_task, number_columns, task_of, task_record
from kronlit.methods.written import describe_method

if TYPE_CHECKING:
    from kronlit.modules.base import FrozenPLM


def origin(module: "FrozenPLM", fingerprint: str) -> dict[str, Any]:
    """The method, the frozen model (not its path), what is below, the task, and how the task's rows are read."""
    assert module.model is not None
    return {
        "method": describe_method(module.method),
        "plm": f"a model with fingerprint {fingerprint}",
        "below": fingerprint_below(module.model),
        "task": task_record(module.task),
        "reads": reads(module),
    }


def reads(module: "FrozenPLM") -> list[str]:
    """The templates that turn rows into a module's text, with numbers in place of column names."""
    return [number_columns(template, module.task.columns) for template in module.reads()]


def check_meaning(module: "FrozenPLM", checkpoint: dict[str, Any]) -> None:
    """Raise `ValueError` unless a checkpoint has the classes and columns of a module. This needs no weights."""
    if (task := task_of(checkpoint)) is not None:
        check_task(module.task, task)
    ours = reads(module)
    if (theirs := checkpoint.get("kronlit", {}).get("reads", ours)) != ours:
        raise UserError(
            f"the checkpoint was trained on rows as {theirs}, and `data` has them as {ours}: give the columns names "
            "that they had."
        )


def check_origin(ours: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    """Raise `ValueError` unless a checkpoint has the same method and frozen model."""
    for name in ("method", "plm"):
        theirs = checkpoint.get("kronlit", {}).get(name, ours[name])
        if theirs != ours[name]:
            raise UserError(f"the checkpoint was trained with `model.{name}`={theirs}, not {ours[name]}.")
    below = checkpoint.get("kronlit", {}).get("below", "none")
    if ours["below"] not in (None, below):  # several in its place are mixed, which says that they are others
        raise UserError(
            f"the checkpoint was trained on an adapter `below` with fingerprint {below}, not {ours['below']}. "
            "Give that one as `below`; to test or predict with others in its place, name them as `adapters`."
        )


def check_adapter_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Raise `UserError` unless `state` holds exactly what `model` trains, in the same shapes.

    Lightning would not notice: a checkpoint without the frozen model needs `strict_loading=False`.
    """
    if fault := state_mismatch(model, state):
        raise UserError(
            f"the checkpoint does not fit `model.method` or `model.plm`: it {fault}. "
            "Use the config.yaml of its run's folder."
        )
