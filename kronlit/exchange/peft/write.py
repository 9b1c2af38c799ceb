"""What was added to a model and trained, as PEFT writes it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters import Delta, placements
from kronlit.config.user_error import UserError
from kronlit.exchange.peft.forms import Change, form_of
from kronlit.modules.plm import at_revision
from kronlit.structured import Mixture

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Before every name in PEFT's files."""
CLASSES = "classes"
"""Where a file of tensors keeps the names of the classes."""

TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForCausalLM": "CAUSAL_LM",
}
"""The end of the name of a model's class, and what PEFT calls its task."""

ALWAYS_SAVED = ("classifier", "score")
"""Ends of the names of modules that PEFT wants in the file of every sequence classifier, whether trained or not."""


@dataclass(frozen=True)
class PeftAdapter:
    """What PEFT's files hold.

    Args:
        config: for adapter_config.json.
        tensors: for adapter_model.safetensors.
        why: which form it has and for what reason, in a few words.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    why: str

    def write(self, folder: Path, classes: Sequence[str] | None = None) -> None:
        """Write the files; that of the tensors keeps the names of the classes, which the config has no place for."""
        names = {} if classes is None else {CLASSES: json.dumps(list(classes))}
        save_file(self.tensors, folder / TENSORS, metadata={"format": "pt"} | names)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def to_peft(model: PreTrainedModel, plm: str) -> PeftAdapter:
    """What was added to `model` and trained, in PEFT's words.

    Raises:
        ValueError: if PEFT has no form that is the same map, with the reason.
    """
    changes = changes_of(model)
    task_type = next((kind for end, kind in TASK_TYPES.items() if type(model).__name__.endswith(end)), None)
    saved, own = modules_to_save(model, task_type)
    config, tensors, why = form_of(changes)
    base, revision = at_revision(plm)
    common = {
        "base_model_name_or_path": base,
        "task_type": task_type,
        "inference_mode": True,
        "target_modules": short_names(model, list(changes)),
        "modules_to_save": saved or None,
    }
    if revision:
        common["revision"] = revision
    tensors = {PREFIX + name: tensor.float().contiguous().clone() for name, tensor in (tensors | own).items()}
    return PeftAdapter(common | config, tensors, why)


def changes_of(model: nn.Module) -> dict[str, Change]:
    """The changes of weights in `model`, by module.

    Raises:
        ValueError: if something else was added to it, or nothing.
    """
    changes = {}
    for name, placement in placements(model):
        if not isinstance(placement, Delta):
            raise UserError(f"PEFT has no adapter like the {type(placement).__name__} at {name}.")
        if any(parameter.requires_grad for parameter in placement.host.parameters()):
            raise UserError(f"{name} has trained parameters of its own beside what was added, which PEFT has not.")
        matrix = placement.matrix.mean_expert() if isinstance(placement.matrix, Mixture) else placement.matrix
        transposed = not isinstance(placement.host, nn.Linear)
        changes[name] = Change(matrix, float(placement.scale), placement.dropout, transposed)
    if not changes:
        raise UserError("nothing was added beside a module that PEFT could add: `kronlit merge` it instead.")
    return changes


def outside_placements(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of `model` as it came, with their names."""
    inside = tuple(f"{name}." for name, _ in placements(model))
    return ((name, module) for name, module in model.named_modules() if not name.startswith(inside))


def short_names(model: nn.Module, targets: list[str]) -> list[str]:
    """The ends of the names `targets`, if only they end so; else the names."""
    ends = {name.rsplit(".", 1)[-1] for name in targets}
    named = {name for name, _ in outside_placements(model) if name.rsplit(".", 1)[-1] in ends}
    return sorted(ends) if named == set(targets) else targets


def modules_to_save(model: PreTrainedModel, task_type: str | None) -> tuple[list[str], dict[str, Tensor]]:
    """The modules of the model's own that were trained, for `modules_to_save`, and all that they hold.

    Raises:
        ValueError: if one is trained in part and PEFT could not keep the rest of it tied to what it is.
    """
    changed = {id(parameter) for _, placement in placements(model) for parameter in placement.parameters()}
    trained = {id(p) for p in model.parameters() if p.requires_grad} - changed
    names = list(trained_modules("", model, trained))
    ends = [*names, *(ALWAYS_SAVED if task_type == "SEQ_CLS" else ())]
    tensors = {
        f"{name}.{key}": tensor
        for name, module in outside_placements(model)
        if name.endswith(tuple(ends)) and ends
        for key, tensor in module.state_dict().items()
    }
    return sorted(names), tensors


def trained_modules(name: str, module: nn.Module, trained: set[int]) -> Iterator[str]:
    """The outermost modules in `module` of which all, or that as a leaf have some, was trained."""
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
