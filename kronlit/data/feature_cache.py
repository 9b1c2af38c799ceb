"""Features of a split, computed once into a memory-mapped file that later runs find again."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset


def map_once(rows: Dataset, features_of: Callable[..., Any], depends_on: tuple[Any, ...], **kwargs: Any) -> Dataset:
    """The features of `rows` in place of their columns; from the file, if a run before has written it.

    Args:
        rows: the rows.
        features_of: makes features of a row (or a batch) and its number.
        depends_on: what the features depend on beside the rows, by `repr`.
        **kwargs: what `Dataset.map` takes.
    """
    key = hashlib.sha256(repr((rows._fingerprint, *depends_on)).encode()).hexdigest()[:32]
    cache = Path(datasets.config.HF_DATASETS_CACHE, "kronlit")
    cache.mkdir(parents=True, exist_ok=True)
    return rows.map(
        features_of,
        with_indices=True,
        remove_columns=rows.column_names,
        new_fingerprint=key,
        cache_file_name=str(cache / f"{key}.arrow"),
        **kwargs,
    )
