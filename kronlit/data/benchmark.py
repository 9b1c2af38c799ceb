"""What benchmarks share: reading a split from the hub or a folder, and holding out rows."""

from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset, load_dataset

from kronlit.config.user_error import UserError
from kronlit.data.parquet import read_parquet
from kronlit.data.tasks.benchmark import BenchmarkTask


def read_split(hub_id: str, task: str, split: str, path: str | None, revision: str | None = None) -> Dataset:
    """Read an official split of a task from the folder `path`, in the hub's layout, or else from the hub.

    `revision` selects a revision on the hub.

    Raises:
        ValueError: if the split is not there.
    """
    if path is None:
        try:
            return load_dataset(hub_id, task, split=split, revision=revision)
        except (ConnectionError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{hub_id} has no {task}/{split} that can be reached ({reason}); "
                f"give a local folder of its layout with `--data.path`."
            ) from error
    folder = Path(path, task)
    files = sorted({*folder.glob(f"{split}.parquet"), *folder.glob(f"{split}-*.parquet")})
    if not files:
        raise UserError(f"`data.path`={path!r} has no {task}/{split}.parquet, which this run needs.")
    return read_parquet(files, f"{folder / split}.parquet")


def check_splits(known: BenchmarkTask, splits: str) -> None:
    """Refuse the splits of Mahabadi et al. for a task that has none."""
    if splits == "mahabadi" and known.mahabadi is None:
        raise UserError(f"`data.splits`='mahabadi' has no {known.task.name}: it is a test set alone; use `official`.")


def holdout_split(rows: Dataset, validation: int, split: str, seed: int) -> Dataset:
    """The first `validation` rows of a seeded permutation if `split` is `validation`, else the remaining rows."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return rows.select(order[:validation] if split == "validation" else order[validation:])


def mahabadi(known: BenchmarkTask, read: Callable[[str], Dataset], split: str, seed: int) -> Dataset:
    """The rows of a split of Mahabadi et al. (Compacter), of what `read` gives for an official split."""
    if isinstance(known.mahabadi, dict):
        return read(known.mahabadi.get(split, split))
    if known.mahabadi == "halves" and split != "train":
        rows = read("validation")
        return holdout_split(rows, len(rows) // 2, split, seed)
    if known.mahabadi == "thousand" and split != "test":
        return holdout_split(read("train"), 1000, split, seed)
    return read("validation" if split == "test" else split)
