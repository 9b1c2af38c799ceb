"""kronlit's own adapter folder: adapter.safetensors, and adapter_config.json, which describes method and model."""

import json
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from kronlit import __version__
from kronlit.adapters.state import adapter_state, fingerprint
from kronlit.config.class_change import own_defaults_for
from kronlit.config.instances import instance
from kronlit.config.user_error import UserError, user_errors
from kronlit.exchange.own_method import LOADING, Cure, check_arguments, method_class
from kronlit.methods import Method
from kronlit.methods.written import to_plain
from kronlit.structured import Mixture, StructuredLinear

CONFIG, TENSORS = "adapter_config.json", "adapter.safetensors"
BELOW = "below"
"""The folder, in an adapter's, of the frozen adapter that it stands on; a model has that one's files by this name."""


@dataclass(frozen=True)
class AdapterConfig:
    """The content of an adapter's adapter_config.json.

    Args:
        method: the method that added and trained the adapter.
        plm: hub id (`org/name`, or `org/name@revision`) or local folder of the pre-trained model.
        model_class: the class of Transformers that loads the model.
        fingerprint: hash of the model's frozen weights.
        labels: names of the classes; empty if there are none.
        parameters: number of parameters of the pre-trained model.
        task: name of the task that it was trained on.
        kronlit: the version of kronlit that wrote it.
        words: for a prompt, the word that stands for each class; empty otherwise.
        pad_token_id: id of the padding token, if there is one.
    """

    method: Method
    plm: str
    model_class: str
    fingerprint: str
    labels: tuple[str, ...] = ()
    parameters: int = 0
    task: str = ""
    kronlit: str = __version__
    words: dict[str, str] = field(default_factory=dict)
    pad_token_id: int | None = None


def write_adapter(folder: Path, model: PreTrainedModel, config: AdapterConfig) -> None:
    """Write the trained state of `model`, `config`, and the files of the adapter that is below, if there is one."""
    state = {name: tensor.detach().contiguous().clone() for name, tensor in adapter_state(model).items()}
    save_file(state, folder / TENSORS)
    with user_errors():
        method = to_plain(config.method)
    content = {"format": "kronlit"} | vars(config) | {"method": method}
    (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if below := vars(model).get(BELOW):
        (folder / BELOW).mkdir()
        for file, written in below.items():
            (folder / BELOW / file).write_bytes(written)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: if there is no such file, or it is damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The keys and values of a JSON file.

    Raises:
        ValueError: if there is no such file, or it holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{str(path)!r} must hold keys and values.")
    return content


def adapter_config(content: dict[str, Any], where: str, imports: bool = True, cure: Cure = LOADING) -> AdapterConfig:
    """Parse the content of an adapter_config.json.

    Args:
        content: the content of the file.
        where: the name of the file, for messages.
        imports: whether a module that it names may be imported. An adapter from the hub must not decide what is
            imported; it may only name what is imported already.
        cure: what to tell the user if it names something else.

    Raises:
        ValueError: if a key is missing or unknown, or a value has the wrong type.
    """
    values = {key: value for key, value in content.items() if key != "format"}
    if nested := next((key for key in values if "." in key), None):  # the parser would set an argument within another
        raise UserError(f"{where} has {nested!r}, which is no key of an adapter: leave it out.")
    method = values.get("method")
    name = method.get("class_path") if isinstance(method, dict) else method
    if not (isinstance(name, str) and all(part.isidentifier() for part in name.split("."))):
        raise UserError(f"{where}: `method`={name!r} must be the name of a method, such as 'KronA' or 'mine.Method'.")
    if kind := method_class(name, where, imports, cure):
        given = method if isinstance(method, dict) else {}
        if not imports:
            check_arguments(given, kind.__module__.startswith("kronlit."), where, cure)
        path = f"{kind.__module__}.{kind.__qualname__}"  # the whole path, as another class may have the same name
        values["method"] = given | {"class_path": kind.__name__ if "<locals>" in path else path}
    own_defaults_for(Method, StructuredLinear)
    try:
        made: AdapterConfig = instance(AdapterConfig, values, "adapter", {"method": Method})
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error
    return made


def model_class(name: str, where: str) -> type[PreTrainedModel]:
    """The class of Transformers with this name.

    Raises:
        ValueError: if there is none.
    """
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise UserError(f"{where}: `model_class`={name!r} is no model of transformers {transformers.__version__}.")
    return found


def config_of(
    model: PreTrainedModel,
    method: Method,
    plm: str,
    task: str,
    parameters: int,
    labels: tuple[str, ...] = (),
    words: dict[str, str] | None = None,
) -> AdapterConfig:
    """The adapter config of `model`. `labels` are the classes of its task, used if it is not a classifier."""
    names = model.config.id2label or {}
    if "Classification" in type(model).__name__:
        labels = tuple(str(names[number]) for number in sorted(names))
    kind, digits, pad = type(model).__name__, fingerprint(model), getattr(model.config, "pad_token_id", None)
    return AdapterConfig(method, plm, kind, digits, labels, parameters, task, words=words or {}, pad_token_id=pad)


def with_one_expert(method: Method) -> Method:
    """`method` with one expert, as a collapsed mixture has."""
    if not is_dataclass(method):
        return method
    changes: dict[str, Any] = {}
    for argument in fields(method):
        value = getattr(method, argument.name)
        if argument.name == "num_experts":
            changes[argument.name] = 1
        elif isinstance(value, partial) and Mixture in (value.func, *value.args):  # a parser's has the class in `args`
            changes[argument.name] = partial(value, num_experts=1)
    return replace(method, **changes)
