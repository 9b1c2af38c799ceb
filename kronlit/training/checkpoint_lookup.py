"""Which checkpoint a command means: the file that is named, or the best or the last of a run."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from kronlit.config.files import read_yaml
from kronlit.config.user_error import UserError
from kronlit.training.checkpoint import AtomicCheckpoint
from kronlit.training.metrics_logger import metrics_so_far

KEYWORDS = ("last", "best")


def runs(run_dir: Path) -> list[Path]:
    """The folders of an experiment's runs."""
    return list(run_dir.glob("version_*"))


def checkpoints(folders: Iterable[Path], keyword: str) -> list[Path]:
    """The `best` or `last` checkpoints in the folders of runs, the newest last."""
    files = [file for folder in folders for file in folder.glob(f"checkpoints/{keyword}*.ckpt") if file.is_file()]
    return sorted(files, key=lambda file: file.stat().st_mtime)  # no links to nothing, which have none


def best_of(files: list[Path]) -> Path:
    """Of best checkpoints, the newest last, that of the newest run; of several in one, what its newest says is best."""
    newest = files[-1]
    beside = {file.name: file for file in files if file.parent == newest.parent}
    if len(beside) > 1:
        for state in AtomicCheckpoint().load_checkpoint(newest).get("callbacks", {}).values():
            if isinstance(state, dict) and (name := Path(str(state.get("best_model_path"))).name) in beside:
                return beside[name]
    return newest


def best_of_run(path: Path) -> Path:
    """`path`, or the best checkpoint of the newest run in it; the last one where nothing was validated.

    Raises:
        ValueError: if there is none.
    """
    if path.is_file():
        return path
    for name in KEYWORDS[::-1]:
        if files := checkpoints([path, *runs(path)], name):
            return best_of(files)
    raise UserError(f"`ckpt_path`={str(path)!r} is neither a checkpoint nor the folder of a run that has one.")


def find_checkpoint(path: str | None, run_dir: Path, command: str, run: Path | None = None) -> str | None:
    """The file that `--ckpt_path` names. `last` and `best` are looked up in `run`, else in the newest run in `run_dir`.

    Args:
        path: the value of `--ckpt_path`.
        run_dir: the folder of the experiment's runs.
        command: the command, such as `fit`.
        run: the folder of the run whose own config is used, if any.

    Raises:
        ValueError: if there is no such checkpoint. Only `fit --ckpt_path last` may find none, and starts a new run.
    """
    if path is None:
        return None
    if path not in KEYWORDS:
        if not Path(path).is_file():
            raise UserError(f"`ckpt_path`={path!r} is no file; give one, or `last` or `best` of {str(run_dir)!r}.")
        return path
    if files := checkpoints([run] if run else [], path) or checkpoints(runs(run_dir), path):
        if path == "best":
            return str(best_of(files))
        return str(last_whole(files[-1]) if command == "fit" else files[-1])
    if path == "last" and command == "fit":
        return instead_of_last(run_dir)
    raise UserError(f"`ckpt_path`={path!r}: no run below {str(run_dir)!r} has one; name a file, or another `run_dir`.")


def instead_of_last(run_dir: Path) -> str | None:
    """The best checkpoint, if a kill came before the last one was written; `None` if no run can resume.

    Raises:
        ValueError: if a run must have written a checkpoint, and it is gone.
    """
    if best := checkpoints(runs(run_dir), "best"):
        rank_zero_only(print)(f"{run_dir} has no last checkpoint: going on from {best[-1]}.", file=sys.stderr)
        return str(last_whole(best[-1]))
    if lost := [folder for folder in runs(run_dir) if has_first_checkpoint(folder)]:
        newest = max(lost, key=lambda folder: folder.stat().st_mtime)
        there = sorted(str(file) for file in newest.glob("**/*.ckpt"))
        cure = f"name {there[-1]!r}" if there else "leave `ckpt_path` out for a run from the beginning"
        raise UserError(
            f"`ckpt_path`='last': the run in {str(newest)!r} was validated and trained on, and has no last.ckpt; put "
            f"its checkpoints back there, {cure}, or give another `run_dir`."
        )
    rank_zero_only(print)(f"{run_dir} has no checkpoint yet: starting afresh.")
    return None


def saves_later(config: Path) -> bool:
    """Whether a run's config lets it train on after a validation without any checkpoint."""
    try:
        content = read_yaml(config)
        last, best = content["last_checkpoint"], content["best_checkpoint"]
        return bool(last.get("every_n_train_steps")) or best.get("save_top_k") == 0
    except (ValueError, KeyError, AttributeError):
        return False


def has_first_checkpoint(folder: Path) -> bool:
    """Whether a run must have written its first checkpoint: it ended, or trained on after a validation."""
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
    """`last`, or, if that is damaged, the newest intact best checkpoint of its run.

    Raises:
        ValueError: if none of them can be read.
    """
    faults = []
    for file in (last, *reversed(checkpoints([last.parent.parent], "best"))):
        try:
            AtomicCheckpoint().load_checkpoint(file)
        except ValueError as error:
            if isinstance(error.__cause__, OSError):
                raise  # the file could not be opened, but may be intact
            faults.append(str(error))
            continue
        if faults:
            rank_zero_only(print)(f"{' '.join(faults)} Going on from {file}.", file=sys.stderr)
        return file
    raise UserError(
        f"{' '.join(faults)} Its run has no other: delete {str(last.parent.parent)!r}, or give another `run_dir`."
    )


def say_what_is_not_found(checkpoints: dict[str, Any]) -> None:
    """Warn about checkpoints that are written where no command looks for them.

    Args:
        checkpoints: for each keyword, the callback that writes them.
    """
    for keyword, given in checkpoints.items():
        if given.dirpath is not None or not str(given.filename).startswith(keyword):
            rank_zero_only(print)(
                f"`{keyword}_checkpoint` writes where merge and `--ckpt_path {keyword}` do not look: leave out its "
                f"`dirpath`, and begin its `filename` with {keyword!r}.",
                file=sys.stderr,
            )
