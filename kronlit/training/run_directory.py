"""The folder of a run, in which `fit --ckpt_path last` resumes."""

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from kronlit.config.files import is_at
from kronlit.config.user_error import UserError
from kronlit.training.metrics_logger import MetricsFile
from kronlit.training.tensorboard import TensorBoard


def loggers(folder: Path, step: int = 0) -> list[Logger]:
    """The loggers of TensorBoard and metrics.csv in the run's folder. A resumed run continues them at its step."""
    return [
        TensorBoard(folder.parent, "", folder.name, default_hp_metric=False, purge_step=step or None),
        MetricsFile(folder.parent, folder.name, step),
    ]


@contextmanager
def run_lock(folder: Path | None) -> Iterator[None]:
    """Keep other runs out of a run's folder. The system frees the lock when the process is gone.

    Raises:
        ValueError: if another run writes there.
    """
    rank = getattr(rank_zero_only, "rank", 0)
    if folder is None or rank:
        yield
        return
    path = folder / "lock"
    with ExitStack() as stack:
        held = False
        while not held:
            file = stack.enter_context(path.open("a"))
            try:
                # Not `flock`: data loader workers would inherit that lock, and might hold it longer than the run lives.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(
                    f"`ckpt_path`='last': the run in {str(folder)!r} is going on in another process; wait for it, end "
                    "it, or leave `ckpt_path` out for a run of its own."
                ) from error
            held = is_at(path, file.fileno())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def new_version(run_dir: Path) -> Path:
    """Make the next free `version_N` in `run_dir`. Two runs that start at the same time get different ones."""
    return new_folder(run_dir, (f"version_{number}" for number in count()), "run_dir")


def new_evaluation(run: Path, command: str) -> Path:
    """Make the next free folder for the output of a command in a run's folder: `test`, `test-2` and so on."""
    return new_folder(run, (command if number == 1 else f"{command}-{number}" for number in count(1)), "ckpt_path")


def new_folder(parent: Path, names: Iterable[str], argument: str) -> Path:
    """Make the first of the folders `names` in `parent` that does not exist yet."""
    for folder in (parent / name for name in names):
        if getattr(rank_zero_only, "rank", 0):
            break  # only the first process makes it; Lightning tells the others
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            cure = "; name another folder to write to with `run_dir`" if argument == "ckpt_path" else ""
            raise UserError(f"`{argument}`={str(parent)!r} cannot be written: {error.strerror}{cure}.") from error
    return folder
