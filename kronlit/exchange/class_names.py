"""Matches the classes of an adapter and a model by their names."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.exchange.peft.write import CLASSES
from kronlit.methods.base import body
from kronlit.modules.plm import load_config


def real_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The names of classes; empty if they are only Transformers' default names, `LABEL_0` and so on."""
    generic = all(label == f"LABEL_{number}" for number, label in enumerate(labels))
    return () if generic else tuple(labels)


def class_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of a classifier's classes in the order of its outputs; empty if it has or knows none."""
    if "Classification" not in type(model).__name__:
        return ()
    return names_in(model.config)


def names_in(config: Any) -> tuple[str, ...]:
    """Names of the classes in a model's config; empty if they are only default names."""
    names = config.id2label or {}
    return real_names([str(names[number]) for number in sorted(names)])


def as_config(labels: Sequence[str]) -> dict[str, Any]:
    """Class names as arguments for a model's config."""
    names = dict(enumerate(labels))
    return {"id2label": names, "label2id": {name: number for number, name in names.items()}}


def peft_base(content: dict[str, Any]) -> str | None:
    """The model, with its revision, that PEFT's adapter_config.json names; `None` if it names none."""
    plm, revision = content.get("base_model_name_or_path"), content.get("revision")
    if not isinstance(plm, str):
        return None
    return f"{plm}@{revision}" if revision and not Path(plm).exists() else plm


def peft_class_names(file: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """Class names of a PEFT adapter: those in the file of tensors, else those of the model that `content` names."""
    plm = peft_base(content)
    try:
        with safe_open(file, "pt") as tensors:
            names = json.loads((tensors.metadata() or {}).get(CLASSES, "null"))
        if names is None:
            names = names_in(load_config(plm)) if plm is not None else ()
    except (OSError, SafetensorError, ValueError):  # a damaged file is reported later, when the tensors are read
        return ()
    return real_names(tuple(map(str, names))) if isinstance(names, list | tuple) else ()


def output_layer(model: nn.Module, classes: int) -> str | None:
    """The name of a classifier's output layer: outside of its body, with one output for each class."""
    inside = body(model)
    layers = [
        name
        for name, module in model.named_modules()
        if getattr(module, "out_features", None) == classes
        and not any(id(parameter) in inside for parameter in module.parameters())
    ]
    return layers[-1] if layers else None


def rows_by_name(
    model: nn.Module, state: dict[str, Tensor], theirs: Sequence[str], ours: Sequence[str], where: str
) -> dict[str, Tensor]:
    """Reorder the rows of the output layer in `state` from the classes `theirs` to `ours`.

    Raises:
        ValueError: if `state` has no output layer whose rows could be reordered.
    """
    layer = output_layer(model, len(ours))
    if layer is None or f"{layer}.weight" not in state:
        raise UserError(
            f"{where} has the classes {', '.join(theirs)} in this order, the model {', '.join(ours)}, and no output "
            "layer of its own that could be put in order: give the classes in that order."
        )
    order = [theirs.index(name) for name in ours]
    rows = (f"{layer}.weight", f"{layer}.bias")
    return {name: tensor[order] if name in rows else tensor for name, tensor in state.items()}


def match_classes(
    model: PreTrainedModel, state: dict[str, Tensor], theirs: Sequence[str], where: str
) -> dict[str, Tensor]:
    """Reorder `state` from the classes `theirs` to those of `model`. If `model` knows no class names, set them.

    Raises:
        ValueError: if the model has other classes.
    """
    ours, theirs = class_names(model), real_names(theirs)
    if not theirs or ours == theirs or "Classification" not in type(model).__name__:
        return state
    if not ours and model.config.num_labels == len(theirs):
        for name, value in as_config(theirs).items():
            setattr(model.config, name, value)
        return state
    if set(ours) != set(theirs):
        raise UserError(
            f"{where} is of the classes {', '.join(theirs)}, and `model` has {', '.join(ours) or 'others'}: leave out "
            "`model`, or load it with these as its id2label."
        )
    return rows_by_name(model, state, theirs, ours, where)
