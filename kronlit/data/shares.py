"""Shares of the training rows that are held out to validate and test on."""

import torch

from kronlit.config.user_error import UserError

Files = dict[str, float | str | None]
"""By split, its file or the share of the training rows that it is."""


def shares(files: Files) -> dict[str, float]:
    """The shares of the training rows that are held out, by split."""
    return {split: value for split, value in files.items() if isinstance(value, float)}


def check_shares(files: Files) -> None:
    """Raise `ValueError` unless the shares are such, and leave rows to train on."""
    held_out = shares(files)
    for split, share in held_out.items():
        if not 0 < share < 1:
            raise UserError(f"`data.{split}`={share} must be a file, or a share above 0 and below 1.")
    if sum(held_out.values()) >= 1:
        raise UserError(f"`data.validation`={held_out['validation']} and `data.test`={held_out['test']} leave no row.")


def parts(files: Files, rows: int, seed: int) -> dict[str, list[int]]:
    """Split the numbers of the training rows into validation, test and training rows."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()
    found: dict[str, list[int]] = {}
    first = 0
    for split in ("validation", "test"):
        share = files[split]
        last = first + (max(1, round(share * rows)) if isinstance(share, float) else 0)
        found[split], first = order[first:last], last
    return found | {"train": sorted(order[first:])}
