"""Normalisations, and SiLU after them without keeping what lies between.

A row may stand for several that are alike (see :mod:`crysmm.graphs.equivalence`): what batch normalisation makes of it
is what it would make of all of them, and so is the gradient, which for such a row is that of all together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import Normalization
from crysmm.engines.memory import empty_rows, pieces


@dataclass(frozen=True, eq=False)
class Multiplicity:
    """How many rows each row stands for.

    Args:
        numbers: ``[n]`` float32, whole numbers.
        total: their sum.
    """

    numbers: Tensor
    total: int

    def map(self, change: Callable[[Tensor], Tensor]) -> Multiplicity:
        """The same with its tensor changed: moved to a device, pinned."""
        return Multiplicity(change(self.numbers), self.total)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one row, or of none, by its running statistics."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, rows: Tensor, multiplicity: Multiplicity | None = None) -> Tensor:
        """``[n, d]`` to ``[n, d]``."""
        if multiplicity is not None:
            normalized: Tensor = _Normalize.apply(rows, self.weight, self.bias, self, multiplicity)
            return normalized
        if len(rows) > 1:
            return super().forward(rows)
        return functional.batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def statistics(self, rows: Tensor, multiplicity: Multiplicity | None = None) -> tuple[Tensor, Tensor, float]:
        """The mean and variance :meth:`forward` uses, ``[d]`` each, and of how many rows they are.

        In training the running ones take them in; where they are the running ones themselves, the number is infinite.
        """
        count = len(rows) if multiplicity is None else multiplicity.total
        if not self.training or count < 2:
            return self.running_mean, self.running_var, math.inf
        self.num_batches_tracked += 1
        rows = rows.detach()
        if multiplicity is None:
            found = torch.batch_norm_update_stats(rows, self.running_mean, self.running_var, self.momentum)
            return *found, count
        mean, variance = weighted_statistics(rows, multiplicity)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return mean, variance, count


def weighted_statistics(rows: Tensor, multiplicity: Multiplicity) -> tuple[Tensor, Tensor]:
    """Mean and variance, ``[d]`` each, of rows that stand for several, in fp32 or better."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    numbers = multiplicity.numbers.to(dtype)
    near = rows[0].to(dtype)  # taken from all, so that their squares do not drown the variance
    sums = torch.zeros((2, rows.shape[1]), dtype=dtype, device=rows.device)
    with torch.autocast(rows.device.type, enabled=False):
        for piece in pieces(rows):
            shifted = rows[piece] - near
            sums[0] += numbers[piece] @ shifted
            sums[1] += numbers[piece] @ shifted.square_()
    mean, squares = sums / multiplicity.total
    return mean + near, (squares - mean.square()).clamp_(min=0)


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
        multiplicity: how many rows each stands for; ``None`` for one.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float
    count: float
    multiplicity: Multiplicity | None = None

    @classmethod
    def of(cls, norm: BatchNorm, rows: Tensor, multiplicity: Multiplicity | None = None) -> Normalizer:
        """As the layer normalises these rows; in training its running statistics take them in."""
        mean, variance, count = norm.statistics(rows, multiplicity)
        return cls(mean, variance, norm.weight.detach(), norm.bias.detach(), norm.eps, count, multiplicity)

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
        statistics = self.mean, self.variance, self.mean, deviation
        to_rows = empty_rows(rows.shape, like=rows)
        to_weight, to_bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for piece in pieces(rows):
            change = to_rows[piece]  # for the time being that of the normalised rows
            normalized = self(rows[piece])
            torch.ops.aten.silu_backward.grad_input(gradient[piece], normalized, grad_input=change)
            if added_to is not None:
                added_to[piece] -= functional.silu(normalized, inplace=True)
            _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                change, rows[piece], self.weight, *statistics, True, self.eps, [False, True, True]
            )
            to_weight += of_weight
            to_bias += of_bias
            del normalized  # of all rows, where there is one piece
        self._through_statistics(rows, to_rows, self.weight * deviation, to_weight, to_bias)
        return to_rows, to_weight, to_bias

    def _through_statistics(
        self, rows: Tensor, changes: Tensor, scale: Tensor, to_weight: Tensor, to_bias: Tensor
    ) -> None:
        """Make gradients of the rows, normalised, those of the rows, in their place."""
        along, shift = scale * to_weight / self.count, to_bias / self.count
        nothing, ones = torch.zeros_like(scale), torch.ones_like(scale)
        for piece in pieces(rows):
            if self.multiplicity is None:
                taken = functional.batch_norm(rows[piece], self.mean, self.variance, along, eps=self.eps)
                # (change - shift) * scale in fp32, as batch_norm computes
                scaled = functional.batch_norm(changes[piece], shift, ones, scale, eps=0)
            else:
                taken = self._taken(rows[piece], self.multiplicity.numbers[piece], along, shift * scale)
                scaled = functional.batch_norm(changes[piece], nothing, ones, scale, eps=0)
            torch.sub(scaled, taken, out=changes[piece])

    def _taken(self, rows: Tensor, numbers: Tensor, along: Tensor, shift: Tensor) -> Tensor:
        """What mean and variance take of the gradients of rows that stand for several, ``numbers [n]`` of them."""
        taken = functional.batch_norm(rows, self.mean, self.variance, along, shift, eps=self.eps)
        return taken.mul_(numbers[:, None].to(taken.dtype))

    def backward_alone(self, rows: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`backward` without ``silu``, of rows that stand for several: from the gradient of these, normalised."""
        assert self.multiplicity is not None
        statistics = self.mean, self.variance, None, None, False, self.eps  # as if they were not of the rows
        to_rows, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            gradient.contiguous(), rows, self.weight, *statistics, [True, True, True]
        )
        if math.isfinite(self.count):
            scale = self.weight * torch.rsqrt(self.variance + self.eps) / self.count
            to_rows -= self._taken(rows, self.multiplicity.numbers, scale * to_weight, scale * to_bias)
        return to_rows, to_weight, to_bias


class _Normalize(torch.autograd.Function):
    """Batch normalisation of rows that stand for several."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm, multiplicity: Multiplicity
    ) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.normalizer = Normalizer.of(norm, rows, multiplicity)
        return ctx.normalizer(rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        return *ctx.normalizer.backward_alone(rows, gradients[0]), None, None


def normalized(norm: nn.Module, rows: Tensor, multiplicity: Multiplicity | None) -> Tensor:
    """``norm(rows)``, ``[n, d]``; only where rows stand for several it has to be a :class:`BatchNorm`."""
    result: Tensor = norm(rows) if multiplicity is None else norm(rows, multiplicity)
    return result


def normalized_silu(
    norm: nn.Module, rows: Tensor, residual: Tensor | None = None, multiplicity: Multiplicity | None = None
) -> Tensor:
    """``silu(norm(rows)) + residual``, ``[n, d]`` each.

    After batch normalisation the backward pass computes the normalised rows again: of ``n`` times ``d`` numbers the
    rows alone are kept.
    """
    if not isinstance(norm, BatchNorm):
        activated = functional.silu(norm(rows))
        return activated if residual is None else residual + activated
    return _BatchNormSiLU.apply(rows, norm.weight, norm.bias, residual, norm, multiplicity)


class _BatchNormSiLU(torch.autograd.Function):
    """``silu(norm(rows)) + residual``."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        norm: BatchNorm,
        multiplicity: Multiplicity | None,
    ) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.normalizer, ctx.has_residual = Normalizer.of(norm, rows, multiplicity), residual is not None
        return ctx.normalizer.add_activated(rows, residual)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (rows,) = ctx.saved_tensors
        changes = ctx.normalizer.backward(rows, gradient)
        return *changes, gradient if ctx.has_residual else None, None, None
