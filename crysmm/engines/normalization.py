"""Normalisations, and SiLU after them without keeping what lies between."""

from __future__ import annotations

import math
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Normalizer:
    """Batch normalisation of one batch, with SiLU after it: both ways, without keeping what lies between.

    Args:
        mean: ``[d]``.
        variance: ``[d]``.
        weight: ``[d]``.
        bias: ``[d]``.
        eps: added to the variance.
        count: rows that mean and variance are of; infinite where they are the running ones.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float
    count: float

    @classmethod
    def of(cls, norm: BatchNorm, rows: Tensor) -> Normalizer:
        """As the layer normalises these rows; in training its running statistics take them in."""
        mean, variance, from_rows = norm.statistics(rows)
        count = len(rows) if from_rows else math.inf
        return cls(mean, variance, norm.weight.detach(), norm.bias.detach(), norm.eps, count)

    def __call__(self, rows: Tensor) -> Tensor:
        """The rows, normalised."""
        return functional.batch_norm(rows, self.mean, self.variance, self.weight, self.bias, eps=self.eps)

    def add_activated(self, rows: Tensor, residual: Tensor | None) -> Tensor:
        """``silu`` of the rows, normalised, plus the residual."""
        out = empty_rows(rows.shape, like=rows)
        for piece in pieces(rows):
            normalized = self(rows[piece])
            if residual is None:
                torch.ops.aten.silu.out(normalized, out=out[piece])
            else:
                torch.add(functional.silu(normalized, inplace=True), residual[piece], out=out[piece])
        return out

    def subtract_activated(self, rows: Tensor, total: Tensor) -> None:
        """Take ``silu`` of the rows, normalised, from a total, in its place."""
        for piece in pieces(rows):
            total[piece] -= functional.silu(self(rows[piece]), inplace=True)

    def backward(self, rows: Tensor, gradient: Tensor, added_to: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of the rows, ``[n, d]``, of the weight and of the bias, ``[d]``.

        Args:
            rows: before normalisation.
            gradient: of ``silu`` of the rows, normalised.
            added_to: a total from which that is taken on the way, in its place.
        """
        deviation = torch.rsqrt(self.variance + self.eps)
        to_rows = empty_rows(rows.shape, like=rows)
        to_weight, to_bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for piece in pieces(rows):
            change = to_rows[piece]  # for the time being that of the normalised rows
            normalized = self(rows[piece])
            torch.ops.aten.silu_backward.grad_input(gradient[piece], normalized, grad_input=change)
            if added_to is not None:
                added_to[piece] -= functional.silu(normalized, inplace=True)
            sums = torch.ops.aten.native_batch_norm_backward(
                change,
                rows[piece],
                self.weight,
                self.mean,
                self.variance,
                self.mean,
                deviation,
                True,
                self.eps,
                [False, True, True],
            )
            to_weight += sums[1]
            to_bias += sums[2]
            del normalized, sums  # of all rows, where there is one piece
        scale = self.weight * deviation
        # what the mean and the variance of the rows take of it
        shift, along = to_bias / self.count, scale * to_weight / self.count
        for piece in pieces(rows):
            change = to_rows[piece]
            taken = functional.batch_norm(rows[piece], self.mean, self.variance, along, eps=self.eps)
            # (change - shift) * scale in fp32, as batch_norm computes
            scaled = functional.batch_norm(change, shift, torch.ones_like(scale), scale, eps=0)
            torch.sub(scaled, taken, out=change)
        return to_rows, to_weight, to_bias


def normalized_silu(norm: nn.Module, rows: Tensor, residual: Tensor | None = None) -> Tensor:
    """``silu(norm(rows)) + residual``, ``[n, d]`` each.

    After batch normalisation the backward pass computes the normalised rows again: of ``n`` times ``d`` numbers the
    rows alone are kept.
    """
    if not isinstance(norm, BatchNorm):
        activated = functional.silu(norm(rows))
        return activated if residual is None else residual + activated
    return _BatchNormSiLU.apply(rows, norm.weight, norm.bias, residual, norm)


class _BatchNormSiLU(torch.autograd.Function):
    """``silu(norm(rows)) + residual``."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, norm: BatchNorm
    ) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.normalizer, ctx.has_residual = Normalizer.of(norm, rows), residual is not None
        return ctx.normalizer.add_activated(rows, residual)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (rows,) = ctx.saved_tensors
        return *ctx.normalizer.backward(rows, gradient), gradient if ctx.has_residual else None, None
