"""Where a run writes: a folder of its own, in which `fit --ckpt_path last` goes on."""

import fcntl
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from kronlit.training.checkpoint import AtomicCheckpoint, best_of
from kronlit.training.metrics_logger import MetricsFile, metrics_so_far

KEYWORDS = ("last", "best")


def say_what_is_not_found(checkpoints: dict[str, Any]) -> None:
    """A line on checkpoints that are written where no command looks for them.

    Args:
        checkpoints: by keyword, the settings of what writes them.
    """
    for keyword, given in checkpoints.items():
        if given.dirpath is not None or not str(given.filename).startswith(keyword):
            rank_zero_only(print)(
                f"`{keyword}_checkpoint` writes where merge and `--ckpt_path {keyword}` do not look: leave out its "
                f"`dirpath`, and begin its `filename` with {keyword!r}.",
                file=sys.stderr,
            )


def loggers(folder: Path, step: int = 0) -> list[Logger]:
    """TensorBoard and metrics.csv in the run's folder; a run that goes on has them go on from its step."""
    return [
        TensorBoardLogger(folder.parent, "", folder.name, default_hp_metric=False, purge_step=step or None),
        MetricsFile(folder.parent, folder.name, step),
    ]


def found_checkpoint(path: str | None, run_dir: Path, command: str, run: Path | None = None) -> str | None:
    """The file that `--ckpt_path` names; `last` and `best` are those of `run`, or the newest run below `run_dir`.

    Args:
        path: what was given.
        run_dir: the folder of the experiment's runs.
        command: `fit` or another.
        run: the folder of the run whose own config is used.

    Raises:
        ValueError: if there is none. Only `fit --ckpt_path last` may find none: it starts afresh.
    """
    if path is None:
        return None
    if path not in KEYWORDS:
        if not Path(path).is_file():
            raise ValueError(f"`ckpt_path`={path!r} is no file; give one, or `last` or `best` of {str(run_dir)!r}.")
        return path
    own = list(run.glob(f"checkpoints/{path}*.ckpt")) if run else []
    files = own or list(run_dir.glob(f"version_*/checkpoints/{path}*.ckpt"))
    files.sort(key=lambda file: file.stat().st_mtime)
    if files:
        if path == "best":
            return str(best_of(files))
        return str(last_whole(files[-1]) if command == "fit" else files[-1])
    if path == "last" and command == "fit":
        return instead_of_last(run_dir)
    raise ValueError(f"`ckpt_path`={path!r}: no run below {str(run_dir)!r} has one; name a file, or another `run_dir`.")


def instead_of_last(run_dir: Path) -> str | None:
    """The best checkpoint where a kill came before the last was written; `None` if no run left what could go on.

    Raises:
        ValueError: if one came further than to its first checkpoint, and has none.
    """
    best = sorted(run_dir.glob("version_*/checkpoints/best*.ckpt"), key=lambda file: file.stat().st_mtime)
    if best:
        rank_zero_only(print)(f"{run_dir} has no last checkpoint: going on from {best[-1]}.", file=sys.stderr)
        return str(last_whole(best[-1]))
    if lost := [folder for folder in run_dir.glob("version_*") if came_far(folder)]:
        newest = max(lost, key=lambda folder: folder.stat().st_mtime)
        there = sorted(str(file) for file in newest.glob("**/*.ckpt"))
        cure = f"name {there[-1]!r}" if there else "leave `ckpt_path` out for a run from the beginning"
        raise ValueError(
            f"`ckpt_path`='last': the run in {str(newest)!r} was validated and trained on, and has no last.ckpt; put "
            f"its checkpoints back there, {cure}, or give another `run_dir`."
        )
    rank_zero_only(print)(f"{run_dir} has no checkpoint yet: starting afresh.")
    return None


def saves_later(config: Path) -> bool:
    """Whether a run may train on after a validation before it has written any checkpoint, as its config has it."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        last, best = content["last_checkpoint"], content["best_checkpoint"]
        return bool(last.get("every_n_train_steps")) or best.get("save_top_k") == 0
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False


def came_far(folder: Path) -> bool:
    """Whether a run came to its end, or trained on after a validation, with which its first checkpoint is written."""
    if (folder / "summary.json").exists():
        return True
    if saves_later(folder / "config.yaml"):
        return False
    validated = False
    for row in metrics_so_far(folder / "metrics.csv"):
        names = {name.split("/")[0] for name, value in row.items() if value}
        if validated and "train" in names:
            return True
        validated |= "val" in names
    return False


def last_whole(last: Path) -> Path:
    """`last`, or where that is damaged, the newest of the best checkpoints of its run.

    Raises:
        ValueError: if there is none that can be read.
    """
    best = sorted(last.parent.glob("best*.ckpt"), key=lambda file: file.stat().st_mtime, reverse=True)
    faults = []
    for file in (last, *best):
        try:
            AtomicCheckpoint().load_checkpoint(file)
        except ValueError as error:
            if isinstance(error.__cause__, OSError):
                raise  # it may be whole
            faults.append(str(error))
            continue
        if faults:
            rank_zero_only(print)(f"{' '.join(faults)} Going on from {file}.", file=sys.stderr)
        return file
    raise ValueError(
        f"{' '.join(faults)} Its run has no other: delete {str(last.parent.parent)!r}, or give another `run_dir`."
    )


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
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
            raise ValueError(
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
            raise ValueError(f"`{argument}`={str(parent)!r} cannot be written: {error.strerror}{cure}.") from error
    return folder
