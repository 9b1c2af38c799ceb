"""Reads PEFT's folders as changes of weights."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters import Insertion, inject, placements
from kronlit.adapters.tied_weights import is_shared, untie, untie_blocker
from kronlit.adapters.transaction import INJECTED, all_or_nothing
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import read_tensors
from kronlit.exchange.class_names import as_config, match_classes, peft_base, peft_class_names
from kronlit.exchange.peft.change import PeftChange
from kronlit.exchange.peft.forms import FORMS
from kronlit.exchange.peft.write import PREFIX, TENSORS
from kronlit.modules.plm import load_model
from kronlit.modules.quantisation import Quantisation

AUTO_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "CAUSAL_LM": "AutoModelForCausalLM",
}
"""PEFT's task types, and the auto classes that open their models."""

PEFT = "PEFT"
"""What a model remembers instead of a method if its adapter is PEFT's."""


def read_peft(folder: Path, content: dict[str, Any]) -> tuple[dict[str, PeftChange], dict[str, Tensor]]:
    """Read a PEFT folder: the changes of weights by module, and the model's own parameters that it saved.

    Args:
        folder: the folder with adapter_model.safetensors.
        content: the content of its adapter_config.json.

    Raises:
        ValueError: if it is of another kind, or is a variant without a counterpart here.
    """
    kind, start = content.get("peft_type"), content.get("init_lora_weights", True)
    if kind not in FORMS:
        raise UserError(f"{str(folder)!r}: `peft_type`={kind!r} cannot be read; {', '.join(FORMS)} can.")
    form = FORMS[kind]
    if isinstance(start, str) and start not in ("gaussian", "eva", "orthogonal"):
        raise UserError(
            f"{str(folder)!r}: `init_lora_weights`={start!r} changes the frozen weights, which is not here."
        )
    if not (folder / TENSORS).is_file() and (folder / "adapter_model.bin").is_file():
        raise UserError(f"{str(folder)!r} has an adapter_model.bin, which might run code: save it as {TENSORS}.")
    parts: dict[str, dict[str, Tensor]] = {}
    own = {}
    for key, tensor in read_tensors(folder / TENSORS).items():
        name = key.removeprefix(PREFIX).replace(".base_layer.", ".")  # PEFT's name for a weight below an adapter
        if found := form.tensors.fullmatch(name):
            parts.setdefault(found[1], {})[found[2]] = tensor.float()
        elif re.search(rf"\.({'|'.join(FORMS)})_", name, re.IGNORECASE):
            raise UserError(f"{str(folder)!r} has {key}, of a variant of {kind} that is not here.")
        else:
            own[name] = tensor.float()
    try:
        changes = {name: form.read(name, tensors, content) for name, tensors in parts.items()}
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{str(folder)!r} is damaged: {error} is missing or of a wrong kind.") from error
    if not changes:
        raise UserError(f"{str(folder)!r} holds no {kind}.")
    return changes, own


@torch.no_grad()
def load_peft(
    folder: Path,
    content: dict[str, Any],
    model: PreTrainedModel | None,
    quantisation: Quantisation,
    own: bool = True,
) -> PreTrainedModel:
    """Put the adapter of a PEFT folder into `model`, or into the model that the folder names.

    Args:
        folder: the folder.
        content: the content of its adapter_config.json.
        model: the model; by default the one that the folder names.
        quantisation: how its frozen linear modules are stored.
        own: whether parameters of the model's own that the folder has, such as a head, are set, too.

    Raises:
        ValueError: if the folder cannot be read, or does not fit the model.
    """
    changes, saved = read_peft(folder, content)
    names = peft_class_names(folder / TENSORS, content)
    model = base_model(folder, content, saved, names)[0] if model is None else model
    saved = saved if own else {}
    if list(placements(model)):
        raise UserError("the model already holds adapters: merge them first, or load it afresh.")
    if others := saved.keys() - model.state_dict().keys():
        raise UserError(f"{str(folder)!r} has {min(others)}, and a {type(model).__name__} has not.")
    state = {f"{name}.{part}": tensor for name, one in changes.items() for part, tensor in one.state.items()}
    with all_or_nothing(model):
        quantisation.apply(model, [parameter for name, parameter in model.named_parameters() if name in saved])
        saved = match_classes(model, saved, names if head_rows(saved) == len(names) else (), repr(str(folder)))
        model.requires_grad_(False)
        inject(model, [Insertion((re.escape(name),), one.inserted()) for name, one in changes.items()])
        in_place = {wrapped_name(name, changes): tensor for name, tensor in saved.items()}
        check_shapes(model, in_place | state, folder)
        untie_if_different(model, in_place, folder)
        model.load_state_dict(in_place | state, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in state or name in saved)
    vars(model)[INJECTED] = PEFT
    return model.eval()


def wrapped_name(name: str, changes: Iterable[str]) -> str:
    """The name of a parameter after `changes` have wrapped modules."""
    module, _, own = name.rpartition(".")
    return f"{module}.host.{own}" if module in changes else name


def untie_if_different(model: nn.Module, own: dict[str, Tensor], folder: Path) -> None:
    """Untie the weights of `model` if PEFT saved a tied one with other values.

    PEFT trains such a module separately from the one that it was tied to.

    Raises:
        ValueError: if the weights of `model` cannot be untied.
    """
    there = dict(model.named_parameters(remove_duplicate=False))
    changed = {name for name in own if name in there and there[name].shape == own[name].shape}
    changed = {name for name in changed if not torch.equal(there[name], own[name].to(there[name]))}
    apart = [name for name in changed if is_shared(model, [there[name]])]
    if apart and (blocker := untie_blocker(model)):
        raise UserError(f"{str(folder)!r} has a {min(apart)} of its own: {blocker}.")
    if apart:
        untie(model)


def check_shapes(model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    """Raise `ValueError` if something in `state` has another shape in `model`."""
    there = model.state_dict()
    for name, tensor in state.items():
        if name not in there or there[name].shape != tensor.shape:
            shape = tuple(there[name].shape) if name in there else "nothing"
            raise UserError(f"{str(folder)!r} has {name} of shape {tuple(tensor.shape)}, where the model has {shape}.")


def head_rows(own: dict[str, Tensor]) -> int | None:
    """The number of classes of a trained head among the model's own parameters; `None` if there is none."""
    heads = [tensor for key, tensor in own.items() if re.search(r"(classifier|score|out_proj)\.weight$", key)]
    return min(map(len, heads)) if heads else None


def base_model(
    folder: Path, content: dict[str, Any], own: dict[str, Tensor], names: tuple[str, ...]
) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """Load the model that a PEFT folder names, in float32, with as many classes as the trained head.

    It also returns what of it is newly drawn.
    """
    auto, plm = AUTO_CLASSES.get(str(content.get("task_type"))), peft_base(content)
    if auto is None or plm is None:
        raise UserError(
            f"{str(folder)!r} does not say what it goes on (`task_type`={content.get('task_type')!r}, "
            f"`base_model_name_or_path`={content.get('base_model_name_or_path')!r}): give a `model`."
        )
    rows = head_rows(own) if auto.endswith("Classification") else None
    arguments = {} if rows is None else as_config(names) if len(names) == rows else {"num_labels": rows}
    return load_model(getattr(transformers, auto), plm, **arguments)
