"""A checkpoint opened again, as the model that it is of."""

import json
import sys
from dataclasses import asdict, dataclass
from os.path import exists
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import set_parsing_settings

from kronlit.config.argument_types import check_class
from kronlit.config.parser import Parser
from kronlit.data import TaskData
from kronlit.data.tasks import Task
from kronlit.data.trained_task import task_of
from kronlit.methods import Method
from kronlit.modules import FrozenPLM
from kronlit.training.checkpoint import AtomicCheckpoint, best_of


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint, with what its run's folder says of it.

    Args:
        checkpoint: the file.
        config: what config.yaml says.
        summary: what summary.json says; nothing where the run did not come to its end.
    """

    checkpoint: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def seed(self) -> int | None:
        """Of the run."""
        return self.config.get("seed_everything")

    def module(self) -> FrozenPLM:
        """The trained model in float32, in evaluation; what was frozen comes from `plm` again.

        Raises:
            ValueError: if the checkpoint is damaged, or not of the method and the frozen model in the config.
        """
        checkpoint = AtomicCheckpoint().load_checkpoint(self.checkpoint)
        module = configured(self.config, task_of(checkpoint))
        module.check_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"], strict=False)
        return module.eval()


def saved_run(ckpt_path: str) -> SavedRun:
    """The checkpoint that `ckpt_path` names, or the best one of the folder of a run.

    Raises:
        ValueError: if there is none, or no config.yaml in its run's folder.
    """
    checkpoint = found(Path(ckpt_path))
    folder = checkpoint.absolute().parent.parent
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"`ckpt_path`={ckpt_path!r} is not in a run's folder: {str(folder)!r} has no config.yaml.")
    config = read_yaml(folder / "config.yaml")
    if (start := started_in(folder, config)) is not None:
        config |= {key: in_place(config[key], start) for key in ("model", "data") if key in config}
    return SavedRun(checkpoint, config, read_summary(folder / "summary.json"))


def read_summary(path: Path) -> dict[str, Any]:
    """What a summary.json says; nothing where there is none, or, with a word of that, it is damaged."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and numbers(content.get("scores", {})):
            return content
        reason = "is damaged"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        reason = "is damaged"
    print(f"{path} {reason}: going on without its scores.", file=sys.stderr)
    return {}


def numbers(scores: Any) -> bool:
    """Whether `scores` are numbers by name."""
    return isinstance(scores, dict) and all(isinstance(score, (int, float)) for score in scores.values())


def started_in(folder: Path, config: dict[str, Any]) -> Path | None:
    """The working folder in which a run was started, as its `run_dir` tells; `None` where that is here, or not told.

    Args:
        folder: the run's.
        config: its config.yaml.
    """
    run_dir, parent = Path(str(config.get("run_dir") or "/")), folder.resolve().parent
    steps = len(run_dir.parts)
    if run_dir.is_absolute() or ".." in run_dir.parts or parent.parts[-steps:] != run_dir.parts:
        return None
    start = Path(*parent.parts[:-steps])
    return None if start == Path.cwd() else start


def in_place(value: Any, start: Path, name: str = "") -> Any:
    """`value`, in which what names a file in `start`, and none here, is that file's whole path.

    Args:
        value: of an argument, or arguments by name.
        start: where the run was started.
        name: the argument's; a single word, such as a task's name, is a file only where the argument says so.
    """
    if isinstance(value, str):
        # A text that is too long for a name is no file; Path.exists raises there before Python 3.12.
        may_be_file = name in ("plm", "path") or name.endswith(("_file", "_path")) or "/" in value or "." in value
        return str(start / value) if may_be_file and not exists(value) and exists(start / value) else value
    if isinstance(value, dict):
        return {key: in_place(each, start, key) for key, each in value.items()}
    if isinstance(value, list):
        return [in_place(each, start, name) for each in value]
    return value


def found(path: Path) -> Path:
    """`path`, or the best checkpoint of the newest run in it; the last one where nothing was validated."""
    if path.is_file():
        return path
    for name in ("best", "last"):
        files = [*path.glob(f"checkpoints/{name}*.ckpt"), *path.glob(f"version_*/checkpoints/{name}*.ckpt")]
        if files := [file for file in files if file.is_file()]:  # no links to nothing
            return best_of(files)
    raise ValueError(f"`ckpt_path`={str(path)!r} is neither a checkpoint nor the folder of a run that has one.")


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        ValueError: if it holds anything else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as YAML: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold keys and values, as the files in configs/ do.")
    return content


def configured(config: dict[str, Any], task: Task | None = None) -> FrozenPLM:
    """The model that the keys `model` and `data` of a config describe, with its method, untrained, in float32.

    Where the task is known, `data` and its files are not needed.

    Raises:
        ValueError: if one of them is missing, or what it names can't be made.
    """
    module = described_by(config) if task is None else described_for(config, task)
    module.configure_model()
    return module


def described_for(config: dict[str, Any], task: Task) -> FrozenPLM:
    """The module that the key `model` of a config describes, for a task, before it has loaded anything.

    Raises:
        ValueError: if the key is missing, or what it names can't be made.
    """
    if "model" not in config:
        raise ValueError("the config has no `model`: it must be that of a run, as the files in configs/ are.")
    set_parsing_settings(subclasses_enabled=[Task])
    parser = Parser(prog="kronlit")
    parser.bases = {"model": FrozenPLM, "method": Method}
    parser.add_subclass_arguments(FrozenPLM, "model")
    known = {"task": {"class_path": f"{Task.__module__}.{Task.__name__}", "init_args": asdict(task)}}
    arguments = (config["model"].get("init_args") or {}) | known
    module: FrozenPLM = parser.instantiate(parser.parse_object({"model": config["model"] | {"init_args": arguments}})).model
    return module


def described_by(config: dict[str, Any]) -> FrozenPLM:
    """The module that the keys `model` and `data` of a config describe, before it has loaded anything.

    Raises:
        ValueError: if one of them is missing, or what it names can't be made.
    """
    for key in ("model", "data"):
        if key not in config:
            raise ValueError(f"the config has no `{key}`: it must be that of a run, as the files in configs/ are.")
    set_parsing_settings(subclasses_enabled=[Task])  # lets a dataclass be linked into a model
    parser = Parser(prog="kronlit")
    parser.bases = {"model": FrozenPLM, "data": TaskData, "method": Method}
    parser.add_subclass_arguments(FrozenPLM, "model")
    parser.add_subclass_arguments(TaskData, "data")
    parser.link_arguments("data.task", "model.init_args.task", apply_on="instantiate")
    values = parser.parse_object({"model": config["model"], "data": config["data"]})
    for key in ("model", "data"):
        check_class(values[key], key)
    module: FrozenPLM = parser.instantiate(values).model
    return module
