"""PHM under autocast: the matrix is formed in float32 and rounded once."""

import pytest
import torch
from torch.nn import functional as F

from kronlit.structured import PHM


@pytest.mark.parametrize("rank", [None, 2])
def test_under_autocast_the_matrix_is_rounded_once(rank):
    # Of whole numbers the matrix is exact in float32, and 8 bits of bfloat16 hold neither its terms nor its sums.
    w = PHM(12, 8, phm_dim=4, rank=rank)
    for parameter in w.parameters():
        parameter.data = torch.randint(-40, 40, parameter.shape).float()
    x = torch.randn(5, 12)
    factors = w.b if rank is None else w.s @ w.t
    exact = sum(torch.kron(a.double(), b.double()) for a, b in zip(w.rule, factors, strict=True))
    expected = F.linear(x.bfloat16(), exact.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(w(x), expected)
