"""Linear layers with normalisation and SiLU, whose backward pass computes everything from the input again.

An embedding of angles makes 256 numbers of one: what lies between is cheap to compute, and much to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from crysmm.engines.cache import pieces
from crysmm.engines.linear import as_computed, product, product_backward
from crysmm.engines.memory import empty_rows
from crysmm.engines.normalization import BatchNorm, Multiplicity, Normalizer, normalized_silu

Layer = tuple[nn.Linear, nn.Module]  # and its normalisation
Expansion = Callable[[Tensor], Tensor]


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
        for linear, norm in layers:
            rows = normalized_silu(norm, linear(rows), multiplicity=multiplicity)
        return rows
    parameters = chain.from_iterable((linear.weight, linear.bias, norm.weight, norm.bias) for linear, norm in layers)
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
