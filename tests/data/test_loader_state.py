"""Where a loader stands: over epochs that end early, twice resumed, and with another seed or batch size."""

import itertools

import pytest

from kronlit.data.batches import LengthGroupedBatches, ResumableLoader


def loader(seed=5, batch_size=4, per_epoch=float("inf")):
    batches = LengthGroupedBatches(list(range(1, 41)), batch_size, True, seed=seed)
    return ResumableLoader(range(40), batches, lambda: per_epoch, collate_fn=list)


def stream(source, per_epoch=None):
    while True:
        yield from itertools.islice(source, per_epoch)


def taken(source, n, per_epoch=None):
    return list(itertools.islice(stream(source, per_epoch), n))


@pytest.mark.parametrize("per_epoch", [3, 10])
@pytest.mark.parametrize("stops", [(4, 5), (3, 3), (10, 1), (1, 10), (12, 12)])
def test_a_run_that_is_resumed_twice_is_the_run_that_was_not(stops, per_epoch):
    whole = taken(loader(per_epoch=per_epoch), 30, per_epoch)
    found, state = [], None
    for stop in (*stops, 30 - sum(stops)):
        one = loader(per_epoch=per_epoch)
        if state is not None:
            one.load_state_dict(state)
        left = (per_epoch - state["given"]) if state else per_epoch
        # The epoch that is resumed has fewer batches left
        batches = itertools.chain(itertools.islice(one, left), stream(one, per_epoch))
        found += itertools.islice(batches, stop)
        state = one.state_dict()
    assert found == whole


def test_the_seed_of_the_checkpoint_goes_on():
    first = loader(seed=5)
    begun = taken(first, 4)
    second = loader(seed=99)
    second.load_state_dict(first.state_dict())
    assert begun + taken(second, 16) == taken(loader(seed=5), 20)


def test_between_epochs_the_batch_size_may_change():
    first = loader()
    taken(first, 10)
    second = loader(batch_size=8)
    second.load_state_dict(first.state_dict())
    assert len(taken(second, 5)[0]) == 8
    taken(first, 3)
    with pytest.raises(ValueError, match=r"batches of 4 rows over all processes; `data\.batch_size`"):
        loader(batch_size=8).load_state_dict(first.state_dict())
