"""Linear layers whose results and gradients lie in memory that is used again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crysmm.memory import empty_rows


def linear(layer: nn.Linear, rows: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """``layer(rows) + bias``, ``[n, c]`` to ``[n, d]``; computed in autocast's type where that is on."""
    return _Linear.apply(as_computed(rows), layer.weight, layer.bias + bias)


def as_computed(rows: Tensor) -> Tensor:
    """Rows in the type that autocast multiplies, where it is on."""
    kind = rows.device.type
    return rows.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else rows


def product(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``rows @ weight.T + bias`` in the type of the rows, without gradients."""
    out = empty_rows((len(rows), len(weight)), like=rows)
    return torch.addmm(bias.to(rows.dtype), rows, weight.to(rows.dtype).t(), out=out)


def product_backward(
    gradient: Tensor, rows: Tensor, weight: Tensor, needs_rows: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients of :func:`product`: of the rows, where they need one, of the weight, and of the bias."""
    to_rows = None
    if needs_rows:
        to_rows = torch.mm(gradient, weight.to(gradient.dtype), out=empty_rows(rows.shape, like=rows))
    return to_rows, (gradient.t() @ rows).to(weight.dtype), gradient.sum(0).to(weight.dtype)


class _Linear(torch.autograd.Function):
    """:func:`product`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        rows, weight = ctx.saved_tensors
        return product_backward(gradients[0], rows, weight, ctx.needs_input_grad[0])
