"""Which checkpoint `last` and `best` mean: that of the newest run, and where it is damaged the newest that is whole."""

import os

import pytest
import torch

from kronlit.training.checkpoint_lookup import find_checkpoint, last_whole


def put(folder, name, age, whole=True):
    """A checkpoint that is so many seconds old."""
    path = folder / "checkpoints" / f"{name}.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {}}, path) if whole else path.write_bytes(b"torn")
    os.utime(path, (10**9 - age, 10**9 - age))
    return path


@pytest.mark.parametrize("command", ["fit", "test"])
@pytest.mark.parametrize("name", ["last", "best"])
@pytest.mark.parametrize("ages", [{2: 20, 9: 10, 10: 5}, {2: 5, 9: 10, 10: 20}, {2: 20, 9: 5, 10: 10}], ids=str)
def test_the_newest_run_is_the_one_that_wrote_last_whatever_its_number(tmp_path, ages, name, command):
    paths = {version: put(tmp_path / f"version_{version}", name, age) for version, age in ages.items()}
    newest = min(ages, key=ages.get)
    assert find_checkpoint(name, tmp_path, command) == str(paths[newest])


@pytest.mark.parametrize("names", [("best-epoch=1", "best-epoch=9"), ("best-epoch=9", "best-epoch=10")])
def test_where_the_last_is_damaged_the_newest_best_goes_on(tmp_path, names, capsys):
    last = put(tmp_path, "last", 0, whole=False)
    for first, second in (names, names[::-1]):
        put(tmp_path, first, 20)
        newest = put(tmp_path, second, 10)
        assert last_whole(last) == newest
        assert f"Going on from {newest}." in capsys.readouterr().err


def test_a_damaged_best_is_passed_over_too_and_none_is_an_error(tmp_path):
    last, newer = put(tmp_path, "last", 0, whole=False), put(tmp_path, "best-epoch=2", 10, whole=False)
    older = put(tmp_path, "best-epoch=1", 20)
    assert last_whole(last) == older
    older.unlink()
    with pytest.raises(ValueError, match="Its run has no other: delete"):
        last_whole(last)
    assert newer.exists()
