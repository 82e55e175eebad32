"""SiLU after a normalisation against torch's own layers, one after the other."""

import copy

import pytest
import torch
from torch.nn import functional

from crysmm.engines.cache import ROWS_IN_CACHE
from crysmm.engines.normalization import normalization, normalized_silu

WIDTH = 3


@pytest.fixture(params=["batch", "layer"])
def norm(request):
    generator = torch.Generator().manual_seed(1)
    made = normalization(request.param, WIDTH).double()
    for parameter in made.parameters():
        parameter.data = torch.randn(WIDTH, dtype=torch.float64, generator=generator)
    return made


def rows_of(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return (2 + 3 * torch.randn(count, WIDTH, dtype=torch.float64, generator=generator)).requires_grad_()


@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [ROWS_IN_CACHE + 900, ROWS_IN_CACHE, 2, 1, 0])
def test_values_gradients_and_statistics(norm, count, training, with_residual):
    theirs = copy.deepcopy(norm)
    for module in (norm, theirs):
        module.train(training)
    rows, residual = rows_of(count, 2), rows_of(count, 3)
    found = normalized_silu(norm, rows, residual if with_residual else None)
    expected = functional.silu(theirs(rows)) + (residual if with_residual else 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(dict(norm.named_buffers())[name], buffer, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    inputs = [rows, residual] if with_residual else [rows]
    for ours, reference in zip(
        torch.autograd.grad((found * weights).sum(), [*inputs, *norm.parameters()]),
        torch.autograd.grad((expected * weights).sum(), [*inputs, *theirs.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-9)


def test_bf16_is_as_near_as_its_numbers(norm):
    rows, residual = rows_of(3000, 4), rows_of(3000, 5)
    exact = normalized_silu(norm, rows, residual)
    norm.float()
    near = normalized_silu(norm, rows.bfloat16(), residual.bfloat16())
    assert near.dtype == torch.bfloat16
    torch.testing.assert_close(near.double(), exact, rtol=2**-6, atol=2**-5)
