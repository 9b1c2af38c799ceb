"""Using an earlier run again: finds its folder and config, even if it was moved or is used from another folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer

from kronlit.config.aliases import check_aliases
from kronlit.config.files import read_yaml
from kronlit.config.user_error import UserError
from kronlit.config.words import values_of
from kronlit.exchange.saved_run import relocate_paths, start_folder
from kronlit.training.checkpoint_lookup import best_of_run

EVALUATIONS = ("validate", "test", "predict")


def run_of_checkpoint(words: Sequence[str]) -> Path | None:
    """The folder of the run that `--ckpt_path` names, for an evaluation without `--config`; else `None`.

    Raises:
        ValueError: if it does not name a run with a checkpoint and a config.yaml.
    """
    path = next(reversed(values_of(words, "--ckpt_path")), None)
    given = {word.split("=")[0] for word in words}
    if not words or words[0] not in EVALUATIONS or path is None or given & {"--config", "-c", "--model"}:
        return None
    if path in ("last", "best"):
        raise UserError(f"`ckpt_path`={path!r} is that of a config's runs: name a `config`, or the folder of a run.")
    folder = best_of_run(Path(path)).parent.parent
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"`ckpt_path`={path!r} is not in a run's folder: {str(folder)!r} has no config.yaml; name a `config`, too."
        )
    check_aliases(folder / "config.yaml")
    return folder


def run_of_config(paths: Iterable[Any], run_dir: str | None, words: Sequence[str]) -> Path | None:
    """The folder of the run if `--config` names a run's own config.yaml and no other `run_dir` is given.

    Args:
        paths: the config files.
        run_dir: the value that the configs and the command line give.
        words: the words of the command line.
    """
    own = [Path(str(path)) for path in paths if (Path(str(path)).parent / "checkpoints").is_dir()]
    if not own or values_of(words, "--run_dir") or read_yaml(own[-1]).get("run_dir") != run_dir:
        return None
    return own[-1].parent


def relocate_files(config: Namespace, folder: Path) -> None:
    """Make paths in `model`, `data` and `below` absolute if they are relative to the folder where the run started."""
    start = start_folder(folder, read_yaml(folder / "config.yaml"))
    if start is None:
        return
    config.below = relocate_paths(config.below, start, "below")
    for key in ("model", "data"):
        if key in config:
            for name, value in list(config[key].items()):
                config[key][name] = relocate_paths(value, start, name.split(".")[-1])


class MovedRun(Callback):
    """Lets a run resume in a folder that was moved or renamed, and still know its checkpoints."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key, {})
            now, before = getattr(callback, "dirpath", None), state.get("dirpath")
            if now is None or before is None or now == before:
                continue

            def moved(path: str, now: str = str(now)) -> str:
                return str(Path(now, Path(path).name)) if path else path

            state["dirpath"] = now
            for name in ("best_k_models", "best_k_losses"):
                state[name] = {moved(path): value for path, value in state.get(name, {}).items()}
            state |= {
                name: moved(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")
            }
