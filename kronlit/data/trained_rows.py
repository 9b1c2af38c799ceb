"""The rows that a run trains on, which what goes on from its checkpoint, or scores it, must not change."""

import hashlib
import inspect
from typing import Any

from datasets import Dataset

from kronlit.data.form import Form

DRAWS = ("split_seed", "splits", "validation_share", "k", "sampling", "protocol", "dev")
"""Arguments of data modules that say which rows are held out of which, beside the shares of `TextFiles`."""

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
"""What a checkpoint keeps of a data module; those of before it kept its rows have none."""

CURE = "`kronlit export` it and give that folder as `init_adapter`, for a run of its own"


def record_of(data: Any) -> dict[str, Any]:
    """What a checkpoint keeps of the training rows of a data module: how many, a digest, and how they were drawn."""
    rows = data.load("train")
    limit = data.max_train_samples
    limit = limit if limit is not None and limit < len(rows) else None
    record = {"count": len(rows), "digest": digest(rows, data.task.columns), "draws": draws(data)}
    return record | {"max_train_samples": limit, "sample_seed": None if limit is None else data.sample_seed}


def digest(rows: Dataset, columns: tuple[str, ...]) -> str:
    """Digits that tell rows from others by their texts and labels, in order; images by their labels alone."""
    names = [name for name in (*columns, "label", "answers") if name in rows.column_names and name != "image"]
    found = hashlib.sha256()
    for batch in rows.select_columns(names).iter(10_000):
        found.update(repr([list(batch[name]) for name in names]).encode("utf-8", "backslashreplace"))
    return found.hexdigest()[:16]


def draws(data: Any) -> dict[str, Any]:
    """The arguments of a data module that say which rows are held out of which."""
    kept = {"splits": vars(data).get("protocol")} | vars(data)
    shares = {split: share for split, share in vars(data).get("files", {}).items() if isinstance(share, float)}
    constructors = [vars(kind)["__init__"] for kind in type(data).__mro__ if "__init__" in vars(kind)]
    arguments = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
    return {name: kept[name] for name in DRAWS if name in kept and name in arguments} | shares


def check_resumed(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise `ValueError` unless a training can go on, on the rows that it was on, validating on those it did."""
    both = [one["draws"] | {name: one[name] for name in ("max_train_samples", "sample_seed")} for one in (ours, theirs)]
    said = differences(*both)
    if not said and ours["digest"] != theirs["digest"]:
        said = f"`data` has {ours['count']} rows to train on that are not the {theirs['count']} of the checkpoint"
    if said:
        raise ValueError(
            f"{said}: rows that were trained on could be validated on. A training goes on with the rows "
            f"that it had: give them again, or {CURE}."
        )


def check_held_out(data: Any, theirs: dict[str, Any]) -> None:
    """Raise `ValueError` unless rows that `data` holds out were neither trained nor selected on by `theirs`."""
    ours = draws(data)
    seeds = [{"split_seed": one.get("split_seed")} for one in (ours, theirs["draws"])]
    if differences(*seeds) or other_rows(data, theirs):
        said = differences(ours, theirs["draws"]) or "`data` has other training rows than the checkpoint"
        raise ValueError(
            f"{said}: rows that were trained on would be among those that are scored. Give what the run had, as its "
            "config.yaml has it, or a file or split of its own to score."
        )


def other_rows(data: Any, theirs: dict[str, Any]) -> bool:
    """Whether the training rows are others, as far as they are here."""
    try:
        return bool(data.trained_rows["digest"] != theirs["digest"])
    except ValueError:  # none are; rows that are held out of them, which they would be missed for, say so themselves
        return False


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What differs, for a message."""
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return ", ".join(f"`data.{name}`={ours.get(name)}, where the checkpoint had {theirs.get(name)}" for name in names)
