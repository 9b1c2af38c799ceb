"""`kronlit.load`: an adapter from a folder or the hub, in a Transformers model."""

import os
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import PreTrainedModel

from kronlit.adapters.state import fingerprint, state_mismatch, with_current_names
from kronlit.adapters.transaction import all_or_nothing
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import (
    CONFIG,
    TENSORS,
    AdapterConfig,
    adapter_config,
    model_class,
    read_json,
    read_tensors,
)
from kronlit.exchange.class_names import as_config, match_classes
from kronlit.exchange.peft.read import load_peft
from kronlit.methods import inject
from kronlit.methods.written import describe_method
from kronlit.modules.padding import tell_pad_token
from kronlit.modules.plm import load_model


def load(source: str | Path, model: PreTrainedModel | None = None, trust_code: bool = False) -> PreTrainedModel:
    """A Transformers model with an adapter in it: predict with it, train it on, or `kronlit.merge` it.

    Args:
        source: folder that `kronlit export` wrote, or PEFT for LoRA, LoKr or C3A; or the id of such a repository
            of the hub.
        model: to put the adapter in, in place; by default the one that the folder names, in float32.
        trust_code: whether an adapter of the hub may name a module of this machine that is imported for its method.
            A folder may; no code is ever fetched.

    Returns:
        The model in evaluation; what the adapter trained requires gradients, the rest is frozen.

    Raises:
        ValueError: if there is no such folder or repository, it is damaged, or `model` is not what it was trained on.

    Example:
        >>> model = load("runs/rte-adapter")  # doctest: +SKIP
        >>> model(**tokenizer("A cat sat.", "A cat is sitting.", return_tensors="pt")).logits  # doctest: +SKIP
    """
    folder = local_folder(source)
    content = read_json(folder / CONFIG)
    if "peft_type" in content:
        return load_peft(folder, content, model)
    return load_adapter(folder, content, model, trust_code or is_here(source))


def load_adapter(
    folder: Path, content: dict[str, Any], model: PreTrainedModel | None, imports: bool
) -> PreTrainedModel:
    """`model`, or the one that the folder names, with the folder's adapter, which may name a module or may not."""
    where = str(folder / CONFIG)
    config = adapter_config(content, where, imports)
    if model is None:
        if not config.plm:
            raise UserError(f"{where} does not say what it goes on (`plm`): give a `model`.")
        kind = model_class(config.model_class, where)
        labels = as_config(config.labels) if config.labels and "Classification" in config.model_class else {}
        model, _ = load_model(kind, config.plm, **labels)
    tensors = read_tensors(folder / TENSORS)
    with all_or_nothing(model):
        set_tensors(inject(model, config.method), config, tensors, folder)
        if config.pad_token_id is not None:
            tell_pad_token(model, config.pad_token_id)
    return model.eval()


def set_tensors(model: PreTrainedModel, config: AdapterConfig, tensors: dict[str, Tensor], folder: Path) -> None:
    """Give what was added to `model` the values of the folder's `tensors`, if it is what they were trained on."""
    state = with_current_names(model, tensors)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in state)
    if fault := state_mismatch(model, state):
        raise UserError(
            f"{str(folder / TENSORS)!r} does not fit a {type(model).__name__} with "
            f"{describe_method(config.method)}: {fault}."
        )
    if (found := fingerprint(model)) != config.fingerprint:
        raise UserError(
            f"{str(folder)!r} was trained on {config.plm!r} with fingerprint {config.fingerprint}; the frozen weights "
            f"of this model have {found}: they are others, or not in float32. Give the `model`, loaded as it was then."
        )
    for name, parameter in model.named_parameters():  # a head that was saved need not have been trained
        parameter.requires_grad_(name in trained)
    model.load_state_dict(match_classes(model, state, config.labels, repr(str(folder))), strict=False)


def local_folder(source: str | Path) -> Path:
    """The folder that `source` names, fetched from the hub unless it is here.

    Raises:
        ValueError: if it is nowhere.
    """
    if is_here(source):
        return Path(source)
    try:
        return Path(snapshot_download(str(source), allow_patterns=["adapter_config.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"`source`={str(source)!r} is no folder, and the hub does not give it: {reason[:200]}"
        ) from error


def is_here(source: str | Path) -> bool:
    """Whether `source` is a folder of this machine, not a repository of the hub."""
    return os.path.isdir(source)  # which, unlike Path.is_dir, takes a name that is too long
