"""Reads rows of images from a folder or the hub, and finds the columns of the image and the class."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
from datasets import ClassLabel, Dataset, Features, Value

from kronlit.config.user_error import UserError
from kronlit.data.image_sets import ImageSet
from kronlit.data.parquet import read_parquet

ALIASES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
"""The names that each split may have."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def read_folder(folder: str, split: str) -> Dataset | None:
    """Read a split from a folder of parquet files, or with one folder for each class; `None` if it is not there.

    Raises:
        ValueError: if the folder has no split at all, or the files cannot be read.
    """
    path = Path(folder)
    parts = {name: split_files(path, names) for name, names in ALIASES.items()}
    if not any(parts.values()):
        raise UserError(
            f"`data.path`={folder!r} holds no images: it needs train.parquet (or train-*.parquet), or "
            "train/<class>/*.png, and the same for test and, if there is one, validation."
        )
    part = parts[split]
    if part is None:
        return None
    where = f"{split} in `data.path`={folder!r}"
    if isinstance(part, list):
        return read_parquet(part, where)
    try:
        # All splits at once, because the classes are those of all splits together.
        folders = {name: str(p / "**") for name, p in parts.items() if isinstance(p, Path)}
        return datasets.load_dataset("imagefolder", data_files=folders, split=split)
    except Exception as error:  # Pillow and datasets raise many kinds of errors for a damaged file
        raise UserError(f"{where} cannot be read: {error.__cause__ or error}") from error


def split_files(path: Path, names: tuple[str, ...]) -> Path | list[Path] | None:
    """The parquet files of the split with one of these names, or its folder of classes."""
    for name in names:
        if files := sorted({*path.glob(f"{name}.parquet"), *path.glob(f"{name}-*.parquet")}):
            return files
        if (path / name).is_dir():
            return path / name
    return None


def read_hub(where: ImageSet, split: str) -> Dataset | None:
    """Read a split from the hub; `None` if the data set has no such split.

    Raises:
        ValueError: if the hub cannot be reached.
    """
    try:
        there = datasets.get_dataset_split_names(where.hub_id, where.config)
        name = next((name for name in ALIASES[split] if name in there), None)
        return None if name is None else datasets.load_dataset(where.hub_id, where.config, split=name)
    except (ConnectionError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{where.hub_id} cannot be reached ({reason}); give a local folder of parquet or class folders with "
            "`--data.path`."
        ) from error


def read_images(folder: str) -> Dataset:
    """The images in `folder` and its subfolders as rows, sorted by name. They have no class, and are not read yet.

    Raises:
        ValueError: if there are none.
    """
    files = sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"`data.predict_path`={folder!r} is no folder with images ({', '.join(SUFFIXES)}) in it.")
    rows = Dataset.from_dict({"image": [{"bytes": None, "path": str(file)} for file in files]})
    return rows.cast_column("image", datasets.Image(decode=False))


def labelled_images(rows: Dataset, image_column: str | None, label_column: str | None, where: str) -> Dataset:
    """Keep only the columns of images and classes, renamed to `image` (not decoded) and `label`.

    Raises:
        ValueError: if there is no such column, or there are several and the user has named none.
    """
    image = choose_column(rows.features, image_likeness, "image_column", "image", image_column, where)
    label = choose_column(rows.features, class_likeness, "label_column", "label", label_column, where)
    rows = rows.select_columns([image, label])
    rows = rows.rename_columns({old: new for old, new in ((image, "image"), (label, "label")) if old != new})
    return rows.cast_column("image", datasets.Image(decode=False))


def choose_column(
    features: Features, fits: Callable[[Any], int], option: str, usual: str, name: str | None, where: str
) -> str:
    """The column that the user named, or the one that fits best; among equals, the one with the usual name."""
    if name is not None and name in features and fits(features[name]):
        return name
    best = max((fits(feature) for feature in features.values()), default=0)
    fit = [column for column, feature in features.items() if best and fits(feature) == best]
    if name is None and (len(fit) == 1 or usual in fit):
        return usual if usual in fit else fit[0]
    kinds = ", ".join(f"{column} ({column_kind(feature)})" for column, feature in features.items())
    if name is not None:
        raise UserError(f"`data.{option}`={name!r} is no column of {usual}s of {where}; it has {kinds}.")
    raise UserError(
        f"{where} has {'several columns' if fit else 'no column'} of {usual}s: it has {kinds}; name one with "
        f"`--data.{option}`."
    )


def image_likeness(feature: Any) -> int:
    """2 for a column of images, 1 for one that may hold images (bytes, or bytes with a path), else 0."""
    if isinstance(feature, datasets.Image):
        return 2
    looks = isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")
    return int(looks or (isinstance(feature, dict) and feature.keys() == {"bytes", "path"}))


def class_likeness(feature: Any) -> int:
    """2 for a column of classes, 1 for one of whole numbers, else 0."""
    if isinstance(feature, ClassLabel):
        return 2
    return int(isinstance(feature, Value) and feature.dtype.startswith(("int", "uint")))


def column_kind(feature: Any) -> str:
    """What a column holds, for a message."""
    return str(getattr(feature, "dtype", None) or type(feature).__name__) if not image_likeness(feature) else "image"
