"""Few-shot splits against the published ones. Needs data that is not here: `KRONLIT_DATA=... pytest -m published`.

The folder has `glue/<task>/<split>.parquet` as the hub, `lmbff/k-shot` with the splits of RTE, SST-2, sst-5, mr and
mpqa, and `lmbff/source` with stsa.fine.train, stsa.binary.train and stsa.binary.dev.
"""

import hashlib
import os
from pathlib import Path

import pytest

from kronlit.data import FewShot

pytestmark = pytest.mark.published
DATA = Path(os.environ.get("KRONLIT_DATA", "KRONLIT_DATA is not set"))
SEEDS = [13, 21, 42, 87, 100]
# data/k-shot/checksum of princeton-nlp/LM-BFF at 1dccaa5, which the files at hand must be
CHECKSUMS = {
    "RTE/16-13/train.tsv": "0aaae3483435626089adbc4ae851b75d",
    "RTE/16-42/dev.tsv": "a64069d0ca424995d35e05e67c03ceb9",
    "SST-2/16-100/train.tsv": "f5079b5b5bd27087a7d836e7e8faedc7",
    "SST-2/16-87/dev.tsv": "2972df0d5eace29b48eb8ce77770c3d5",
    "sst-5/16-21/train.csv": "e3d8f0d8ee2c3d19cbb8cf370a80c0ff",
    "mr/16-42/train.csv": "7f2be6d8286c853be70d6b731529110e",
    "mpqa/16-13/dev.csv": "5d3c82a72ae0319afbe940e4d35ec402",
}
# Of the same splits in data/k-shot of ZhengxiangShi/PowerfulPromptFT at d30afcc: first and last rows
COLA = {
    13: (
        "Bill seems to be obnoxious, but I don't think that Sam tends.",
        "What the thing cost which I ate almost broke me.",
    ),
    42: (
        "Reports which the government prescribes the height of the lettering on the covers of are invariably boring.",
        "Susan found any book she had been looking for at Borders.",
    ),
}
STSB_42 = [4034, 2671, 3268, 3250, 4350, 4165, 2458, 132, 1025, 4639, 501, 1103, 1789, 3571, 3765, 393]
STSB_42 += [5241, 2201, 4211, 1161, 5333, 1874, 239, 787, 1964, 4716, 167, 5422, 4997, 4459, 1379, 561]


def contents(rows, task):
    return list(zip(*(rows[column] for column in (*task.columns, "label")), strict=True))


def published(task, seed):
    return FewShot(task, path=str(DATA / "lmbff/k-shot"), split_seed=seed, sampling="published")


@pytest.mark.parametrize(("name", "checksum"), CHECKSUMS.items())
def test_the_files_at_hand_are_the_published_ones(name, checksum):
    assert hashlib.md5((DATA / "lmbff/k-shot" / name).read_bytes()).hexdigest() == checksum


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("task", "source"), [("rte", "glue"), ("sst5", "lmbff/source"), ("sst2", "lmbff/source")])
def test_the_rule_gives_the_published_rows_in_their_order(task, source, seed):
    ours, theirs = FewShot(task, path=str(DATA / source), split_seed=seed), published(task, seed)
    for split in ("train", "validation"):
        assert contents(ours.rows(split), ours.task) == contents(theirs.rows(split), theirs.task)


@pytest.mark.parametrize(("task", "source"), [("rte", "glue"), ("sst2", "lmbff/source")])
def test_the_test_set_is_the_published_one(task, source):
    ours, theirs = FewShot(task, path=str(DATA / source)), published(task, 42)
    assert contents(ours.rows("test"), ours.task) == contents(theirs.rows("test"), theirs.task)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", ["mr", "mpqa"])
def test_published_files_load(task, seed):
    data = published(task, seed)
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [32, 32, 2000]
    assert sum(data.rows("train")["label"]) == 16


@pytest.mark.parametrize("seed", COLA)
def test_colas_cumulative_shuffle_is_the_published_one(seed):
    rows = FewShot("cola", path=str(DATA / "glue"), split_seed=seed).rows("train")
    assert (rows["sentence"][0], rows["sentence"][31]) == COLA[seed]


def test_the_two_halves_of_stsb_are_the_published_ones():
    assert FewShot("stsb", path=str(DATA / "glue")).rows("train")["idx"] == STSB_42
