"""Rows in contiguous runs, one run a node: sums and softmaxes over runs without scattering.

Runs of one length stand together, so that the rows of ``n`` runs of length ``p`` are a dense ``[n, p, d]`` view
and a sum over each run is ``.sum(1)``: no atomic additions, the same bits on every run and device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crysmm.memory import empty_rows


@dataclass(frozen=True, eq=False)
class Segments:
    """Runs of rows, sorted into blocks of one length.

    Args:
        blocks: ``(number of runs, rows in each)``, in the order of the rows; a length may be 0.
        rank: ``[n_nodes]`` int64, the place of each node's run, or ``None`` where it is the node's own.
    """

    blocks: tuple[tuple[int, int], ...]
    rank: Tensor | None

    @classmethod
    def from_lengths(cls, lengths: np.ndarray, rank: np.ndarray) -> Segments:
        """Segments of runs with ``lengths[i]`` rows, standing in that order; ``rank`` is each node's place."""
        blocks = tuple((sum(1 for _ in run), int(length)) for length, run in groupby(lengths.tolist()))
        in_place = bool((rank == np.arange(len(rank))).all())
        return cls(blocks, None if in_place else torch.from_numpy(rank))

    def map(self, change: Callable[[Tensor], Tensor]) -> Segments:
        """The same with every tensor changed: moved to a device, pinned."""
        return self if self.rank is None else Segments(self.blocks, change(self.rank))

    def split(self, rows: Tensor) -> list[Tensor]:
        """Views ``[n_runs, length, ...]`` of ``[n_rows, ...]``, one a block."""
        parts = rows.split([count * length for count, length in self.blocks])
        return [
            part.view(count, length, *rows.shape[1:]) for part, (count, length) in zip(parts, self.blocks, strict=True)
        ]

    def join(self, parts: list[Tensor]) -> Tensor:
        """One row a node, ``[n_nodes, ...]``, from one row a run, block by block."""
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)
        return rows if self.rank is None else rows.index_select(0, self.rank)

    def sum(self, rows: Tensor) -> Tensor:
        """``[n_nodes, ...]`` sums over each node's run of ``[n_rows, ...]``."""
        return self.join([part.sum(1) for part in self.split(rows)])

    def softmax(self, rows: Tensor) -> Tensor:
        """``[n_rows, ...]`` softmax over each node's run."""
        parts = [part.softmax(1).flatten(0, 1) for part in self.split(rows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def rows_at(rows: Tensor, index: Tensor) -> Tensor:
    """``rows[index]`` in memory that is used again, without gradients."""
    return torch.index_select(rows, 0, index, out=empty_rows((len(index), *rows.shape[1:]), like=rows))


class _Gather(torch.autograd.Function):
    """``rows[index]`` whose gradient is summed over runs, not scattered.

    ``order`` brings the gathered rows into the runs' order (``None`` where they stand in it).
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, order: Tensor | None, segments: Segments) -> Tensor:
        ctx.order, ctx.segments = order, segments
        return rows_at(rows, index)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        if ctx.order is not None:
            gradient = rows_at(gradient, ctx.order)
        return ctx.segments.sum(gradient), None, None, None


def gather(rows: Tensor, index: Tensor, order: Tensor | None, segments: Segments) -> Tensor:
    """``rows[index]``, differentiable without scattering.

    Args:
        rows: ``[n_nodes, d]``.
        index: ``[n_edges]`` node of each edge.
        order: ``[n_edges]`` permutation that sorts the edges into the runs of ``segments``, or ``None``.
        segments: the edges of each node.
    """
    return _Gather.apply(rows, index, order, segments)
