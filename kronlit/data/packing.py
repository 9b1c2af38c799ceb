"""Packing: short rows are joined to sequences of full length, so that no batch has much padding."""

import hashlib
from bisect import bisect_left, insort
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from datasets import Dataset

from kronlit.data.batches import LengthGroupedBatches

Pack = tuple[int, ...]
"""The rows of one sequence."""


def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    """Share out rows over as few sequences as best-fit decreasing finds (Johnson, 1973).

    Args:
        lengths: length of each row; none is 0 or exceeds `capacity`.
        capacity: the most tokens of a sequence.

    Returns:
        The rows of each sequence, the longest first.
    """
    packs: list[list[int]] = []
    rooms: dict[int, list[list[int]]] = {}  # packs by the room that is left in them
    sizes: list[int] = []  # the keys of `rooms`, sorted
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = bisect_left(sizes, lengths[row])
        if place == len(sizes):
            room = capacity
            packs.append(chosen := [])
        else:
            room = sizes[place]
            chosen = rooms[room].pop()
            if not rooms[room]:
                del rooms[room], sizes[place]
        chosen.append(row)
        left = room - lengths[row]
        if left not in rooms:
            rooms[left] = []
            insort(sizes, left)
        rooms[left].append(chosen)
    return packs


class PackedBatches(LengthGroupedBatches):
    """Batches of sequences, each of which is a pack of whole rows, distributed over the processes.

    Which lengths are joined depends on the lengths alone, so all epochs have equally many batches. Each epoch draws
    which of the rows of a length goes where, and the order of the sequences.

    Args:
        lengths: length of each row, in tokens.
        capacity: the most tokens of a sequence.
        batch_size: sequences per batch and process.
        seed: seed of the order; the same seed and epoch give the same batches.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self, lengths: list[int], capacity: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(lengths, batch_size, True, seed, rank, world_size)
        self.capacity = capacity
        self.packs = pack(lengths, capacity)

    def __len__(self) -> int:
        return -(-len(self.packs) // (self.batch_size * self.world_size))

    @cached_property
    def digest(self) -> str:
        """A hash of the rows' lengths and of the capacity, which decide the order of the rows."""
        return hashlib.sha256(self.lengths.numpy().tobytes() + b"packed %d" % self.capacity).hexdigest()[:16]

    def global_batches(self) -> list[list[Any]]:
        """The batches of this epoch, over all processes: lists of packs."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        drawn = order[torch.argsort(self.lengths[order], stable=True)].tolist()
        plain = torch.argsort(self.lengths, stable=True).tolist()
        stand_in = dict(zip(plain, drawn, strict=True))  # another row of the same length
        packs = [tuple(stand_in[row] for row in rows) for rows in self.packs]
        shuffled = [packs[number] for number in torch.randperm(len(packs), generator=generator).tolist()]
        size = self.batch_size * self.world_size
        return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]


class PackedRows:
    """Rows of tokens as sequences: `input_ids`, `labels`, and `position_ids`, which start anew for each row.

    Args:
        rows: the encoded rows.
    """

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, members: Pack) -> dict[str, Any]:
        """The rows of a pack, joined; `row` has their numbers."""
        columns = self.rows[list(members)]
        joined = {name: list(chain.from_iterable(columns[name])) for name in ("input_ids", "labels")}
        positions = chain.from_iterable(map(range, columns["length"]))
        return joined | {"position_ids": list(positions), "row": columns["row"]}
