"""Opens a run's checkpoint again as the model that it was trained on."""

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
from kronlit.exchange.load import open_below
from kronlit.methods import Method
from kronlit.modules import FrozenPLM
from kronlit.training.checkpoint import AtomicCheckpoint
from kronlit.training.checkpoint_lookup import best_of_run


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint with the config and the summary in its run's folder.

    Args:
        checkpoint: the file of the checkpoint.
        config: the content of config.yaml.
        summary: the content of summary.json; empty if the run was not finished.
    """

    checkpoint: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def seed(self) -> int | None:
        """The seed of the run."""
        return self.config.get("seed_everything")

    def module(self) -> FrozenPLM:
        """The trained module in float32 and in evaluation mode. Its frozen weights are loaded from `plm`.

        Raises:
            ValueError: if the checkpoint is damaged, or belongs to another method or frozen model than the config.
        """
        checkpoint = AtomicCheckpoint().load_checkpoint(self.checkpoint)
        module = model_from_config(self.config, task_of(checkpoint))
        module.check_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"], strict=False)
        return module.eval()


def saved_run(ckpt_path: str) -> SavedRun:
    """Open the checkpoint `ckpt_path`, or the best one if that is the folder of a run.

    Raises:
        ValueError: if there is none, or no config.yaml in its run's folder.
    """
    checkpoint = best_of_run(Path(ckpt_path))
    folder = checkpoint.absolute().parent.parent
    if not (folder / "config.yaml").is_file():
        raise UserError(f"`ckpt_path`={ckpt_path!r} is not in a run's folder: {str(folder)!r} has no config.yaml.")
    config = read_yaml(folder / "config.yaml")
    if (start := start_folder(folder, config)) is not None:
        named = {key: config[key] for key in ("model", "data", "below") if key in config}
        config |= relocate_paths(named, start)
    return SavedRun(checkpoint, config, read_summary(folder / "summary.json"))


def read_summary(path: Path) -> dict[str, Any]:
    """The content of a summary.json; empty if there is none, or, with a warning, if it is damaged."""
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
    """Whether `scores` is a dictionary of numbers."""
    return isinstance(scores, dict) and all(isinstance(score, (int, float)) for score in scores.values())


def start_folder(folder: Path, config: dict[str, Any]) -> Path | None:
    """The working folder in which a run was started, by its `run_dir`; `None` if it is the current one or unknown.

    Args:
        folder: the folder of the run.
        config: the content of its config.yaml.
    """
    run_dir, parent = Path(str(config.get("run_dir") or "/")), folder.resolve().parent
    steps = len(run_dir.parts)
    if run_dir.is_absolute() or ".." in run_dir.parts or parent.parts[-steps:] != run_dir.parts:
        return None
    start = Path(*parent.parts[:-steps])
    return None if start == Path.cwd() else start


def relocate_paths(value: Any, start: Path, name: str = "") -> Any:
    """Make paths in `value` absolute if they name a file in `start` but none in the current folder.

    Args:
        value: value of an argument, or a dictionary of arguments.
        start: the folder in which the run was started.
        name: name of the argument. A single word, such as a task's name, counts as a file only for some of them.
    """
    if isinstance(value, str):
        # Not `Path.exists`, which before Python 3.12 raises for a text that is too long for a file name.
        may_be_file = (
            name in ("plm", "path", "below") or name.endswith(("_file", "_path")) or "/" in value or "." in value
        )
        return str(start / value) if may_be_file and not exists(value) and exists(start / value) else value
    if isinstance(value, dict):
        return {key: relocate_paths(each, start, key) for key, each in value.items()}
    if isinstance(value, list):
        return [relocate_paths(each, start, name) for each in value]
    return value


def model_from_config(config: dict[str, Any], task: Task | None = None) -> FrozenPLM:
    """Make the module of a config's `model` and `data`, with its method, untrained and in float32.

    With a known `task`, `data` and its files are not needed.

    Raises:
        ValueError: if a key is missing, or its class cannot be made.
    """
    module = module_from_config(config, task)
    if below := config.get("below"):
        module.below = open_below(below)
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
