"""Max pooling by kernels against PyTorch's, ties and all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from e2enet.runtime.kernels.workers import Workers
from e2enet.runtime.training.pooling import max_pool
from hypothesis import given, settings
from hypothesis import strategies as st

BOX = st.tuples(*[st.integers(1, 3)] * 3)


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 2),
    maps=st.integers(1, 3),
    size=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 40)),
    box=BOX,
    threads=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_equals_pytorch(batch, maps, size, box, threads, seed) -> None:
    """Few different values: most boxes then hold their maximum more than once."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, maps, *(n * s for n, s in zip(size, box, strict=True)))
    ours = torch.randint(-3, 3, shape, generator=generator).float().requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    y, expected = max_pool(ours, box, Workers(threads)), F.max_pool3d(theirs, box, box)
    assert torch.equal(y, expected)
    upstream = torch.randn(expected.shape, generator=generator)
    y.backward(upstream)
    expected.backward(upstream)
    assert torch.equal(ours.grad, theirs.grad)


def test_a_gradient_laid_out_otherwise_is_read_rightly() -> None:
    x = torch.randn(1, 2, 2, 4, 40, requires_grad=True)
    y = max_pool(x, (2, 2, 2), Workers(1))
    y.backward(torch.arange(20.0).expand(1, 2, 1, 2, 20))
    for c in range(2):
        assert x.grad[0, c].sum() == 2 * sum(range(20))
