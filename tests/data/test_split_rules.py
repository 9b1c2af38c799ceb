"""Which rows are in which split, and in which order, at the edges of each rule."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from kronlit.data import GLUE, FewShot, TextFiles
from kronlit.data.batches import POOL, LengthGroupedBatches


@pytest.fixture
def numbered(tmp_path):
    """Makes a file of so many rows, whose texts are their numbers."""

    def numbered(rows):
        path = tmp_path / f"my{rows}.csv"
        path.write_text("text,label\n" + "".join(f"{n},{n % 2}\n" for n in range(rows)))
        return str(path)

    return numbered


def parts(data, *splits):
    return [list(map(int, data.rows(split)["text"])) for split in splits]


@pytest.mark.parametrize(
    ("rows", "share", "held_out"),
    [(40, 0.1, 4), (46, 0.1, 5), (44, 0.1, 4), (26, 0.1, 3), (9, 0.1, 1), (4, 0.1, 1), (10, 0.75, 8)],
)
def test_a_share_is_rounded_and_never_nothing(numbered, rows, share, held_out):
    train, validation = parts(TextFiles(numbered(rows), validation=share), "train", "validation")
    assert (len(train), len(validation)) == (rows - held_out, held_out)


@pytest.mark.parametrize("seed", [0, 42])
def test_what_is_held_out_is_the_start_of_a_seeded_permutation_and_the_rest_stays_in_order(numbered, seed):
    data = TextFiles(numbered(30), validation=0.2, test=0.1, split_seed=seed)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed)).tolist()
    assert parts(data, "validation", "test", "train") == [order[:6], order[6:9], sorted(order[9:])]


def test_a_test_share_beside_a_validation_file_is_held_out_of_the_training_rows(numbered):
    data = TextFiles(numbered(20), validation=numbered(7), test=0.25)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(42)).tolist()
    assert parts(data, "validation", "test", "train") == [list(range(7)), order[:5], sorted(order[5:])]


@pytest.mark.parametrize(("limit", "drawn"), [(40, True), (41, False), (42, False)])
def test_a_limit_of_as_many_rows_as_there_are_leaves_them_as_they_stand(glue, limit, drawn):
    data = GLUE("rte", path=str(glue), max_train_samples=limit, sample_seed=3)
    order = torch.randperm(41, generator=torch.Generator().manual_seed(3)).tolist()
    whole = list(range(41))
    assert GLUE("rte", path=str(glue)).rows("train")["idx"] == whole
    assert data.rows("train")["idx"] == (order[:limit] if drawn else whole)


def test_the_middle_of_sts_b_is_high_in_a_draw():
    # LM-BFF's script: 0 for a label below 2.5, and 1 from there on
    data = FewShot("stsb", path="unread")
    assert data._classes(Dataset.from_dict({"label": [0.0, 2.4, 2.5, 2.6, 5.0, 1.0]})).tolist() == [0, 0, 1, 1, 1, 0]
    assert data._classes(Dataset.from_dict({"label": [-1.0, 2.5]})).tolist() == [-1, 1]


def test_no_two_seeds_and_epochs_have_one_order():
    def batches(seed, epoch):
        sampler = LengthGroupedBatches(list(range(1, 300)), 8, True, seed)
        sampler.epoch = epoch
        return str(list(sampler))

    assert len({batches(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_take_rows_of_a_global_batch_in_turns(world_size):
    lengths = np.random.default_rng(0).integers(3, 90, 70).tolist()
    (whole,) = {str(LengthGroupedBatches(lengths, 4, True, 1, r, world_size).global_batches()) for r in range(2)}
    shards = [list(LengthGroupedBatches(lengths, 4, True, 1, rank, world_size)) for rank in range(world_size)]
    together = []
    for batches in zip(*shards, strict=True):
        rows = [row for turn in range(4) for batch in batches for row in batch[turn : turn + 1]]
        together.append(rows)
    assert str(together) == whole


def test_rows_are_sorted_within_pools_of_fifty_batches_alone():
    # Sorted over all rows, each length would be in batches of its own in every epoch.
    lengths = list(range(1, 4 * POOL * 3 + 1))
    batches = list(LengthGroupedBatches(lengths, 4, True, 0))
    spans = [max(batch) - min(batch) for batch in batches]
    assert np.mean(spans) > 2 * 3
