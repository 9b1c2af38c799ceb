"""kronlit's own folder of an adapter: adapter.safetensors, and adapter_config.json that says what it goes on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from kronlit import __version__
from kronlit.checkpoint import adapter_state, fingerprint
from kronlit.errors import Parser
from kronlit.methods import Method

CONFIG, TENSORS = "adapter_config.json", "adapter.safetensors"


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter goes on, and how.

    Args:
        method: what was added and trained.
        plm: hub id (`org/name`, or `org/name@revision`) or local folder of the pre-trained model.
        model_class: the class of Transformers that it is loaded as.
        fingerprint: of its frozen weights.
        labels: names of the classes; none where there are none.
        parameters: of the pre-trained model.
        task: that it was trained on.
        kronlit: the version that wrote it.
    """

    method: Method
    plm: str
    model_class: str
    fingerprint: str
    labels: tuple[str, ...] = ()
    parameters: int = 0
    task: str = ""
    kronlit: str = __version__


def write_adapter(folder: Path, model: PreTrainedModel, config: AdapterConfig) -> None:
    """Write what was added to `model` and trained, and `config`."""
    state = {name: tensor.detach().contiguous().clone() for name, tensor in adapter_state(model).items()}
    save_file(state, folder / TENSORS)
    method = {"class_path": type(config.method).__name__, "init_args": vars(config.method)}
    content = {"format": "kronlit"} | vars(config) | {"method": method}
    (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: if there is no such file, or it is damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The keys and values of a JSON file.

    Raises:
        ValueError: if there is no such file, or it holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold keys and values.")
    return content


def adapter_config(content: dict[str, Any], where: str) -> AdapterConfig:
    """What the content of an adapter_config.json means.

    Only methods that are known already can be named: a file from elsewhere is not to say what is imported.

    Raises:
        ValueError: if a key is missing or unknown, or a value is not of its type.
    """
    values = {key: value for key, value in content.items() if key != "format"}
    method = values.get("method")
    name = method.get("class_path") if isinstance(method, dict) else method
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"{where}: `method`={name!r} must be the bare name of a method, such as 'KronA'.")
    parser = Parser(exit_on_error=False)
    parser.bases = {"method": Method}
    parser.add_class_arguments(AdapterConfig, "adapter")
    try:
        made: AdapterConfig = parser.made(parser.parse_object({"adapter": values})).adapter
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from error
    return made


def model_class(name: str, where: str) -> type[PreTrainedModel]:
    """The class of Transformers with this name.

    Raises:
        ValueError: if there is none.
    """
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise ValueError(f"{where}: `model_class`={name!r} is no model of transformers {transformers.__version__}.")
    return found


def config_of(model: PreTrainedModel, method: Method, plm: str, task: str, parameters: int) -> AdapterConfig:
    """The config of what was added to `model`."""
    names = model.config.id2label or {}
    labels = tuple(str(names[number]) for number in sorted(names)) if "Classification" in type(model).__name__ else ()
    return AdapterConfig(method, plm, type(model).__name__, fingerprint(model), labels, parameters, task)
