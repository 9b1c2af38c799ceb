"""`kronlit.save`: writes what was added to a model and trained to a folder that `kronlit.load` opens."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from kronlit.adapters import parameter_counts
from kronlit.adapters.transaction import INJECTED
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import config_of, with_one_expert, write_adapter
from kronlit.exchange.class_names import class_names
from kronlit.exchange.new_folder import new_folder
from kronlit.exchange.peft.read import PEFT
from kronlit.exchange.peft.write import to_peft
from kronlit.methods import Method
from kronlit.methods.base import group
from kronlit.structured import Mixture


def save(model: PreTrainedModel, output: str | Path) -> None:
    """Write what `kronlit.inject` added to a Transformers model, and whatever else was trained.

    A classifier's head is always included, because the pre-trained model's files may have none, or another one.

    Args:
        model: a model from `kronlit.inject` or `kronlit.load`; a PEFT adapter is written in PEFT's format.
        output: the folder to write, which must not exist.

    Raises:
        ValueError: if nothing was added to `model`, or `output` cannot be written.

    Example:
        >>> save(model, "adapter")  # doctest: +SKIP
        >>> model = load("adapter")  # doctest: +SKIP
    """
    if not isinstance(model, PreTrainedModel):
        raise UserError(f"`model` must be a model of Transformers, not a {type(model).__name__}.")
    method = vars(model).get(INJECTED)
    if isinstance(method, Method):
        with mark_head_trained(model), new_folder(output) as folder:
            method = with_one_expert(method) if is_collapsed(model) else method
            counted = parameter_counts(model)[1]
            write_adapter(folder, model, config_of(model, method, model.config.name_or_path, "", counted))
    elif method == PEFT:
        adapter = to_peft(model, model.config.name_or_path)
        with new_folder(output) as folder:
            adapter.write(folder, class_names(model))
    else:
        raise UserError(
            "`model` holds nothing that `kronlit.inject` added. A merged model is written by its own `save_pretrained`."
        )


def is_collapsed(model: nn.Module) -> bool:
    """Whether all mixtures of `model`, if any, have one expert, as after `kronlit.collapse`."""
    return all(module.num_experts == 1 for module in model.modules() if isinstance(module, Mixture))


@contextmanager
def mark_head_trained(model: PreTrainedModel) -> Iterator[None]:
    """Mark a classifier's head as trained for a while, so that it is written with the trained parameters."""
    head = group(model, "head") if "Classification" in type(model).__name__ else []
    frozen = [parameter for parameter in head if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
