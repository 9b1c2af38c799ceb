"""Reads parquet files, of which a damaged one is told in one line."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from kronlit.config.user_error import UserError


def read_parquet(files: Sequence[Path], name: str) -> Dataset:
    """The rows of the pieces of a parquet file.

    Args:
        files: the pieces, in their order.
        name: what is read, for a message.

    Raises:
        ValueError: if they cannot be read.
    """
    try:
        return Dataset.from_parquet([str(file) for file in files])
    except Exception as error:  # pyarrow and datasets raise many kinds of errors for a damaged file
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"{name} cannot be read: {reason}") from error
