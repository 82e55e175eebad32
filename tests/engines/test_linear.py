"""Linear layers and perceptrons against torch's own, forward and backward."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from crysmm.engines.linear import Linear, linear, perceptron
from crysmm.engines.memory import ROWS_IN_CACHE
from crysmm.engines.normalization import normalization
from crysmm.models.backbone import GaussianExpansion

COUNTS = [0, 1, 2, 63, 64, 65, 200, 511, 512, 513, 4095, 4096, 4097, 9000]


def both(count, dtype):
    """Return result and gradients of our layer, and of torch's in float64 for the same numbers."""
    generator = torch.Generator().manual_seed(count)
    numbers = [torch.randn(shape, generator=generator).to(dtype) for shape in ((count, 24), (40, 24), (40,))]
    weights = torch.randn((count, 40), generator=generator).to(dtype)
    found = []
    for layer, kind in ((linear, dtype), (functional.linear, torch.float64)):
        inputs = [number.detach().to(kind, copy=True).requires_grad_() for number in numbers]
        out = layer(*inputs)
        out.backward(weights.to(kind))
        found.append([out.detach(), *(tensor.grad for tensor in inputs)])
    return found


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_result_and_gradients_equal_those_of_torch(count, dtype, within):
    for ours, expected in zip(*both(count, dtype), strict=True):
        assert ours.shape == expected.shape
        scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
        assert torch.allclose(ours.double() / scale, expected / scale, rtol=0, atol=within)


def test_autocast_multiplies_in_bf16_and_gradients_keep_the_dtype_of_inputs():
    inputs = [torch.randn(shape, requires_grad=True) for shape in ((700, 24), (40, 24), (40,))]
    with torch.autocast("cpu", torch.bfloat16):
        out = linear(*inputs)
        expected = functional.linear(*inputs)
    assert out.dtype == expected.dtype == torch.bfloat16
    assert torch.allclose(out.float(), expected.float(), rtol=0, atol=2e-2)
    for ours, its in zip(*(torch.autograd.grad(o.float().sum(), inputs) for o in (out, expected)), strict=True):
        assert ours.dtype == its.dtype == torch.float32
        assert torch.allclose(ours, its, rtol=2e-2, atol=1e-1)


def test_the_layer_equals_that_of_torch():
    layer = Linear(3, 2)
    for shape in ((3,), (5, 3), (2, 5, 3)):
        rows = torch.randn(shape)
        assert torch.allclose(layer(rows), functional.linear(rows, layer.weight, layer.bias))


def test_a_frozen_weight_has_no_gradient():
    rows, weight = torch.randn(5, 3, requires_grad=True), torch.randn(2, 3)
    linear(rows, weight).sum().backward()
    assert torch.allclose(rows.grad, weight.sum(0).expand(5, 3))
    assert weight.grad is None


def layers_of(kind, *widths):
    torch.manual_seed(3)
    return [
        (nn.Linear(before, after).double(), normalization(kind, after).double()) for before, after in pairwise(widths)
    ]


def by_torch(values, layers, expansion=None):
    rows = values if expansion is None else expansion(values)
    for layer, norm in layers:
        rows = functional.silu(norm(layer(rows)))
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
