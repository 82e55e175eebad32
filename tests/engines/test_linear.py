"""Linear layers computed some rows at a time equal torch's, both ways, and multiply few shapes in all."""

import pytest
import torch
from torch.nn import functional

from crysmm.engines.cache import ROWS_IN_CACHE, covering
from crysmm.engines.linear import Linear, linear

COUNTS = [0, 1, 2, 63, 64, 65, 200, 511, 512, 513, 4095, 4096, 4097, 9000]


def both(count, dtype):
    """Result and gradients, ours and torch's in float64 of the same numbers."""
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


def test_autocast_multiplies_in_bf16_and_gradients_have_the_type_of_what_they_are_of():
    inputs = [torch.randn(shape, requires_grad=True) for shape in ((700, 24), (40, 24), (40,))]
    with torch.autocast("cpu", torch.bfloat16):
        out = linear(*inputs)
        expected = functional.linear(*inputs)
    assert out.dtype == expected.dtype == torch.bfloat16
    assert torch.allclose(out.float(), expected.float(), rtol=0, atol=2e-2)
    for ours, its in zip(*(torch.autograd.grad(o.float().sum(), inputs) for o in (out, expected)), strict=True):
        assert ours.dtype == its.dtype == torch.float32
        assert torch.allclose(ours, its, rtol=2e-2, atol=1e-1)


def test_the_layer_is_that_of_torch():
    layer = Linear(3, 2)
    for shape in ((3,), (5, 3), (2, 5, 3)):
        rows = torch.randn(shape)
        assert torch.allclose(layer(rows), functional.linear(rows, layer.weight, layer.bias))


def test_a_weight_that_is_not_learned_has_no_gradient():
    rows, weight = torch.randn(5, 3, requires_grad=True), torch.randn(2, 3)
    linear(rows, weight).sum().backward()
    assert torch.allclose(rows.grad, weight.sum(0).expand(5, 3))
    assert weight.grad is None


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("in_cache", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_pieces_cover_all_rows(count, in_cache, dtype):
    rows = torch.arange(count)
    pieces = [rows[piece] for piece in covering(torch.empty(count, dtype=dtype), in_cache=in_cache)]
    assert sorted({int(row) for piece in pieces for row in piece}) == rows.tolist()
    assert max(map(len, pieces), default=0) <= (ROWS_IN_CACHE if in_cache else count)


def test_batches_of_all_sizes_need_few_shapes():
    counts = [*range(64, 5000), *range(5000, 300_000, 997)]
    batches = (torch.empty(count, dtype=torch.bfloat16) for count in counts)
    lengths = {piece.stop - piece.start for rows in batches for piece in covering(rows)}
    assert lengths == {*range(64, 512, 64), *range(512, 4096, 512), *(1 << k for k in range(12, 19))}
