"""Batches of rows of similar length, and a loader that can stop and resume at any batch."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from kronlit.config.user_error import UserError

POOL = 50
"""Number of batches whose rows are sorted together.

It is large enough for little padding (a few per cent), and small enough to keep the order random.
"""

Key = int | tuple[int, int, int]
"""A row; or seed, epoch and row."""


class LengthGroupedBatches(Sampler[list[int]]):
    """Batches of rows of similar length, distributed over the processes.

    A global batch has `batch_size * world_size` rows, of which process `rank` takes every `world_size`-th. So one
    process with a large batch and several with small ones train on the same rows. If the last batch cannot be divided
    evenly, its rows have unequal weights, because gradients are averaged over processes.

    Args:
        lengths: length of each row, in tokens.
        batch_size: rows per batch and process.
        shuffle: draw a new order each epoch; otherwise the longest rows come first.
        seed: seed of the order; the same seed and epoch give the same batches.
        rank: rank of this process.
        world_size: number of processes.
        max_tokens: tokens per batch and process, including padding; replaces `batch_size`. All rows are then sorted by
            length, and rows of equal length are shuffled each epoch, so that all epochs have equally many batches.

    Raises:
        ValueError: if the longest row has more than `max_tokens` tokens.
    """

    def __init__(
        self,
        lengths: list[int],
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        max_tokens: int | None = None,
    ) -> None:
        self.lengths = torch.tensor(lengths)
        if max_tokens is not None and max_tokens < max(lengths):
            raise UserError(f"`data.max_tokens`={max_tokens} must be at least {max(lengths)}, the longest row's.")
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0
        self.budgeted = self._batches_by_tokens() if max_tokens is not None else []

    def __len__(self) -> int:
        return len(self.budgeted) or -(-len(self.lengths) // (self.batch_size * self.world_size))

    @property
    def size(self) -> int:
        """The size of a global batch, in rows or in tokens."""
        return (self.max_tokens or self.batch_size) * self.world_size

    @cached_property
    def digest(self) -> str:
        """A hash of the rows' lengths, which decide the order of the rows."""
        return hashlib.sha256(self.lengths.numpy().tobytes()).hexdigest()[:16]

    def _batches_by_tokens(self) -> list[int]:
        """How many rows each global batch gets within `max_tokens`, from the shortest rows to the longest."""
        assert self.max_tokens is not None
        lengths, sizes = self.lengths.sort().values.tolist(), []
        while lengths:
            rows = min(self.max_tokens // lengths[-1] * self.world_size, len(lengths))
            sizes.append(rows)
            del lengths[-rows:]
        return sizes[::-1]

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.global_batches()[self.start :]:
            # If there are fewer rows than processes, repeat some, so that every process takes every step.
            rows = batch if len(batch) >= self.world_size else batch * self.world_size
            yield rows[self.rank :: self.world_size]

    def global_batches(self) -> list[list[int]]:
        """The batches of this epoch, over all processes."""
        size = self.batch_size * self.world_size
        if not self.shuffle:
            return [rows.tolist() for rows in torch.argsort(self.lengths, descending=True, stable=True).split(size)]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        pools = [order] if self.budgeted else order.split(POOL * size)
        pools = [pool[torch.argsort(self.lengths[pool], stable=True)] for pool in pools]
        batches = [rows.tolist() for pool in pools for rows in pool.split(self.budgeted or size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


class SeededBatches(LengthGroupedBatches):
    """Batches that ask for each row by seed, epoch and row. What is drawn for a row depends only on these three."""

    def __iter__(self) -> Iterator[list[Any]]:
        epoch = self.epoch
        for rows in super().__iter__():
            yield [(self.seed, epoch, row) for row in rows]


class ResumableLoader(DataLoader[Any]):
    """A data loader over `LengthGroupedBatches` that remembers its epoch and how many batches it has yielded.

    It draws nothing from the global generator, so restarting it does not change dropout.

    Args:
        dataset: the rows.
        batches: the sampler.
        batches_per_epoch: returns how many batches the trainer takes per epoch; it may stop an epoch early.
        kwargs: further arguments of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self, dataset: Any, batches: LengthGroupedBatches, batches_per_epoch: Callable[[], float], **kwargs: Any
    ) -> None:
        super().__init__(
            dataset, batch_sampler=batches, generator=torch.Generator().manual_seed(batches.seed), **kwargs
        )
        self.batches = batches
        self.batches_per_epoch = batches_per_epoch
        self.given = 0
        self.resumes = False

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if self.given and not self.resumes:
            self.batches.epoch += 1
            self.given = 0
        self.resumes = False
        self.batches.start = self.given
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Seed, epoch and number of batches yielded. The end of an epoch counts as the start of the next."""
        over = self.given >= min(len(self), self.batches_per_epoch())
        epoch, given = (self.batches.epoch + 1, 0) if over else (self.batches.epoch, self.given)
        state = {"seed": self.batches.seed, "epoch": epoch, "given": given, "batch_size": self.batches.size}
        return state | ({"lengths": self.batches.digest} if given else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            ValueError: if that was within an epoch, and the batch size or the rows' lengths have changed since.
        """
        if state["given"] and state["batch_size"] != self.batches.size:
            unit, name = ("rows", "batch_size") if self.batches.max_tokens is None else ("tokens", "max_tokens")
            raise UserError(
                f"the checkpoint stands within an epoch of batches of {state['batch_size']} {unit} over all processes; "
                f"`data.{name}` times the number of devices must be that again, not {self.batches.size}."
            )
        if state["given"] and state.get("lengths", self.batches.digest) != self.batches.digest:
            raise UserError(
                "the checkpoint stands within an epoch of rows of other lengths, by which they are put together: give "
                "the `model.max_length` and all else that makes tokens of them as they were, or go on from a "
                "checkpoint at the end of an epoch."
            )
        self.batches.seed, self.batches.epoch, self.given = state["seed"], state["epoch"], state["given"]
        self.resumes = True
