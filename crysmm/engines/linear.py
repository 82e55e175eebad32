"""Linear layers whose results and gradients lie in reused memory, and perceptrons that keep their input alone.

An embedding of angles makes 256 numbers of one: what lies between is cheap to compute, and much to keep. So the
backward pass of a perceptron computes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from crysmm.engines.memory import STEPS, covering, empty_rows, few_shapes_are_faster, pieces
from crysmm.engines.normalization import BatchNorm, Multiplicity, Normalizer, normalized_silu

Layer = tuple[nn.Linear, nn.Module]  # and its normalisation
Expansion = Callable[[Tensor], Tensor]


class Linear(nn.Linear):
    """torch's layer for the rows of atoms or bonds, of which every batch has another number; see :func:`linear`."""

    def forward(self, rows: Tensor) -> Tensor:
        """``[n, c]`` to ``[n, d]``; other shapes as torch's."""
        return linear(rows, self.weight, self.bias) if rows.dim() == 2 else super().forward(rows)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + bias``, ``[n, c]`` to ``[n, d]``; computed in autocast's type where that is on."""
    return _Linear.apply(as_computed(rows), weight, bias)


def as_computed(rows: Tensor) -> Tensor:
    """Rows in the type that autocast multiplies, where it is on."""
    kind = rows.device.type
    return rows.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else rows


def precise(rows: Tensor) -> Tensor:
    """The same numbers in fp32 at least: what bf16 layers give, before sums over many atoms and losses."""
    return rows if rows.dtype == torch.float64 else rows.float()


def product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`linear` in the type of the rows, without gradients."""
    bias = None if bias is None else bias.to(rows.dtype)
    return _multiplied(rows, weight.to(rows.dtype).t(), bias)


def _multiplied(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows @ matrix``, and a bias added to each row."""
    out = empty_rows((len(rows), matrix.shape[1]), like=rows)
    multiply(rows, matrix, out, None if bias is None else bias.expand_as(out))
    return out


def multiply(rows: Tensor, matrix: Tensor, out: Tensor, added: Tensor | None = None) -> None:
    """Write ``rows @ matrix + added``, which must not lie where it is written to; all ``[n, ...]`` but the matrix."""
    for piece in covering(rows):
        if added is None:
            torch.mm(rows[piece], matrix, out=out[piece])
        else:
            torch.addmm(added[piece], rows[piece], matrix, out=out[piece])


def product_over_rows(left: Tensor, right: Tensor) -> Tensor:
    """``left.T @ right`` of ``[n, d]`` and ``[n, c]``; where few shapes are faster, their sum and the rest in fp32."""
    if not few_shapes_are_faster(left):
        return left.t() @ right
    end = len(left) // STEPS[0] * STEPS[0]  # of whole steps no piece begins within another
    total = left[end:].t().float() @ right[end:].float()
    for piece in covering(left[:end]):
        total += left[piece].t() @ right[piece]
    return total


def product_backward(
    gradient: Tensor, rows: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of :func:`product`: of the rows, the weight and the bias.

    Args:
        gradient: ``[n, d]``.
        rows: ``[n, c]``.
        weight: ``[d, c]``.
        needed: which of the three.
    """
    to_rows = to_weight = to_bias = None
    if needed[0]:
        to_rows = _multiplied(gradient, weight.to(gradient.dtype))
    if needed[1]:
        to_weight = product_over_rows(gradient, rows).to(weight.dtype)
    if needed[2]:
        to_bias = gradient.sum(0).to(weight.dtype)
    return to_rows, to_weight, to_bias


class _Linear(torch.autograd.Function):
    """:func:`product`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        return product_backward(gradients[0], rows, weight, ctx.needs_input_grad)


def perceptron(
    values: Tensor,
    layers: Sequence[Layer],
    expansion: Expansion | None = None,
    multiplicity: Multiplicity | None = None,
) -> Tensor:
    """``silu(norm(linear(...)))``, layer after layer.

    Args:
        values: ``[n, c]``, or what the expansion takes.
        layers: linear layers, each with its normalisation.
        expansion: makes ``[n, c]`` of the values, without parameters; ``None`` where they are that.
        multiplicity: how many rows each stands for; ``None`` for one.
    """
    again = all(isinstance(norm, BatchNorm) for _, norm in layers)
    if not again or (expansion is not None and values.requires_grad):
        rows = values if expansion is None else expansion(values)
        for layer, norm in layers:
            rows = normalized_silu(norm, layer(rows), multiplicity=multiplicity)
        return rows
    parameters = chain.from_iterable((layer.weight, layer.bias, norm.weight, norm.bias) for layer, norm in layers)
    values = values if expansion is not None else as_computed(values)
    dtype = as_computed(values.new_empty(0)).dtype
    return _Perceptron.apply(values, [norm for _, norm in layers], multiplicity, expansion, dtype, *parameters)


class _Perceptron(torch.autograd.Function):
    """:func:`perceptron` with batch normalisation."""

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
        for place, norm in enumerate(norms):
            projected = product(rows, *parameters[4 * place : 4 * place + 2])
            ctx.normalizers.append(Normalizer.of(norm, projected, multiplicity))
            rows = ctx.normalizers[-1].add_activated(projected, None)
        return rows

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        of_rows: Tensor | None = gradients[0]
        values, *parameters = ctx.saved_tensors
        inputs, projections = [_expanded(values, ctx.expansion, ctx.dtype, parameters[0].shape[1])], []
        for place, normalizer in enumerate(ctx.normalizers):
            projections.append(product(inputs[-1], *parameters[4 * place : 4 * place + 2]))
            if place + 1 < len(ctx.normalizers):
                inputs.append(normalizer.add_activated(projections[-1], None))
        of_parameters: list[Tensor | None] = []
        for place in reversed(range(len(ctx.normalizers))):
            change, *of_norm = ctx.normalizers[place].backward(projections.pop(), of_rows)
            needed = place > 0 or ctx.needs_input_grad[0], True, True
            of_rows, *of_linear = product_backward(change, inputs.pop(), parameters[4 * place], needed)
            of_parameters = [*of_linear, *of_norm, *of_parameters]
        return of_rows, None, None, None, None, *of_parameters


def _expanded(values: Tensor, expansion: Expansion | None, dtype: torch.dtype, width: int) -> Tensor:
    """``[n, width]``; the values themselves where nothing expands them."""
    if expansion is None:
        return values
    rows = empty_rows((len(values), width), like=values.new_empty(0, dtype=dtype))
    for piece in pieces(values):
        rows[piece] = expansion(values[piece])
    return rows
