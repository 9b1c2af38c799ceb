"""Reads PEFT's LoRA, LoKr and C3A folders as changes of weights."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters import Delta, Insertion, inject, placements
from kronlit.adapters.tied_weights import is_shared, untie, untie_blocker
from kronlit.adapters.transaction import INJECTED, all_or_nothing
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import read_tensors
from kronlit.exchange.class_names import as_config, match_classes, peft_base, peft_class_names
from kronlit.exchange.peft.write import PREFIX, TENSORS
from kronlit.modules.plm import load_model
from kronlit.structured import Circulant, Kronecker, LowRank, StructuredLinear

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

NAMES = {
    "LORA": re.compile(r"(.+)\.lora_(A|B)\.weight"),
    "LOKR": re.compile(r"(.+)\.lokr_(w[12](?:_[ab])?)"),
    "C3A": re.compile(r"(.+)\.c3a_(kernel)"),
}
"""The kinds of PEFT adapters that can be read, with the pattern of their tensors' names: module and part."""


@dataclass(frozen=True)
class PeftChange:
    """A change of one weight, `scale` times a matrix: `B A` for LoRA, `A ⊗ B` for LoKr, a circulant for C3A.

    Args:
        kind: class of the matrix.
        parts: its parameters by name. Scaling the last one scales the matrix.
        scale: the fixed factor.
    """

    kind: type[LowRank] | type[Kronecker] | type[Circulant]
    parts: dict[str, Tensor]
    scale: float

    def placement(self, dropout: float) -> partial[Delta]:
        """Makes the placement of this change in a model."""
        a = self.parts["a"]
        matrix: Callable[[int, int], StructuredLinear] = Circulant
        if self.kind is LowRank:
            matrix = partial(LowRank, rank=len(a))
        elif self.kind is Kronecker:
            matrix = partial(Kronecker, a_shape=(a.shape[0], a.shape[1]))
        return partial(Delta, matrix=matrix, scale=self.scale, dropout=dropout)


def read_peft(folder: Path, content: dict[str, Any]) -> tuple[dict[str, PeftChange], dict[str, Tensor]]:
    """Read a PEFT folder: the changes of weights by module, and the model's own parameters that it saved.

    Args:
        folder: the folder with adapter_model.safetensors.
        content: the content of its adapter_config.json.

    Raises:
        ValueError: if it is not LoRA, LoKr or C3A, or is a variant without a counterpart here.
    """
    kind, start = content.get("peft_type"), content.get("init_lora_weights", True)
    if kind not in NAMES:
        raise UserError(f"{str(folder)!r}: `peft_type`={kind!r} cannot be read; {', '.join(NAMES)} can.")
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
        if found := NAMES[kind].fullmatch(name):
            parts.setdefault(found[1], {})[found[2]] = tensor.float()
        elif re.search(r"\.(lora|lokr|c3a)_", name):
            raise UserError(f"{str(folder)!r} has {key}, of a variant of {kind} that is not here.")
        else:
            own[name] = tensor.float()
    try:
        changes = {name: read_change(name, tensors, content) for name, tensors in parts.items()}
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{str(folder)!r} is damaged: {error} is missing or of a wrong kind.") from error
    if not changes:
        raise UserError(f"{str(folder)!r} holds no {kind}.")
    return changes, own


def read_change(name: str, tensors: dict[str, Tensor], content: dict[str, Any]) -> PeftChange:
    """Make the change of one module from its tensors and the config."""
    if "kernel" in tensors:
        if tensors["kernel"].shape[:2] != (1, 1):
            raise UserError(f"{name} has circulant blocks, {tuple(tensors['kernel'].shape)}; one block can be read.")
        kernel = tensors["kernel"].flatten()
        return PeftChange(Circulant, {"a": kernel.flip(0).roll(1) / len(kernel)}, 1.0)
    alpha_name = "lora_alpha" if "A" in tensors else "alpha"
    rank, alpha = (
        value_for_module(name, content.get(pattern), content[default])
        for pattern, default in (("rank_pattern", "r"), ("alpha_pattern", alpha_name))
    )
    if "A" in tensors:
        scale = alpha / (math.sqrt(rank) if content.get("use_rslora") else rank)
        return PeftChange(LowRank, {"a": tensors["A"], "b": tensors["B"]}, scale)
    first, second = (
        tensors[part] if part in tensors else tensors[f"{part}_a"] @ tensors[f"{part}_b"] for part in ("w1", "w2")
    )
    return PeftChange(Kronecker, {"a": first, "b": second}, alpha / rank)


def value_for_module(name: str, pattern: dict[str, float] | None, default: float) -> float:
    """The value of the first pattern that matches the end of a module's name, as in PEFT; else the default."""
    found = (value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", name))
    return next(found, default)


@torch.no_grad()
def load_peft(folder: Path, content: dict[str, Any], model: PreTrainedModel | None) -> PreTrainedModel:
    """Put the adapter of a PEFT folder into `model`, or into the model that the folder names.

    Raises:
        ValueError: if the folder cannot be read, or does not fit the model.
    """
    changes, own = read_peft(folder, content)
    names = peft_class_names(folder / TENSORS, content)
    model = base_model(folder, content, own, names) if model is None else model
    if list(placements(model)):
        raise UserError("the model already holds adapters: merge them first, or load it afresh.")
    if others := own.keys() - model.state_dict().keys():
        raise UserError(f"{str(folder)!r} has {min(others)}, and a {type(model).__name__} has not.")
    dropout = content.get("lora_dropout", 0.0)
    state = {f"{name}.matrix.{part}": t for name, one in changes.items() for part, t in one.parts.items()}
    with all_or_nothing(model):
        own = match_classes(model, own, names if head_rows(own) == len(names) else (), repr(str(folder)))
        model.requires_grad_(False)
        inject(model, [Insertion((re.escape(name),), one.placement(dropout)) for name, one in changes.items()])
        in_place = {wrapped_name(name, changes): tensor for name, tensor in own.items()}
        check_shapes(model, in_place | state, folder)
        untie_if_different(model, in_place, folder)
        model.load_state_dict(in_place | state, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in state or name in own)
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
) -> PreTrainedModel:
    """Load the model that a PEFT folder names, in float32, with as many classes as the trained head."""
    auto, plm = AUTO_CLASSES.get(str(content.get("task_type"))), peft_base(content)
    if auto is None or plm is None:
        raise UserError(
            f"{str(folder)!r} does not say what it goes on (`task_type`={content.get('task_type')!r}, "
            f"`base_model_name_or_path`={content.get('base_model_name_or_path')!r}): give a `model`."
        )
    rows = head_rows(own) if auto.endswith("Classification") else None
    arguments = {} if rows is None else as_config(names) if len(names) == rows else {"num_labels": rows}
    return load_model(getattr(transformers, auto), plm, **arguments)[0]
