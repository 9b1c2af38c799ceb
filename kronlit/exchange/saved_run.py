"""A checkpoint opened again, as the model that it is of."""

import json
import sys
from dataclasses import dataclass
from os.path import exists
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings

from kronlit.config.files import read_yaml
from kronlit.config.instances import instance
from kronlit.config.user_error import UserError
from kronlit.data import TaskData
from kronlit.data.tasks import Task
from kronlit.data.trained_task import task_of
from kronlit.methods import Method
from kronlit.modules import FrozenPLM
from kronlit.training.checkpoint import AtomicCheckpoint
from kronlit.training.checkpoint_lookup import best_of_run


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
        module = model_from_config(self.config, task_of(checkpoint))
        module.check_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"], strict=False)
        return module.eval()


def saved_run(ckpt_path: str) -> SavedRun:
    """The checkpoint that `ckpt_path` names, or the best one of the folder of a run.

    Raises:
        ValueError: if there is none, or no config.yaml in its run's folder.
    """
    checkpoint = best_of_run(Path(ckpt_path))
    folder = checkpoint.absolute().parent.parent
    if not (folder / "config.yaml").is_file():
        raise UserError(f"`ckpt_path`={ckpt_path!r} is not in a run's folder: {str(folder)!r} has no config.yaml.")
    config = read_yaml(folder / "config.yaml")
    if (start := start_folder(folder, config)) is not None:
        config |= {key: relocate_paths(config[key], start) for key in ("model", "data") if key in config}
    return SavedRun(checkpoint, config, read_summary(folder / "summary.json"))


def read_summary(path: Path) -> dict[str, Any]:
    """What a summary.json says; nothing where there is none, or, with a word of that, it is damaged."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and are_numbers(content.get("scores", {})):
            return content
        reason = "is damaged"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        reason = "is damaged"
    print(f"{path} {reason}: going on without its scores.", file=sys.stderr)
    return {}


def are_numbers(scores: Any) -> bool:
    """Whether `scores` are numbers by name."""
    return isinstance(scores, dict) and all(isinstance(score, (int, float)) for score in scores.values())


def start_folder(folder: Path, config: dict[str, Any]) -> Path | None:
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


def relocate_paths(value: Any, start: Path, name: str = "") -> Any:
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
        return {key: relocate_paths(each, start, key) for key, each in value.items()}
    if isinstance(value, list):
        return [relocate_paths(each, start, name) for each in value]
    return value


def model_from_config(config: dict[str, Any], task: Task | None = None) -> FrozenPLM:
    """The model that the keys `model` and `data` of a config describe, with its method, untrained, in float32.

    Where the task is known, `data` and its files are not needed.

    Raises:
        ValueError: if one of them is missing, or what it names can't be made.
    """
    module = module_from_config(config, task)
    module.configure_model()
    return module


def module_from_config(config: dict[str, Any], task: Task | None = None) -> FrozenPLM:
    """`configured`, before it has loaded anything."""
    set_parsing_settings(subclasses_enabled=[Task])  # lets a task stand among arguments as it is
    if task is None:
        data: TaskData = instance(TaskData, section(config, "data"), "data", {})
        task = data.task
    model = section(config, "model")
    arguments = (model.get("init_args") or {}) | {"task": task}
    module: FrozenPLM = instance(FrozenPLM, model | {"init_args": arguments}, "model", {"method": Method})
    return module


def section(config: dict[str, Any], key: str) -> dict[str, Any]:
    """What a config says under a key.

    Raises:
        ValueError: if that names no class.
    """
    found = config.get(key)
    if not (isinstance(found, dict) and "class_path" in found):
        raise UserError(f"the config has no `{key}`: it must be that of a run, as the files in configs/ are.")
    return found
