"""The random state of each process comes back to that process."""

from types import SimpleNamespace

import pytest
import torch
from test_modules import build

from kronlit.adapters.state import adapter_state
from kronlit.modules import SequenceClassification
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


def test_a_state_is_restored_once_and_a_second_training_draws_its_own(request, glue):
    module, _ = build(SequenceClassification, request, glue)
    module._trainer = SimpleNamespace(world_size=1, global_rank=0)
    torch.manual_seed(10)
    module._random_states = [random_state()]
    expected = torch.rand(4).tolist()
    torch.manual_seed(11)
    module.on_train_start()
    assert torch.rand(4).tolist() == expected
    torch.manual_seed(12)
    module.on_train_start()
    own = torch.Generator().manual_seed(12)
    assert torch.rand(4).tolist() == torch.rand(4, generator=own).tolist()
    own = torch.Generator().manual_seed(12)
    assert torch.rand(4, generator=module.routing.generator).tolist() == torch.rand(4, generator=own).tolist()


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_in_another_order_is_evaluated_and_not_trained_on(command, request, glue):
    module, _ = build(SequenceClassification, request, glue)
    module.configure_model()
    state = adapter_state(module)
    reordered = dict(reversed(state.items()))
    module._trainer = SimpleNamespace(state=SimpleNamespace(fn=command))
    module.on_load_checkpoint({"state_dict": dict(state)})
    if command == "fit":
        with pytest.raises(ValueError, match="it can be evaluated, not trained on"):
            module.on_load_checkpoint({"state_dict": reordered})
    else:
        module.on_load_checkpoint({"state_dict": reordered})
