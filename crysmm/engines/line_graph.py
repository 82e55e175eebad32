"""The line graph of the blocked engine: at an atom with p bonds in and q out all p x q pairs, never listed.

Triplets outnumber atoms two hundred to one. So a convolution computes them piece by piece, some atoms of one block at
a time, whose rows stay in the processor's cache from the matrix product to the sums over neighbours; for the backward
pass it keeps the rows before its gates and the gates, and computes what lies between again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from crysmm.engines.blocked import Connectivity
from crysmm.engines.cache import rows_at_a_time
from crysmm.engines.topology import GatherTopology, Topology
from crysmm.memory import empty_rows


@dataclass(frozen=True)
class Piece:
    """Some atoms of one block: ``n`` with ``p`` edges in and ``q`` out.

    Args:
        n: number of atoms.
        p: edges into each.
        q: edges out of each.
        entering: where those into them are.
        leaving: where those out of them are, in ``out_order``.
        pairs: where the pairs of both are.
    """

    n: int
    p: int
    q: int
    entering: slice
    leaving: slice
    pairs: slice

    def of_entering(self, nodes: Tensor) -> Tensor:
        """``[n, p, d]`` view of ``[n_nodes, d]``."""
        return nodes[self.entering].view(self.n, self.p, nodes.shape[1])

    def of_leaving(self, sorted_nodes: Tensor) -> Tensor:
        """``[n, q, d]`` view of ``[n_nodes, d]`` in ``out_order``."""
        return sorted_nodes[self.leaving].view(self.n, self.q, sorted_nodes.shape[1])

    def of_pairs(self, edges: Tensor) -> Tensor:
        """``[n, p, q, d]`` view of ``[n_edges, d]``."""
        return edges[self.pairs].view(self.n, self.p, self.q, edges.shape[1])


def cut(blocks: tuple[tuple[int, int, int], ...], rows: float) -> list[Piece]:
    """Blocks of ``(n, p, q)`` in pieces with at most so many pairs; an atom with more is a piece of its own."""
    pieces, edge_in, edge_out, pair = [], 0, 0, 0
    for count, p, q in blocks:
        largest = max(1, int(min(count, rows / max(1, p * q))))
        for start in range(0, count, largest):
            n = min(largest, count - start)
            ends = edge_in + n * p, edge_out + n * q, pair + n * p * q
            pieces.append(Piece(n, p, q, slice(edge_in, ends[0]), slice(edge_out, ends[1]), slice(pair, ends[2])))
            edge_in, edge_out, pair = ends
    return pieces


class BlockedLineGraph(Topology):
    """A complete line graph: nodes are the edges of the crystal graph, edges all pairs (edge in, edge out).

    The pair (e, e) of a bond to the atom's own image is one of them: only so do a cell and its supercell agree.
    """

    def __init__(self, connectivity: Connectivity):
        """Args: the sorted edges of the crystal graph."""
        self.connectivity = connectivity
        self.n_nodes = len(connectivity.source)
        self.n_edges = connectivity.n_triplets

    @cached_property
    def blocks(self) -> list[Piece]:
        """Whole blocks."""
        return cut(self.connectivity.blocks, math.inf)

    @cached_property
    def pieces(self) -> list[Piece]:
        """What is computed at a time."""
        return cut(self.connectivity.blocks, rows_at_a_time(self.connectivity.source))

    def at_source(self, nodes: Tensor) -> Tensor:
        """See :class:`Topology`."""
        parts = [block.of_entering(nodes)[:, :, None].expand(-1, -1, block.q, -1) for block in self.blocks]
        return torch.cat([part.flatten(0, 2) for part in parts])

    def at_destination(self, nodes: Tensor) -> Tensor:
        """See :class:`Topology`."""
        nodes = self._sort(nodes)
        parts = [block.of_leaving(nodes)[:, None].expand(-1, block.p, -1, -1) for block in self.blocks]
        return torch.cat([part.flatten(0, 2) for part in parts])

    def sum(self, edges: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return self._restore(torch.cat([block.of_pairs(edges).sum(1).flatten(0, 1) for block in self.blocks]))

    def softmax(self, scores: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return torch.cat([block.of_pairs(scores).softmax(1).flatten(0, 2) for block in self.blocks])

    def gate(
        self, source: Tensor, destination: Tensor, edges: Tensor, weight: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`Topology`; piece by piece."""
        edges = edges.to(source.dtype)
        gates, weighted, weights = _Gate.apply(source, self._sort(destination), edges, weight, values, self.pieces)
        return gates, self._restore(weighted), self._restore(weights)

    def _sort(self, nodes: Tensor) -> Tensor:
        return _Permute.apply(nodes, self.connectivity.out_order, self.connectivity.in_place)

    def _restore(self, sorted_nodes: Tensor) -> Tensor:
        return _Permute.apply(sorted_nodes, self.connectivity.in_place, self.connectivity.out_order)


class _Permute(torch.autograd.Function):
    """Rows in another order; the gradient goes back by the inverse order instead of a scattered sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.inverse = inverse
        return torch.index_select(rows, 0, order, out=empty_rows(rows.shape, like=rows))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        in_place = empty_rows(gradient.shape, like=gradient)
        return torch.index_select(gradient, 0, ctx.inverse, out=in_place), None, None


class _Gate(torch.autograd.Function):
    """:meth:`Topology.gate` with ``destination`` and the sums in ``out_order``."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        destination: Tensor,
        edges: Tensor,
        weight: Tensor,
        values: Tensor,
        pieces: list[Piece],
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.pieces = pieces
        matrix = weight.to(edges.dtype).t()
        gates = empty_rows((len(edges), values.shape[1]), like=values)
        weighted, weights = (empty_rows(values.shape, like=values) for _ in range(2))
        for piece in pieces:
            torch.mm(edges[piece.pairs], matrix, out=gates[piece.pairs])
            gate = piece.of_pairs(gates)
            gate += piece.of_entering(source)[:, :, None]
            gate += piece.of_leaving(destination)[:, None]
            opened = torch.sigmoid(gate)
            torch.sum(opened, 1, out=piece.of_leaving(weights))
            opened *= piece.of_entering(values)[:, :, None]
            torch.sum(opened, 1, out=piece.of_leaving(weighted))
        ctx.save_for_backward(edges, gates, weight, values)
        ctx.set_materialize_grads(False)
        return gates, weighted, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        edges, gates, weight, values = ctx.saved_tensors
        of_gates, *of_sums = gradients
        of_weighted, of_weights = (torch.zeros_like(values) if sums is None else sums for sums in of_sums)
        matrix = weight.to(edges.dtype)
        to_source, to_destination, to_values = (empty_rows(values.shape, like=values) for _ in range(3))
        to_edges, to_weight = empty_rows(edges.shape, like=edges), torch.zeros_like(weight)
        for piece in ctx.pieces:
            opened = torch.sigmoid(piece.of_pairs(gates))
            weighted = piece.of_leaving(of_weighted)[:, None]
            change = opened * weighted
            torch.sum(change, 2, out=piece.of_entering(to_values))
            value = piece.of_entering(values)[:, :, None]
            torch.addcmul(piece.of_leaving(of_weights)[:, None], value, weighted, out=change)
            torch.ops.aten.sigmoid_backward.grad_input(change, opened, grad_input=change)
            if of_gates is not None:
                change += piece.of_pairs(of_gates)
            torch.sum(change, 2, out=piece.of_entering(to_source))
            torch.sum(change, 1, out=piece.of_leaving(to_destination))
            rows = change.flatten(0, 2)
            torch.mm(rows, matrix, out=to_edges[piece.pairs])
            to_weight += torch.mm(rows.t(), edges[piece.pairs])
        return to_source, to_destination, to_edges, to_weight, to_values, None


def incomplete_line_graph(
    connectivity: Connectivity, *, as_jarvis: bool, short: Tensor | None = None
) -> GatherTopology:
    """A line graph with pairs left out.

    Args:
        connectivity: the sorted edges of the crystal graph.
        as_jarvis: leave out the pairs (e, e) of bonds to an atom's own image, as DGL does.
        short: ``[n_edges]`` bool, the bonds that may be in a pair; ``None`` for all.
    """
    first, second = connectivity.triplets()
    kept = first != second if as_jarvis else torch.ones_like(first, dtype=torch.bool)
    if short is not None:
        kept = kept & short[first] & short[second]
    return GatherTopology(first[kept], second[kept], len(connectivity.source))
