"""Means of losses within crystals or over a batch."""

import pytest
import torch

from crysmm.objectives.terms import mean_losses


def test_mean_within_crystals_or_over_all():
    sums, totals = torch.tensor([2.0, 9.0, 0.0]), torch.tensor([1.0, 3.0, 0.0])
    assert mean_losses(sums, totals, pooled=True).tolist() == [11 / 4] * 3
    assert mean_losses(sums, totals, pooled=False).tolist() == [2, 3, 2.5]  # the last does not change the mean


@pytest.mark.parametrize("pooled", [False, True])
def test_mean_of_nothing_is_zero_with_a_gradient(pooled):
    sums = torch.zeros(3, requires_grad=True)
    losses = mean_losses(sums * 1, torch.zeros(3), pooled)
    losses.sum().backward()
    assert losses.tolist() == [0, 0, 0]
    assert sums.grad.isfinite().all()
