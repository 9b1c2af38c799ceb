"""Where a run writes: a folder of its own, in which `fit --ckpt_path last` goes on."""

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from kronlit.config.user_error import UserError
from kronlit.training.metrics_logger import MetricsFile


def loggers(folder: Path, step: int = 0) -> list[Logger]:
    """TensorBoard and metrics.csv in the run's folder; a run that goes on has them go on from its step."""
    return [
        TensorBoardLogger(folder.parent, "", folder.name, default_hp_metric=False, purge_step=step or None),
        MetricsFile(folder.parent, folder.name, step),
    ]


@contextmanager
def run_lock(folder: Path | None) -> Iterator[None]:
    """Keep other runs out of a run's folder; the system frees it when the process is gone.

    Raises:
        ValueError: if another run writes there.
    """
    rank = getattr(rank_zero_only, "rank", 0)
    if folder is None or rank:
        yield
        return
    with (folder / "lock").open("a") as file:
        try:
            # Not `flock`, whose lock the processes that make batches would inherit, and outlive the run with it
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"`ckpt_path`='last': the run in {str(folder)!r} is going on in another process; wait for it, end it, "
                "or leave `ckpt_path` out for a run of its own."
            ) from error
        yield


def new_version(run_dir: Path) -> Path:
    """Make the next free `version_N` below `run_dir`; two runs that start at once get two."""
    return new_folder(run_dir, (f"version_{number}" for number in count()), "run_dir")


def new_evaluation(run: Path, command: str) -> Path:
    """Make the next free folder in that of a run for what a command writes: `test`, `test-2` and so on."""
    return new_folder(run, (command if number == 1 else f"{command}-{number}" for number in count(1)), "ckpt_path")


def new_folder(parent: Path, names: Iterable[str], argument: str) -> Path:
    """Make the first of the folders `names` in `parent` that is not there yet."""
    for folder in (parent / name for name in names):
        if getattr(rank_zero_only, "rank", 0):
            break  # Lightning asks the first process where to write
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            cure = "; name another folder to write to with `run_dir`" if argument == "ckpt_path" else ""
            raise UserError(f"`{argument}`={str(parent)!r} cannot be written: {error.strerror}{cure}.") from error
    return folder
