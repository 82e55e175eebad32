"""Normalisations, and SiLU after them without keeping what lies between."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import Normalization
from crysmm.engines.cache import pieces
from crysmm.memory import empty_rows


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one row, or of none, by its running statistics."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, rows: Tensor) -> Tensor:
        """``[n, d]`` to ``[n, d]``."""
        if len(rows) > 1:
            return super().forward(rows)
        return functional.batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def statistics(self, rows: Tensor) -> tuple[Tensor, Tensor, bool]:
        """The mean and variance :meth:`forward` uses, ``[d]`` each, and whether they are those of the rows.

        Then the running ones take them in.
        """
        if self.training and len(rows) > 1:
            self.num_batches_tracked += 1
            found = torch.batch_norm_update_stats(rows.detach(), self.running_mean, self.running_var, self.momentum)
            return *found, True
        return self.running_mean, self.running_var, False


def normalization(kind: Normalization, features: int) -> nn.Module:
    """Batch or layer normalisation of ``features`` columns."""
    return BatchNorm(features) if kind == "batch" else nn.LayerNorm(features)


def normalized_silu(norm: nn.Module, rows: Tensor, residual: Tensor | None = None) -> Tensor:
    """``silu(norm(rows)) + residual``, ``[n, d]`` each.

    After batch normalisation the backward pass computes the normalised rows again: of ``n`` times ``d`` numbers the
    rows alone are kept.
    """
    if not isinstance(norm, BatchNorm):
        activated = functional.silu(norm(rows))
        return activated if residual is None else residual + activated
    mean, variance, from_rows = norm.statistics(rows)
    return _BatchNormSiLU.apply(rows, norm.weight, norm.bias, residual, mean, variance, norm.eps, from_rows)


class _BatchNormSiLU(torch.autograd.Function):
    """SiLU of rows normalised by a mean and a variance, which are the rows' own where ``from_rows``."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        from_rows: bool,
    ) -> Tensor:
        out = empty_rows(rows.shape, like=rows)
        for piece in pieces(rows):
            part = functional.batch_norm(rows[piece], mean, variance, weight, bias, eps=eps)
            functional.silu(part, inplace=True)
            torch.add(part, 0 if residual is None else residual[piece], out=out[piece])
        ctx.save_for_backward(rows, weight, bias, mean, variance)
        ctx.eps, ctx.from_rows, ctx.has_residual = eps, from_rows, residual is not None
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rows, weight, bias, mean, variance = ctx.saved_tensors
        deviation = torch.rsqrt(variance + ctx.eps)
        to_rows = empty_rows(rows.shape, like=rows)
        to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for piece in pieces(rows):
            part = functional.batch_norm(rows[piece], mean, variance, weight, bias, eps=ctx.eps)
            change = to_rows[piece]  # for the time being that of the normalised rows
            torch.ops.aten.silu_backward.grad_input(gradient[piece], part, grad_input=change)
            sums = torch.ops.aten.native_batch_norm_backward(
                change, rows[piece], weight, mean, variance, mean, deviation, True, ctx.eps, [False, True, True]
            )
            to_weight += sums[1]
            to_bias += sums[2]
            del part, sums  # of all rows, where there is one piece
        scale = weight * deviation
        # what the mean and the variance of the rows take of it
        count = len(rows) if ctx.from_rows else math.inf
        shift, along = to_bias / count, scale * to_weight / count
        for piece in pieces(rows):
            change = to_rows[piece]
            taken = functional.batch_norm(rows[piece], mean, variance, along, eps=ctx.eps)
            # (change - shift) * scale in fp32, as batch_norm computes
            scaled = functional.batch_norm(change, shift, torch.ones_like(scale), scale, eps=0)
            torch.sub(scaled, taken, out=change)
        return to_rows, to_weight, to_bias, gradient if ctx.has_residual else None, None, None, None, None
