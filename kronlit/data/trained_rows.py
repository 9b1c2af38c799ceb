"""Records the rows that a run trains on, so that nobody resumes on other rows or scores on training rows."""

import hashlib
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from kronlit.config.user_error import UserError
from kronlit.data.form import Form

if TYPE_CHECKING:
    from kronlit.data.base import TaskData

DRAWS = ("split_seed", "validation_share", "k", "sampling", "protocol", "dev")
"""Arguments that say which rows are held out of which, in every data module that has them (`TaskData.draws`)."""

FORM: Form = {
    "train?": {"seed": int, "epoch": int, "given": int, "batch_size": int},
    "rows?": {
        "count": int,
        "digest": str,
        "draws": {...: int | float | str | list | tuple | None},
        "max_train_samples": int | None,
        "sample_seed": int | None,
    },
}
"""What a checkpoint keeps of a data module. Older checkpoints have no `rows`."""

CURE = "`kronlit export` it and give that folder as `init_adapter`, for a run of its own"


def row_record(data: "TaskData") -> dict[str, Any]:
    """A record of a data module's training rows for checkpoints: their number, a hash, and how they were drawn."""
    rows = data.load("train")
    limit = data.max_train_samples
    limit = limit if limit is not None and limit < len(rows) else None
    record = {"count": len(rows), "digest": digest(rows, data.task.columns), "draws": data.draws()}
    return record | {"max_train_samples": limit, "sample_seed": None if limit is None else data.sample_seed}


def digest(rows: Dataset, columns: tuple[str, ...]) -> str:
    """A hash of the rows' texts and labels, in order. Of images, only the labels count."""
    names = [name for name in (*columns, "label", "answers") if name in rows.column_names and name != "image"]
    found = hashlib.sha256()
    for batch in rows.select_columns(names).iter(10_000):
        found.update(repr([list(batch[name]) for name in names]).encode("utf-8", "backslashreplace"))
    return found.hexdigest()[:16]


def check_resumed(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise `ValueError` unless a training resumes with the same training and validation rows."""
    both = [one["draws"] | {name: one[name] for name in ("max_train_samples", "sample_seed")} for one in (ours, theirs)]
    said = describe_differences(*both)
    if not said and ours["digest"] != theirs["digest"]:
        said = f"`data` has {ours['count']} rows to train on that are not the {theirs['count']} of the checkpoint"
    if said:
        raise UserError(
            f"{said}: rows that were trained on could be validated on. A training goes on with the rows "
            f"that it had: give them again, or {CURE}."
        )


def check_held_out(data: "TaskData", theirs: dict[str, Any]) -> None:
    """Raise `ValueError` if rows that `data` holds out may have been used for training or selection by `theirs`."""
    ours = data.draws()
    seeds = [{"split_seed": one.get("split_seed")} for one in (ours, theirs["draws"])]
    if describe_differences(*seeds) or rows_differ(data, theirs):
        said = describe_differences(ours, theirs["draws"]) or "`data` has other training rows than the checkpoint"
        raise UserError(
            f"{said}: rows that were trained on would be among those that are scored. Give what the run had, as its "
            "config.yaml has it, or a file or split of its own to score."
        )


def rows_differ(data: "TaskData", theirs: dict[str, Any]) -> bool:
    """Whether the training rows differ from those of the record, if they can be read."""
    try:
        return bool(data.trained_rows["digest"] != theirs["digest"])
    except ValueError:  # none are; rows that are held out of them, which they would be missed for, say so themselves
        return False


def describe_differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The differences between two records, for a message."""
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return ", ".join(f"`data.{name}`={ours.get(name)}, where the checkpoint had {theirs.get(name)}" for name in names)
