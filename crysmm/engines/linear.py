"""Linear layers with results and gradients in reused memory, and perceptrons that keep nothing but their input.

An angle embedding makes 256 numbers of one cosine: everything in between is cheap to compute and large to keep, so the
backward pass of a perceptron computes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from crysmm.engines.memory import ROW_STEPS, chunks, empty_rows, matmul_chunks, multiplied_by_onednn
from crysmm.engines.normalization import BatchNorm, Multiplicity, Normalizer, normalized_silu

Layer = tuple[nn.Linear, nn.Module]  # a linear layer and its normalization
Expansion = Callable[[Tensor], Tensor]


class Linear(nn.Linear):
    """Linear layer for rows of atoms or bonds, whose number differs in every batch; see :func:`linear`."""

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``[n, c]`` to ``[n, d]``; other shapes are handled by torch."""
        return linear(rows, self.weight, self.bias) if rows.dim() == 2 else super().forward(rows)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``rows @ weight.T + bias``, ``[n, c]`` to ``[n, d]``, in autocast's dtype where autocast is on."""
    return _Linear.apply(to_autocast_dtype(rows), weight, bias)


def to_autocast_dtype(rows: Tensor) -> Tensor:
    """Convert rows to the dtype in which autocast multiplies; unchanged where autocast is off."""
    # autocast skips products with out=, and backward passes: inputs of custom functions are converted before
    kind = rows.device.type
    return rows.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else rows


def precise(rows: Tensor) -> Tensor:
    """Convert the results of bf16 layers to fp32, before sums over many atoms and losses; keep float64."""
    return rows if rows.dtype == torch.float64 else rows.float()


def linear_forward(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute :func:`linear` in the dtype of the rows, without recording gradients."""
    out = empty_rows((len(rows), len(weight)), like=rows)
    added = None if bias is None else bias.to(rows.dtype).expand_as(out)  # a view: one row in memory
    matmul_into(out, rows, weight.to(rows.dtype).t(), added)
    return out


def matmul_into(out: Tensor, rows: Tensor, matrix: Tensor, added: Tensor | None = None) -> None:
    """Write ``rows @ matrix + added`` into ``out``.

    Args:
        out: Result, ``[n, d]``; must not share memory with ``rows`` or ``added``, whose rows may be read twice.
        rows: Left factor, ``[n, c]``.
        matrix: Right factor, ``[c, d]``.
        added: Summand, ``[n, d]``.
    """
    for chunk in matmul_chunks(rows):
        if added is None:
            torch.mm(rows[chunk], matrix, out=out[chunk])
        else:
            torch.addmm(added[chunk], rows[chunk], matrix, out=out[chunk])


def matmul_over_rows(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left.T @ right`` for ``[n, d]`` and ``[n, c]``, the gradient of a weight; fp32 where oneDNN multiplies.

    The reduction runs over the rows, so chunks must not overlap here: those of whole steps do not, and the remaining
    rows are multiplied in fp32, for which no code is generated.
    """
    if not multiplied_by_onednn(left):
        return left.t() @ right
    end = len(left) // ROW_STEPS[0] * ROW_STEPS[0]
    total = left[end:].t().float() @ right[end:].float()
    for chunk in matmul_chunks(left[:end]):
        total += left[chunk].t() @ right[chunk]
    return total


def linear_backward(
    gradient: Tensor, rows: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of the rows, the weight and the bias of :func:`linear_forward`.

    Args:
        gradient: Gradient of the result, ``[n, d]``.
        rows: Input, ``[n, c]``.
        weight: Weight, ``[d, c]``.
        needed: Whether each of the three is computed; None is returned for the others.
    """
    to_rows = to_weight = to_bias = None
    if needed[0]:
        to_rows = linear_forward(gradient, weight.t(), None)
    if needed[1]:
        to_weight = matmul_over_rows(gradient, rows).to(weight.dtype)
    if needed[2]:
        to_bias = gradient.sum(0).to(weight.dtype)  # torch accumulates in fp32
    return to_rows, to_weight, to_bias


class _Linear(torch.autograd.Function):
    """Differentiable :func:`linear_forward`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return linear_forward(rows, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        return linear_backward(gradients[0], rows, weight, ctx.needs_input_grad)


def perceptron(
    values: Tensor,
    layers: Sequence[Layer],
    expansion: Expansion | None = None,
    multiplicity: Multiplicity | None = None,
) -> Tensor:
    """Apply ``silu(norm(linear(...)))``, layer after layer.

    Args:
        values: Input, ``[n, c]``, or ``[n]`` with an expansion.
        layers: Linear layers, each with its normalization.
        expansion: Parameter-free function from ``values`` to ``[n, c]``.
        multiplicity: Number of rows that each row represents; None for one.
    """
    # layer norms, and expansions whose input has a gradient, are left to autograd
    recomputed = all(isinstance(norm, BatchNorm) for _, norm in layers)
    if not recomputed or (expansion is not None and values.requires_grad):
        rows = values if expansion is None else expansion(values)
        for layer, norm in layers:
            rows = normalized_silu(norm, layer(rows), multiplicity=multiplicity)
        return rows
    parameters = chain.from_iterable((layer.weight, layer.bias, norm.weight, norm.bias) for layer, norm in layers)
    # an expansion gets full-precision values: bf16 has too few digits for lengths and cosines
    values = values if expansion is not None else to_autocast_dtype(values)
    dtype = to_autocast_dtype(values.new_empty(0)).dtype
    return _Perceptron.apply(values, [norm for _, norm in layers], multiplicity, expansion, dtype, *parameters)


class _Perceptron(torch.autograd.Function):
    """Differentiable :func:`perceptron` with batch normalization.

    The parameters are flat, as autograd requires: weight, bias, norm weight, norm bias of each layer.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norms: list[BatchNorm],
        multiplicity: Multiplicity | None,
        expansion: Expansion | None,
        dtype: torch.dtype,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(values, *parameters)
        ctx.expansion, ctx.dtype, ctx.normalizers = expansion, dtype, []
        rows = _expanded(values, expansion, dtype, parameters[0].shape[1])
        # each layer's rows replace those of the one before: forward holds two at a time
        for place, norm in enumerate(norms):
            projected = linear_forward(rows, *parameters[4 * place : 4 * place + 2])
            # the batch statistics are kept, so that the running ones see the batch once
            ctx.normalizers.append(Normalizer.of(norm, projected, multiplicity))
            rows = ctx.normalizers[-1].add_activated(projected, None)
        return rows

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        to_rows: Tensor | None = gradients[0]
        values, *parameters = ctx.saved_tensors
        # forward again, up to the last projection
        inputs, projections = [_expanded(values, ctx.expansion, ctx.dtype, parameters[0].shape[1])], []
        for place, normalizer in enumerate(ctx.normalizers):
            projections.append(linear_forward(inputs[-1], *parameters[4 * place : 4 * place + 2]))
            if place + 1 < len(ctx.normalizers):
                inputs.append(normalizer.add_activated(projections[-1], None))
        to_parameters: list[Tensor | None] = []
        for place in reversed(range(len(ctx.normalizers))):
            # pop: each layer's rows are freed as soon as they have been used
            to_projected, *to_norm = ctx.normalizers[place].backward(projections.pop(), to_rows)
            needed = place > 0 or ctx.needs_input_grad[0], True, True
            to_rows, *to_linear = linear_backward(to_projected, inputs.pop(), parameters[4 * place], needed)
            to_parameters = [*to_linear, *to_norm, *to_parameters]
        return to_rows, None, None, None, None, *to_parameters


def _expanded(values: Tensor, expansion: Expansion | None, dtype: torch.dtype, width: int) -> Tensor:
    """Return the expanded values, ``[n, width]``; the values themselves without an expansion."""
    if expansion is None:
        return values
    rows = empty_rows((len(values), width), like=values.new_empty(0, dtype=dtype))
    for chunk in chunks(values):  # the fp32 Gaussians exist for one chunk at a time
        rows[chunk] = expansion(values[chunk])
    return rows
