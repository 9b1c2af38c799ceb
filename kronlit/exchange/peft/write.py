"""Writes what was added to a model and trained in PEFT's format."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters import WeightChange, placements
from kronlit.config.user_error import UserError
from kronlit.exchange.peft.change import Change
from kronlit.exchange.peft.forms import form_of
from kronlit.modules.plm import at_revision
from kronlit.structured import Mixture, StructuredLinear

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""The prefix of all names in PEFT's files."""
CLASSES = "classes"
"""The metadata key under which the file of tensors keeps the names of the classes."""

TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "MTModel": "SEQ_2_SEQ_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForCausalLM": "CAUSAL_LM",
}
"""Maps the end of a model class's name to PEFT's task type."""

ALWAYS_SAVED = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""By task type, name endings of modules that PEFT expects in the file, trained or not."""


@dataclass(frozen=True)
class PeftAdapter:
    """The content of PEFT's files.

    Args:
        config: content of adapter_config.json.
        tensors: content of adapter_model.safetensors.
        why: the form and the reason for it, in a few words.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    why: str

    def write(self, folder: Path, classes: Sequence[str] | None = None) -> None:
        """Write the files. The class names go into the file of tensors, as PEFT's config has no key for them."""
        names = {} if classes is None else {CLASSES: json.dumps(list(classes))}
        save_file(self.tensors, folder / TENSORS, metadata={"format": "pt"} | names)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def to_peft(model: PreTrainedModel, plm: str) -> PeftAdapter:
    """Convert what was added to `model` and trained to PEFT's format.

    Raises:
        ValueError: if PEFT has no form for exactly the same map, with the reason.
    """
    changes = changes_of(model)
    config, tensors, why = form_of(changes)
    return adapter_of(model, plm, list(changes), config, tensors, why)


def adapter_of(
    model: PreTrainedModel, plm: str, targets: list[str], config: dict[str, Any], tensors: dict[str, Tensor], why: str
) -> PeftAdapter:
    """The files of an adapter with this `config` and these `tensors` at the modules `targets`.

    The modules that were trained beside them are added.
    """
    task_type = next((kind for end, kind in TASK_TYPES.items() if type(model).__name__.endswith(end)), None)
    saved, own = modules_to_save(model, task_type)
    base, revision = at_revision(plm)
    common = {
        "base_model_name_or_path": base,
        "task_type": task_type,
        "inference_mode": True,
        "target_modules": short_names(model, targets),
        "modules_to_save": saved or None,
    }
    if revision:
        common["revision"] = revision
    tensors = {PREFIX + name: tensor.float().contiguous().clone() for name, tensor in (tensors | own).items()}
    return PeftAdapter(common | config, tensors, why)


def changes_of(model: nn.Module) -> dict[str, Change]:
    """The changes of weights in `model` by module.

    Raises:
        ValueError: if something else, or nothing, was added to it.
    """
    changes = {}
    for name, placement in placements(model):
        if placement.below:
            raise UserError(f"PEFT cannot say that a frozen adapter is below, as at {name}.")
        matrix = getattr(placement, "matrix", None)
        if not (isinstance(placement, WeightChange) and isinstance(matrix, StructuredLinear)):
            raise UserError(f"PEFT has no adapter like the {type(placement).__name__} at {name}.")
        if any(parameter.requires_grad for parameter in placement.host.parameters()):
            raise UserError(f"{name} has trained parameters of its own beside what was added, which PEFT has not.")
        changes[name] = change_of(placement, matrix)
    if not changes:
        raise UserError("nothing was added beside a module that PEFT could add: `kronlit merge` it instead.")
    return changes


def change_of(placement: WeightChange, matrix: StructuredLinear) -> Change:
    """What a placement does to its host's weight. A subclass that inherits its `change` counts as what it is of."""
    kind = next(each for each in type(placement).__mro__ if "change" in vars(each))
    scale, dropout = float(getattr(placement, "scale", 1.0)), getattr(placement, "dropout", 0.0)
    own = {name: p for name, p in placement.named_parameters(recurse=False) if name != "scale"}
    matrix = matrix.mean_expert() if isinstance(matrix, Mixture) else matrix
    return Change(matrix, scale, dropout, not isinstance(placement.host, nn.Linear), kind, own)


def outside_placements(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of the original model, with their names."""
    inside = tuple(f"{name}." for name, _ in placements(model))
    return ((name, module) for name, module in model.named_modules() if not name.startswith(inside))


def short_names(model: nn.Module, targets: list[str]) -> list[str]:
    """The last parts of the names `targets` if no other module's name ends so; else the whole names."""
    ends = {name.rsplit(".", 1)[-1] for name in targets}
    named = {name for name, _ in outside_placements(model) if name.rsplit(".", 1)[-1] in ends}
    return sorted(ends) if named == set(targets) else targets


def modules_to_save(model: PreTrainedModel, task_type: str | None) -> tuple[list[str], dict[str, Tensor]]:
    """The trained modules of the original model, for `modules_to_save`, and all their tensors.

    Raises:
        ValueError: if only a part of a module was trained: PEFT would save a copy of the whole.
    """
    changed = {id(parameter) for _, placement in placements(model) for parameter in placement.parameters()}
    trained = {id(p) for p in model.parameters() if p.requires_grad} - changed
    names = list(trained_modules("", model, trained))
    ends = [*names, *ALWAYS_SAVED.get(task_type or "", ())]
    tensors = {
        f"{name}.{key}": tensor
        for name, module in outside_placements(model)
        if name.endswith(tuple(ends)) and ends
        for key, tensor in module.state_dict().items()
    }
    return sorted(names), tensors


def trained_modules(name: str, module: nn.Module, trained: set[int]) -> Iterator[str]:
    """The outermost modules in `module` that were trained as a whole; of a leaf, some parameters are enough."""
    within = [id(parameter) in trained for parameter in module.parameters()]
    if not any(within):
        return
    children = list(module.named_children())
    if name and (all(within) or not children):
        yield name
    elif any(id(parameter) in trained for parameter in module.parameters(recurse=False)):
        raise UserError(f"of {name} a part alone was trained, and PEFT would keep a copy of the whole")
    else:
        for child, submodule in children:
            yield from trained_modules(f"{name}.{child}" if name else child, submodule, trained)
