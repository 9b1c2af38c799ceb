"""Rows of one's own, some of which a seed holds out of those to train on."""

from abc import abstractmethod
from typing import Any

import torch
from datasets import Dataset

from kronlit.config.user_error import UserError
from kronlit.data.text import TextData


class HeldOutRows(TextData):
    """Rows to train on, and rows to validate and test on that have a source of their own or are held out of the first.

    To add a data set, subclass, set the attributes in the constructor, call `check_shares`, and write `read`.
    """

    files: dict[str, float | str | None]
    """By split its source, or the share of the training rows to hold out for it."""
    split_seed: int
    """Seed of the held-out rows."""
    _selected: dict[tuple[str, str], Dataset]

    @abstractmethod
    def read(self, source: str, split: str) -> Dataset:
        """The rows of a source; `ValueError` if it is not there or has other rows."""

    def _shares(self) -> dict[str, float]:
        return {split: value for split, value in self.files.items() if isinstance(value, float)}

    def check_shares(self) -> None:
        """Raise `ValueError` unless the shares to hold out leave rows to train on."""
        shares = self._shares()
        for split, share in shares.items():
            if not 0 < share < 1:
                raise UserError(f"`data.{split}`={share} must be a file, or a share above 0 and below 1.")
        if sum(shares.values()) >= 1:
            raise UserError(f"`data.validation`={shares['validation']} and `data.test`={shares['test']} leave no row.")

    def draws(self) -> dict[str, Any]:
        return super().draws() | self._shares()

    def held_out(self, split: str) -> bool:
        return isinstance(self.files.get(split), float)

    def load(self, split: str) -> Dataset:
        source = self.files[split]
        if source is None:
            raise UserError(
                f"there are no {split} rows: give a file or a share of the training rows as `data.{split}`."
            )
        if isinstance(source, str) and split != "train":
            return self.read(source, split)
        rows = self.read(str(self.files["train"]), "train")
        part = (rows._fingerprint, split)
        if part not in self._selected:
            self._selected[part] = rows.select(self._parts(len(rows))[split])
        return self._selected[part]

    def _parts(self, rows: int) -> dict[str, list[int]]:
        """Split the row numbers of the training rows into validation, test and training rows."""
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(self.split_seed)).tolist()
        parts: dict[str, list[int]] = {}
        first = 0
        for split in ("validation", "test"):
            share = self.files[split]
            last = first + (max(1, round(share * rows)) if isinstance(share, float) else 0)
            parts[split], first = order[first:last], last
        return parts | {"train": sorted(order[first:])}
