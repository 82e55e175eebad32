"""Normalizations and SiLU against torch's own layers in sequence."""

import copy

import pytest
import torch
from torch.nn import functional

from crysmm.engines.memory import ROWS_IN_CACHE
from crysmm.engines.normalization import BatchNorm, Multiplicity, normalization, normalized_silu, weighted_statistics

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


def test_bf16_deviates_by_its_rounding(norm):
    rows, residual = rows_of(3000, 4), rows_of(3000, 5)
    exact = normalized_silu(norm, rows, residual)
    norm.float()
    near = normalized_silu(norm, rows.bfloat16(), residual.bfloat16())
    assert near.dtype == torch.bfloat16
    torch.testing.assert_close(near.double(), exact, rtol=2**-6, atol=2**-5)


def repeated(rows, numbers):
    return rows.repeat_interleave(numbers, dim=0)


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("numbers", [[1] * 5000 + [3] * 400, [7, 1, 2], [4], [1]])
def test_rows_with_multiplicities(numbers, training, activated):
    """Values, gradients and running statistics equal those of the repeated rows."""
    norm = normalization("batch", WIDTH).double().train(training)
    generator = torch.Generator().manual_seed(6)
    for parameter in norm.parameters():
        parameter.data = torch.randn(WIDTH, dtype=torch.float64, generator=generator)
    theirs, rows = copy.deepcopy(norm), rows_of(len(numbers), 7)
    numbers = torch.tensor(numbers)
    multiplicity = Multiplicity(numbers.float(), int(numbers.sum()))
    found = normalized_silu(norm, rows, None, multiplicity) if activated else norm(rows, multiplicity)
    expected = theirs(repeated(rows, numbers))
    expected = functional.silu(expected) if activated else expected
    torch.testing.assert_close(repeated(found, numbers), expected, rtol=0, atol=1e-10)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(dict(norm.named_buffers())[name], buffer, rtol=0, atol=1e-11)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    of_all = repeated(weights / numbers[:, None], numbers)
    for ours, reference in zip(
        torch.autograd.grad((found * weights).sum(), [rows, *norm.parameters()]),
        torch.autograd.grad((expected * of_all).sum(), [rows, *theirs.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-9)


def test_statistics_far_from_zero_are_not_drowned():
    """With mean 1,000 and standard deviation 1 in fp32, squares differ in their last digits only."""
    rows = 1000 + torch.randn(6000, WIDTH, generator=torch.Generator().manual_seed(8))
    numbers = torch.arange(6000) % 3 + 1
    mean, variance = weighted_statistics(rows, Multiplicity(numbers.float(), int(numbers.sum())))
    every = repeated(rows.double(), numbers)
    torch.testing.assert_close(mean.double(), every.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), every.var(0, unbiased=False), rtol=1e-3, atol=0)


def test_multiplicities_are_not_rounded_under_autocast():
    """Counts that bf16 cannot hold, such as 257, are exact."""
    rows = torch.tensor([[0.0], [1.0]])
    norm = BatchNorm(1).train()
    with torch.autocast("cpu", torch.bfloat16):
        norm(rows, Multiplicity(torch.tensor([257.0, 1.0]), 258))
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.1 / 258]))
