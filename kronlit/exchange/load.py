"""`kronlit.load`: an adapter from a folder or the hub, in a Transformers model."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import PreTrainedModel

from kronlit.checkpoint import fingerprint, in_names_of, misfit
from kronlit.exchange.adapter_folder import CONFIG, TENSORS, adapter_config, model_class, read_json, read_tensors
from kronlit.exchange.from_peft import with_peft
from kronlit.modules.padding import tell_pad_token
from kronlit.modules.plm import load_model


def load(source: str | Path, model: PreTrainedModel | None = None) -> PreTrainedModel:
    """A Transformers model with an adapter in it: predict with it, train it on, or `kronlit.merge` it.

    Args:
        source: folder that `kronlit export` wrote, or PEFT for LoRA, LoKr or C3A; or the id of such a repository
            of the hub.
        model: to put the adapter in, in place; by default the one that the folder names, in float32.

    Returns:
        The model in evaluation; what the adapter trained requires gradients, the rest is frozen.

    Raises:
        ValueError: if there is no such folder or repository, it is damaged, or `model` is not what it was trained on.

    Example:
        >>> model = load("runs/rte-adapter")  # doctest: +SKIP
        >>> model(**tokenizer("A cat sat.", "A cat is sitting.", return_tensors="pt")).logits  # doctest: +SKIP
    """
    folder = local(source)
    content = read_json(folder / CONFIG)
    return (with_peft if "peft_type" in content else with_adapter)(folder, content, model)


def with_adapter(folder: Path, content: dict[str, Any], model: PreTrainedModel | None) -> PreTrainedModel:
    """`model`, or the one that the folder names, with the folder's adapter."""
    where = str(folder / CONFIG)
    config = adapter_config(content, where)
    if model is None:
        names = dict(enumerate(config.labels))
        labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}} if names else {}
        model, _ = load_model(model_class(config.model_class, where), config.plm, **labels)
    if config.pad_token_id is not None:
        tell_pad_token(model, config.pad_token_id)
    config.method.apply(model)
    state = in_names_of(model, read_tensors(folder / TENSORS))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in state)
    if fault := misfit(model, state):
        raise ValueError(
            f"{str(folder / TENSORS)!r} does not fit a {type(model).__name__} with {config.method}: {fault}."
        )
    if (found := fingerprint(model)) != config.fingerprint:
        raise ValueError(
            f"{str(folder)!r} was trained on {config.plm!r} with fingerprint {config.fingerprint}; the frozen weights "
            f"of this model have {found}: they are others, or not in float32."
        )
    model.load_state_dict(state, strict=False)
    return model.eval()


def local(source: str | Path) -> Path:
    """The folder that `source` names, fetched from the hub unless it is here.

    Raises:
        ValueError: if it is nowhere.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(str(source), allow_patterns=["adapter_config.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`source`={str(source)!r} is no folder, and the hub does not give it: {reason[:200]}"
        ) from error
