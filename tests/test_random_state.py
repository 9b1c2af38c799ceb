"""The random state of each process comes back to that process."""

import pytest
import torch

from kronlit.modules.random_state import random_state, restore_random_state


@pytest.mark.parametrize(("rank", "seed"), [(0, 10), (1, 11), (2, 12), (3, 10), (4, 11)])
def test_a_process_gets_its_own_state_and_one_that_is_new_another_ones(rank, seed):
    states, expected = [], {}
    for one in (10, 11, 12):
        torch.manual_seed(one)
        torch.rand(3)
        states.append(random_state())
        expected[one] = torch.rand(4).tolist()
    restore_random_state(states, rank)
    assert torch.rand(4).tolist() == expected[seed]
