"""The blocked engine: edges grouped by degree, so that what belongs to an atom is a dense axis.

The atoms are sorted by (in-degree p, out-degree q). The edges into the n atoms of one such block are then a
dense ``[n, p, d]`` view, and the pairs (edge in, edge out) of the line graph at those atoms a dense
``[n, p, q, d]`` view: neither the gathers nor the scattered sums of a listed line graph are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crysmm.engines.cache import covering
from crysmm.engines.linear import as_computed, product_backward
from crysmm.engines.segments import Segments, gather, rows_at, stable_order
from crysmm.engines.topology import Topology
from crysmm.memory import empty_rows


@dataclass(frozen=True, eq=False)
class Connectivity:
    """Who is bonded to whom, in block order.

    Args:
        incoming: the edges into each atom; they stand together.
        outgoing: the edges out of each atom.
        rank: ``[n_atoms]`` int64, the place of each atom in block order.
        out_order: ``[n_edges]`` int64, the edges such that those out of an atom stand together, in block order.
        in_place: ``[n_edges]`` int64, the inverse of ``out_order``.
        blocks: ``(n, p, q)``: n atoms with p edges in and q out, in block order.
    """

    incoming: Segments
    outgoing: Segments
    rank: Tensor
    out_order: Tensor
    in_place: Tensor
    blocks: tuple[tuple[int, int, int], ...]

    @classmethod
    def sort(cls, source: np.ndarray, destination: np.ndarray, n_atoms: int) -> tuple[Connectivity, np.ndarray]:
        """The connectivity of listed edges, and the order ``[n_edges]`` in which it takes them."""
        in_degree = np.bincount(destination, minlength=n_atoms)
        out_degree = np.bincount(source, minlength=n_atoms)
        atoms = np.lexsort((out_degree, in_degree))
        rank = np.empty(n_atoms, dtype=np.int64)
        rank[atoms] = np.arange(n_atoms)
        edge_order = stable_order(rank[destination], n_atoms)
        source, destination = source[edge_order].astype(np.int64), destination[edge_order].astype(np.int64)
        out_order = stable_order(rank[source], n_atoms)
        in_place = np.empty_like(out_order)
        in_place[out_order] = np.arange(len(out_order))
        p, q = in_degree[atoms], out_degree[atoms]
        starts = np.flatnonzero(np.r_[True, (np.diff(p) != 0) | (np.diff(q) != 0)])
        counts = np.diff(np.r_[starts, n_atoms])
        connectivity = cls(
            incoming=Segments.of(destination, n_atoms),
            outgoing=Segments.of(source, n_atoms),
            rank=torch.from_numpy(rank),
            out_order=torch.from_numpy(out_order),
            in_place=torch.from_numpy(in_place),
            blocks=tuple(zip(counts.tolist(), p[starts].tolist(), q[starts].tolist(), strict=True)),
        )
        return connectivity, edge_order

    def map(self, change: Callable[[Tensor], Tensor]) -> Connectivity:
        """The same with every tensor changed: moved to a device, pinned."""
        return Connectivity(
            self.incoming.map(change),
            self.outgoing.map(change),
            change(self.rank),
            change(self.out_order),
            change(self.in_place),
            self.blocks,
        )

    @property
    def source(self) -> Tensor:
        """``[n_edges]`` int64."""
        return self.outgoing.node

    @property
    def destination(self) -> Tensor:
        """``[n_edges]`` int64, those of one atom together."""
        return self.incoming.node

    @property
    def n_triplets(self) -> int:
        """Pairs (edge in, edge out) at all atoms."""
        return sum(n * p * q for n, p, q in self.blocks)

    def triplets(self) -> tuple[Tensor, Tensor]:
        """``[n_triplets]`` edge in and ``[n_triplets]`` edge out of every pair, block by block."""
        first, second, edge_in, edge_out = [], [], 0, 0
        for n, p, q in self.blocks:
            entering = torch.arange(edge_in, edge_in + n * p, device=self.source.device).view(n, p, 1)
            leaving = self.out_order[edge_out : edge_out + n * q].view(n, 1, q)
            first.append(entering.expand(n, p, q).reshape(-1))
            second.append(leaving.expand(n, p, q).reshape(-1))
            edge_in, edge_out = edge_in + n * p, edge_out + n * q
        return torch.cat(first), torch.cat(second)


class BlockedGraph(Topology):
    """A crystal graph: nodes are atoms in the batch's order, edges stand in block order."""

    def __init__(self, connectivity: Connectivity, n_nodes: int):
        """Args: the sorted edges and the number of atoms."""
        self.connectivity = connectivity
        self.n_nodes = n_nodes
        self.n_edges = len(connectivity.source)

    def at_source(self, nodes: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return gather(nodes, self.connectivity.outgoing)

    def at_destination(self, nodes: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return gather(nodes, self.connectivity.incoming)

    def add(self, source: Tensor, destination: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        """See :class:`Topology`; the product is added to the sum of two rows, piece by piece."""
        edges = as_computed(edges)
        nodes = source.to(edges.dtype), destination.to(edges.dtype)
        return _Add.apply(*nodes, edges, weight, self._ends, self.connectivity)

    def sum(self, edges: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return self.connectivity.incoming.sum(edges)

    def softmax(self, scores: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return torch.cat([part.softmax(1).flatten(0, 1) for part in self._split(scores)])

    def gated_sum(self, gates: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Topology`; for the backward pass the gates and the values are kept."""
        return _GatedSum.apply(gates, values, self.connectivity)

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """See :class:`Topology`; a product of a row with a matrix for each node."""
        with torch.autocast(weights.device.type, enabled=False):
            sums = [
                (part.flatten(1)[:, None] @ rows.flatten(1, 2).to(part.dtype)).squeeze(1)
                for part, rows in zip(self._split(weights), self._split(values), strict=True)
            ]
        return torch.cat(sums).index_select(0, self.connectivity.rank)

    def _split(self, edges: Tensor) -> list[Tensor]:
        """Views ``[n, p, ...]`` of ``[n_edges, ...]``, one for each of ``_runs``."""
        parts = edges.split([n * p for n, p in self._runs])
        return [part.view(n, p, *edges.shape[1:]) for part, (n, p) in zip(parts, self._runs, strict=True)]

    @cached_property
    def _runs(self) -> list[tuple[int, int]]:
        """``(n, p)``: n atoms in block order with p edges in, for each p."""
        by_degree = groupby(self.connectivity.blocks, lambda block: block[1])
        return [(sum(block[0] for block in run), p) for p, run in by_degree]

    @cached_property
    def _ends(self) -> Tensor:
        """``[n_edges, 2]``, the source of each edge, and its destination counted after all sources."""
        return torch.stack((self.connectivity.source, self.connectivity.destination + self.n_nodes), dim=1)


class _Add(torch.autograd.Function):
    """:meth:`Topology.add`."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        destination: Tensor,
        edges: Tensor,
        weight: Tensor,
        ends: Tensor,
        connectivity: Connectivity,
    ) -> Tensor:
        ctx.connectivity = connectivity
        ctx.save_for_backward(edges, weight)
        nodes = torch.cat((source, destination))
        matrix = weight.to(edges.dtype).t()
        total = empty_rows((len(edges), len(weight)), like=edges)
        for piece in covering(edges, in_cache=True):
            of_ends = functional.embedding_bag(ends[piece], nodes, mode="sum")
            torch.addmm(of_ends, edges[piece], matrix, out=total[piece])
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        edges, weight = ctx.saved_tensors
        needed = (*ctx.needs_input_grad[2:4], False)
        to_edges, to_weight, _ = product_backward(gradient, edges, weight, needed)
        graph = ctx.connectivity
        return graph.outgoing.sum(gradient), graph.incoming.sum(gradient), to_edges, to_weight, None, None


class _GatedSum(torch.autograd.Function):
    """:meth:`Topology.gated_sum`."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, values: Tensor, connectivity: Connectivity) -> tuple[Tensor, Tensor]:
        ctx.connectivity = connectivity
        ctx.save_for_backward(gates, values)
        opened = torch.sigmoid(gates, out=empty_rows(gates.shape, like=gates))
        weights = connectivity.incoming.sum(opened)
        opened *= rows_at(values, connectivity.source)
        return connectivity.incoming.sum(opened), weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_weighted: Tensor, of_weights: Tensor) -> tuple[Tensor, Tensor, None]:
        gates, values = ctx.saved_tensors
        edges = ctx.connectivity
        opened = torch.sigmoid(gates, out=empty_rows(gates.shape, like=gates))
        change = rows_at(of_weighted, edges.destination)
        weighted = torch.mul(opened, change, out=empty_rows(gates.shape, like=gates))
        to_values = edges.outgoing.sum(weighted)
        change *= rows_at(values, edges.source)
        change += rows_at(of_weights, edges.destination)
        return torch.ops.aten.sigmoid_backward.grad_input(change, opened, grad_input=change), to_values, None
