"""The divergence of two passes: which side of each term has a gradient."""

import torch

from kronlit.modules.consistency import symmetric_divergence


def test_each_side_is_pulled_to_the_other_as_it_stands():
    # d KL(q || softmax(z)) / dz = softmax(z) - q, by hand, for either side; the mean over two predictions
    one, other = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    symmetric_divergence(one.log_softmax(-1), other.log_softmax(-1)).backward()
    p, q = one.detach().softmax(-1), other.detach().softmax(-1)
    torch.testing.assert_close(one.grad, (p - q) / 2 / 2)
    torch.testing.assert_close(other.grad, (q - p) / 2 / 2)
