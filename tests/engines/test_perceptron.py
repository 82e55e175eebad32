"""Layers that are computed again in the backward pass, against torch's own."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from crysmm.engines.cache import ROWS_IN_CACHE
from crysmm.engines.normalization import normalization
from crysmm.engines.perceptron import perceptron
from crysmm.models.layers import GaussianExpansion


def layers_of(kind, *widths):
    torch.manual_seed(3)
    return [
        (nn.Linear(before, after).double(), normalization(kind, after).double()) for before, after in pairwise(widths)
    ]


def by_torch(values, layers, expansion=None):
    rows = values if expansion is None else expansion(values)
    for linear, norm in layers:
        rows = functional.silu(norm(linear(rows)))
    return rows


def parameters_of(layers):
    return [parameter for layer in layers for module in layer for parameter in module.parameters()]


@pytest.mark.parametrize("kind", ["batch", "layer"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [ROWS_IN_CACHE + 7, 2, 1, 0])
@pytest.mark.parametrize("case", ["rows", "expanded", "expanded with a gradient"])
def test_values_gradients_and_statistics(kind, training, count, case):
    expansion = None if case == "rows" else GaussianExpansion(-1, 1, 5, squared_spacing=False).double()
    layers = layers_of(kind, 5, 4, 6)
    theirs = copy.deepcopy(layers)
    for _, norm in (*layers, *theirs):
        norm.train(training)
    generator = torch.Generator().manual_seed(1)
    values = torch.rand((count, 5) if case == "rows" else (count,), dtype=torch.float64, generator=generator)
    values.requires_grad_(case != "expanded")
    found, expected = perceptron(values, layers, expansion), by_torch(values, theirs, expansion)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for (_, norm), (_, other) in zip(layers, theirs, strict=True):
        for name, buffer in other.named_buffers():
            torch.testing.assert_close(dict(norm.named_buffers())[name], buffer, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    inputs = [values] if values.requires_grad else []
    for ours, reference in zip(
        torch.autograd.grad((found * weights).sum(), [*inputs, *parameters_of(layers)]),
        torch.autograd.grad((expected * weights).sum(), [*inputs, *parameters_of(theirs)]),
        strict=True,
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-8)


def test_computes_in_bf16_where_autocast_does():
    layers = layers_of("batch", 5, 4, 6)
    for module in (module for layer in layers for module in layer):
        module.float()
    values = torch.rand(300, generator=torch.Generator().manual_seed(1))
    expansion = GaussianExpansion(-1, 1, 5, squared_spacing=False)
    with torch.autocast("cpu", torch.bfloat16):
        found = perceptron(values, layers, expansion)
    found.float().square().mean().backward()
    ours = [parameter.grad.clone() for parameter in parameters_of(layers)]
    for parameter in parameters_of(layers):
        parameter.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        expected = by_torch(values, layers, expansion)
    expected.float().square().mean().backward()
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2**-6, atol=2**-6)
    for mine, parameter in zip(ours, parameters_of(layers), strict=True):
        assert mine.dtype == torch.float32
        largest = float(parameter.grad.abs().max())
        torch.testing.assert_close(mine, parameter.grad, rtol=0, atol=2**-5 * largest + 2**-9)
