"""`kronlit.load`: puts an adapter from a folder or the hub into a Transformers model."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters.state import fingerprint, state_mismatch, with_current_names
from kronlit.adapters.transaction import all_or_nothing
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import (
    BELOW,
    CONFIG,
    TENSORS,
    AdapterConfig,
    adapter_config,
    model_class,
    read_json,
    read_tensors,
)
from kronlit.exchange.below import BelowAdapter
from kronlit.exchange.class_names import as_config, match_classes
from kronlit.exchange.own_method import Cure
from kronlit.exchange.peft.read import load_peft
from kronlit.methods import inject
from kronlit.methods.written import describe_method
from kronlit.modules.padding import tell_pad_token
from kronlit.modules.plm import load_model
from kronlit.modules.quantisation import Quantisation, Quantization


def load(
    source: str | Path,
    model: PreTrainedModel | None = None,
    trust_code: bool = False,
    quantization: Quantization = "none",
    double_quantization: bool = False,
) -> PreTrainedModel:
    """Load a Transformers model with an adapter in it, to predict with, to train further, or to `kronlit.merge`.

    Args:
        source: a folder that `kronlit export` wrote, or that PEFT wrote for LoRA, DoRA, LoKr, C3A, HiRA or
            OFT; or the id of such a repository on the hub.
        model: the model to change in place; by default the one that the folder names, in float32.
        trust_code: whether an adapter from the hub may name a module of this machine, which is imported for its
            method. A local folder always may. Code is never downloaded.
        quantization: how the frozen linear modules are stored, as in a run's `model.quantization`: none, nf4, int8 or
            int8_torchao.
        double_quantization: whether the scales of nf4 are quantised, too.

    Returns:
        The model in evaluation mode. What the adapter trained requires gradients; the rest is frozen.

    Raises:
        ValueError: if there is no such folder or repository, it is damaged, or it was trained on another model.

    Example:
        >>> model = load("runs/rte-adapter")  # doctest: +SKIP
        >>> model(**tokenizer("A cat sat.", "A cat is sitting.", return_tensors="pt")).logits  # doctest: +SKIP
    """
    if quantization not in get_args(Quantization):
        raise UserError(f"`quantization`={quantization!r} must be one of {', '.join(get_args(Quantization))}.")
    quantisation = Quantisation(quantization, double_quantization)
    folder = local_folder(source)
    content = read_json(folder / CONFIG)
    if "peft_type" in content:
        return load_peft(folder, content, model, quantisation)
    return load_adapter(folder, content, model, trust_code or is_here(source), quantisation)


def load_adapter(
    folder: Path, content: dict[str, Any], model: PreTrainedModel | None, imports: bool, quantisation: Quantisation
) -> PreTrainedModel:
    """Put the adapter of a kronlit folder into `model`, or into the model that the folder names."""
    where = str(folder / CONFIG)
    config = adapter_config(content, where, imports)
    model = plain_model(config, where)[0] if model is None else model
    tensors = read_tensors(folder / TENSORS)
    with all_or_nothing(model):
        # What the adapter brings, such as a pooler that the model's files lack, is trained, so it is not quantised.
        quantisation.apply(model, [p for name, p in model.named_parameters() if name in tensors])
        with BelowAdapter(f"{folder}/{BELOW}", folder / BELOW, imports)(model) if carries(folder) else nullcontext():
            inject(model, config.method)
        set_tensors(model, config, tensors, folder)
        if config.pad_token_id is not None:
            tell_pad_token(model, config.pad_token_id)
    return model.eval()


def plain_model(config: AdapterConfig, where: str) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """The model that an adapter goes on, without it, and what of it is newly drawn; `where` names its file."""
    if not config.plm:
        raise UserError(f"{where} does not say what it goes on (`plm`): give a `model`.")
    kind = model_class(config.model_class, where)
    labels = as_config(config.labels) if config.labels and "Classification" in config.model_class else {}
    return load_model(kind, config.plm, **labels)


def set_tensors(model: PreTrainedModel, config: AdapterConfig, tensors: dict[str, Tensor], folder: Path) -> None:
    """Set what was added to `model` to the folder's `tensors`, if they were trained on this model."""
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
            f"of this model have {found}: they are others, or not in float32, or quantised elsewhere. Give the `model` "
            "as it was then, or `quantization`."
        )
    for name, parameter in model.named_parameters():  # a saved head need not have been trained
        parameter.requires_grad_(name in trained)
    model.load_state_dict(match_classes(model, state, config.labels, repr(str(folder))), strict=False)


def carries(folder: Path) -> bool:
    """Whether an adapter's folder carries the frozen adapter that it stands on."""
    return (folder / BELOW).is_dir()


def carried(source: str) -> str | None:
    """The folder of the frozen adapter that an adapter's folder carries, if it is here and does."""
    return str(Path(source) / BELOW) if is_here(source) and carries(Path(source)) else None


def open_below(source: str) -> BelowAdapter:
    """The frozen adapter in a folder or on the hub, to stand on.

    Raises:
        ValueError: if there is none.
    """
    try:
        folder = local_folder(source)
        if not (folder / CONFIG).is_file():
            raise UserError(
                f"`source`={source!r} is no adapter's folder: it has no {CONFIG}. `kronlit export` writes one of a run."
            )
    except UserError as error:
        raise UserError(str(error).replace("`source`", "`below`")) from error
    return BelowAdapter(source, folder, is_here(source), Cure("take another", "download the folder and give its path"))


def local_folder(source: str | Path) -> Path:
    """The local folder of `source`, downloaded from the hub if necessary.

    Raises:
        ValueError: if it is neither here nor on the hub.
    """
    if is_here(source):
        return Path(source)
    try:
        return Path(snapshot_download(str(source), allow_patterns=["*adapter_config.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"`source`={str(source)!r} is no folder, and the hub does not give it: {reason[:200]}"
        ) from error


def is_here(source: str | Path) -> bool:
    """Whether `source` is a folder on this machine, not a repository on the hub."""
    return os.path.isdir(source)  # not `Path.is_dir`, which raises if the name is too long
