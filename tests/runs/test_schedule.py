"""The warm-up of the learning rate: a share of all steps below 1, and from 1 on steps."""

from types import SimpleNamespace

import pytest
from test_modules import build

from kronlit.modules import SequenceClassification


@pytest.mark.parametrize(
    ("warmup", "steps"), [(0.0, 0), (0.06, 2), (0.5, 16), (0.99, 32), (1, 1), (1.0, 1), (1.5, 1), (1.99, 1), (2, 2)]
)
def test_warm_up_is_a_share_below_one_and_steps_from_one_on(warmup, steps, request, glue):
    module, _ = build(SequenceClassification, request, glue)
    module.warmup = warmup
    module.configure_model()
    module._trainer = SimpleNamespace(estimated_stepping_batches=32)
    schedule = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    factor = schedule.lr_lambdas[0]
    rises = [t / steps for t in range(steps)]
    falls = [(32 - t) / (32 - steps) for t in range(steps, 32)]
    assert [factor(t) for t in range(32)] == pytest.approx(rises + falls)
