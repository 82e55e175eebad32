"""Normalizations, and SiLU after them without keeping the results in between.

For rows ``x [n, d]`` and batch normalization with mean m, variance s^2, weight w and bias b (Ioffe and Szegedy 2015):

    z = w (x - m) / s + b,    y = silu(z) + residual

With g the gradient of z, ``x' = (x - m) / s`` and sums over the N rows that m and s^2 are taken from:

    to b = sum g,    to w = sum g x',    to x = w / s (g - (to b + x' to w) / N)

Only x is kept for the backward pass; z is computed again. A row may represent k equivalent ones
(:mod:`crysmm.graphs.equivalence`). Then m and s^2 weight it by k, and its gradient is the sum over all k: g is that sum
already, and the part that goes through m and s^2 is multiplied by k.

Processes that train together share m and s^2: in both passes the sums run over the rows of all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import Normalization
from crysmm.engines.memory import chunks, empty_rows


@dataclass(frozen=True, eq=False)
class Multiplicity:
    """Number of equivalent rows that each row represents.

    Args:
        counts: Rows represented by each row, ``[n]`` float32 integers.
        total: Sum of the counts.
    """

    counts: Tensor
    total: int

    @classmethod
    def of(cls, counts: np.ndarray) -> Multiplicity:
        """Make a multiplicity from integer counts, ``[n]``."""
        return cls(torch.from_numpy(counts.astype(np.float32)), int(counts.sum()))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization that uses the running statistics for a batch of one row, or of none.

    Attributes:
        is_counted: False in a process whose rows repeat those of others, which then count once (:func:`count_rows`).
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float
    is_counted = True

    def forward(self, rows: Tensor, multiplicity: Multiplicity | None = None) -> Tensor:
        """Normalize ``[n, d]``."""
        if multiplicity is not None or (self.affine and self.is_shared):
            normalized: Tensor = _Normalize.apply(rows, self.weight, self.bias, self, multiplicity)
            return normalized
        if self.is_shared:  # labels, through which no gradient flows
            mean, variance, _ = self.statistics(rows, multiplicity)
            return functional.batch_norm(rows, mean, variance, eps=self.eps)
        if len(rows) > 1:  # one row has no variance, and torch refuses it in training
            return super().forward(rows)
        return functional.batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def statistics(self, rows: Tensor, multiplicity: Multiplicity | None = None) -> tuple[Tensor, Tensor, float]:
        """Return the statistics that :meth:`forward` uses, and update the running ones in training.

        Returns:
            Mean and variance, ``[d]`` each, and the number of rows they are taken from; infinity for the running ones,
            through which no gradient flows.
        """
        count = len(rows) if multiplicity is None else multiplicity.total
        if not self.training or (count < 2 and not self.is_shared):
            return self.running_mean, self.running_var, math.inf
        rows = rows.detach()  # the gradient through the statistics is written out in Normalizer.backward
        if multiplicity is None and not self.is_shared:
            self.num_batches_tracked += 1
            found = torch.batch_norm_update_stats(rows, self.running_mean, self.running_var, self.momentum)
            return *found, count
        mean, variance = self.running_mean, self.running_var  # without rows a placeholder, weighted by a count of 0
        if multiplicity is not None and count:
            mean, variance = weighted_statistics(rows, multiplicity)
        elif count:
            # The clones, which are overwritten, keep the statistics of bf16 rows in float32.
            mean, variance = torch.batch_norm_update_stats(rows, mean.clone(), variance.clone(), self.momentum)
        if self.is_shared:
            mean, variance, count = over_processes(mean, variance, count if self.is_counted else 0)
            if count < 2:
                return self.running_mean, self.running_var, math.inf
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        # as in torch, the running variance is the unbiased one
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return mean, variance, count if self.is_counted else math.inf

    @property
    def is_shared(self) -> bool:
        """True while several processes train, whose statistics are those of the rows of all."""
        group = torch.distributed
        return self.training and group.is_available() and group.is_initialized() and group.get_world_size() > 1


def count_rows(module: nn.Module, is_counted: bool) -> None:
    """Decide whether the rows of this process count in the batch statistics that it shares with others."""
    for part in module.modules():
        if isinstance(part, BatchNorm):
            part.is_counted = is_counted


def over_processes(mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """Return the mean, the biased variance and the number of the rows of all processes, from those of each."""
    # in float64, so that the difference of mean square and squared mean keeps its digits
    first, second = mean.double(), variance.double() + mean.double().square()
    sums = count * torch.stack([torch.ones_like(first), first, second])
    torch.distributed.all_reduce(sums)
    total = int(sums[0, 0])
    first, second = sums[1:] / max(total, 1)
    return first.to(mean.dtype), (second - first.square()).clamp_(min=0).to(variance.dtype), total


def weighted_statistics(rows: Tensor, multiplicity: Multiplicity) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of rows with multiplicities, ``[d]`` each, in fp32 or better."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    counts = multiplicity.counts.to(dtype)
    shift = rows[0].to(dtype)  # subtracted first, so that large means do not drown the variance in rounding
    sums = torch.zeros((2, rows.shape[1]), dtype=dtype, device=rows.device)
    with torch.autocast(rows.device.type, enabled=False):  # bf16 would round counts above 256
        for chunk in chunks(rows):
            shifted = rows[chunk] - shift
            sums[0] += counts[chunk] @ shifted
            sums[1] += counts[chunk] @ shifted.square_()
    mean, squares = sums / multiplicity.total
    return mean + shift, (squares - mean.square()).clamp_(min=0)


def normalization(kind: Normalization, features: int) -> nn.Module:
    """Make a batch or layer normalization of ``features`` columns."""
    return BatchNorm(features) if kind == "batch" else nn.LayerNorm(features)


@dataclass(frozen=True)
class Normalizer:
    """Batch normalization with the statistics of one batch, followed by SiLU; forward and backward, chunk by chunk.

    Args:
        mean: Mean, ``[d]``.
        variance: Biased variance, ``[d]``.
        weight: Scale, ``[d]``.
        bias: Shift, ``[d]``.
        eps: Number added to the variance.
        count: Number of rows that mean and variance are taken from; infinity for running statistics.
        multiplicity: Number of rows that each row represents; None for one.
        is_shared: True if the statistics are those of the rows in several processes.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float
    count: float
    multiplicity: Multiplicity | None = None
    is_shared: bool = False

    @classmethod
    def of(cls, norm: BatchNorm, rows: Tensor, multiplicity: Multiplicity | None = None) -> Normalizer:
        """Take the statistics of a layer for these rows; in training, update its running ones."""
        mean, variance, count = norm.statistics(rows, multiplicity)
        weight, bias = norm.weight.detach(), norm.bias.detach()
        return cls(mean, variance, weight, bias, norm.eps, count, multiplicity, norm.is_shared)

    def __call__(self, rows: Tensor) -> Tensor:
        """Normalize rows, ``[n, d]``."""
        return functional.batch_norm(rows, self.mean, self.variance, self.weight, self.bias, eps=self.eps)

    def add_activated(self, rows: Tensor, residual: Tensor | None) -> Tensor:
        """Return ``silu(norm(rows)) + residual``, ``[n, d]``."""
        out = empty_rows(rows.shape, like=rows)
        for chunk in chunks(rows):
            normalized = self(rows[chunk])  # of one chunk only, in the cache for what follows
            if residual is None:
                torch.ops.aten.silu.out(normalized, out=out[chunk])
            else:
                torch.add(functional.silu(normalized, inplace=True), residual[chunk], out=out[chunk])
        return out

    def subtract_activated(self, rows: Tensor, total: Tensor) -> None:
        """Subtract ``silu(norm(rows))`` from ``total`` in place."""
        for chunk in chunks(rows):
            total[chunk] -= functional.silu(self(rows[chunk]), inplace=True)

    def backward(self, rows: Tensor, gradient: Tensor, added_to: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the rows, ``[n, d]``, the weight and the bias, ``[d]`` each.

        Args:
            rows: Input of the normalization, ``[n, d]``.
            gradient: Gradient of ``silu(norm(rows))``, ``[n, d]``.
            added_to: Total from which ``silu(norm(rows))`` is subtracted in place, as it is computed here anyway.
        """
        inverse_deviation = torch.rsqrt(self.variance + self.eps)
        statistics = self.mean, self.variance, self.mean, inverse_deviation
        to_rows = empty_rows(rows.shape, like=rows)
        to_weight, to_bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        # first pass: the gradient of the normalized rows, and its sums over all rows
        for chunk in chunks(rows):
            to_normalized = to_rows[chunk]
            normalized = self(rows[chunk])
            torch.ops.aten.silu_backward.grad_input(gradient[chunk], normalized, grad_input=to_normalized)
            if added_to is not None:
                added_to[chunk] -= functional.silu(normalized, inplace=True)
            # torch's kernel computes the sums in one pass, accumulated in fp32; it is not asked for the rows' gradient
            _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                to_normalized, rows[chunk], self.weight, *statistics, True, self.eps, [False, True, True]
            )
            to_weight += of_weight
            to_bias += of_bias
            del normalized  # on a GPU one chunk is all rows: free it before the next tensor of that size
        # second pass, with the sums complete: through scale, mean and variance, in place
        scale = self.weight * inverse_deviation
        all_to_weight, all_to_bias = self._over_processes(to_weight, to_bias)
        along, shift = scale * all_to_weight / self.count, all_to_bias / self.count
        zeros, ones = torch.zeros_like(scale), torch.ones_like(scale)
        for chunk in chunks(rows):
            # batch_norm serves as a fused multiply-add that computes in fp32 and rounds once, whatever the dtype
            if self.multiplicity is None:
                through = functional.batch_norm(rows[chunk], self.mean, self.variance, along, eps=self.eps)
                scaled = functional.batch_norm(to_rows[chunk], shift, ones, scale, eps=0)
            else:  # the shift is multiplied by the counts of the rows, so it is no constant of a column to fuse
                counts = self.multiplicity.counts[chunk]
                through = self._through_statistics(rows[chunk], counts, along, shift * scale)
                scaled = functional.batch_norm(to_rows[chunk], zeros, ones, scale, eps=0)
            torch.sub(scaled, through, out=to_rows[chunk])
        return to_rows, to_weight, to_bias

    def backward_without_silu(self, rows: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients as :meth:`backward` does, from the gradient of ``norm(rows)``."""
        to_rows, to_weight, to_bias = map(torch.zeros_like, (rows, self.weight, self.bias))
        if len(rows):  # without rows, torch's kernel divides by zero and the process dies
            # in evaluation mode: scale, weight and bias, as if the statistics were constants
            statistics = self.mean, self.variance, None, None, False, self.eps
            to_rows, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
                gradient.contiguous(), rows, self.weight, *statistics, [True, True, True]
            )
        all_to_weight, all_to_bias = self._over_processes(to_weight, to_bias)
        if math.isfinite(self.count):
            scale = self.weight * torch.rsqrt(self.variance + self.eps) / self.count
            counts = None if self.multiplicity is None else self.multiplicity.counts
            to_rows -= self._through_statistics(rows, counts, scale * all_to_weight, scale * all_to_bias)
        return to_rows, to_weight, to_bias

    def _over_processes(self, to_weight: Tensor, to_bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of both gradients over the processes that share the statistics."""
        if not self.is_shared:
            return to_weight, to_bias
        sums = torch.stack([to_weight, to_bias])
        torch.distributed.all_reduce(sums)
        return sums[0], sums[1]

    def _through_statistics(self, rows: Tensor, counts: Tensor | None, along: Tensor, shift: Tensor) -> Tensor:
        """Return the part of the gradient through mean and variance, ``counts * (x' * along + shift)``, ``[n, d]``."""
        part = functional.batch_norm(rows, self.mean, self.variance, along, shift, eps=self.eps)
        return part if counts is None else part.mul_(counts[:, None].to(part.dtype))


class _Normalize(torch.autograd.Function):
    """Batch normalization of rows with multiplicities, or of rows in several processes."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm, multiplicity: Multiplicity | None
    ) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.normalizer = Normalizer.of(norm, rows, multiplicity)
        return ctx.normalizer(rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        return *ctx.normalizer.backward_without_silu(rows, gradients[0]), None, None


def normalized(norm: nn.Module, rows: Tensor, multiplicity: Multiplicity | None) -> Tensor:
    """Return ``norm(rows)``, ``[n, d]``; with a multiplicity, ``norm`` must be a :class:`BatchNorm`."""
    result: Tensor = norm(rows) if multiplicity is None else norm(rows, multiplicity)
    return result


def normalized_silu(
    norm: nn.Module, rows: Tensor, residual: Tensor | None = None, multiplicity: Multiplicity | None = None
) -> Tensor:
    """Return ``silu(norm(rows)) + residual``, ``[n, d]`` each.

    With batch normalization the backward pass computes the normalized rows again, and only ``rows`` are kept.
    """
    if not isinstance(norm, BatchNorm):
        activated = functional.silu(norm(rows))
        return activated if residual is None else residual + activated
    return _BatchNormSiLU.apply(rows, norm.weight, norm.bias, residual, norm, multiplicity)


class _BatchNormSiLU(torch.autograd.Function):
    """``silu(norm(rows)) + residual`` with batch normalization."""

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
        # weight and bias are inputs for their gradients alone: the normalizer holds their values
        ctx.normalizer, ctx.has_residual = Normalizer.of(norm, rows, multiplicity), residual is not None
        return ctx.normalizer.add_activated(rows, residual)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (rows,) = ctx.saved_tensors
        changes = ctx.normalizer.backward(rows, gradient)
        return *changes, gradient if ctx.has_residual else None, None, None
