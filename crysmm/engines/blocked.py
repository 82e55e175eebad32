"""The blocked engine: edges grouped by degree, so that what belongs to an atom is a dense axis.

The atoms are sorted by (in-degree p, out-degree q). The edges into the n atoms of one such block are then a
dense ``[n, p, d]`` view, and the pairs (edge in, edge out) of the line graph at those atoms a dense
``[n, p, q, d]`` view: neither the gathers nor the scattered sums of a listed line graph are left.

Of atoms that are alike (:mod:`crysmm.graphs.equivalence`) one may stand for all. It has all of its edges in, from the
atoms that stand for their sources, and of its edges out one of each kind: for every pair (edge in, kind of edge out)
there is one row, and sums over the edges into an atom or a bond need no weights.
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

from crysmm.engines.linear import as_computed, product_backward
from crysmm.engines.memory import covering, empty_rows
from crysmm.engines.normalization import Multiplicity
from crysmm.engines.segments import Segments, gather, rows_at, stable_order
from crysmm.engines.topology import Topology


@dataclass(frozen=True, eq=False)
class AlikeAtoms:
    """Which atoms stand for others.

    Args:
        stands: ``[n_atoms]`` bool, whether an atom stands for its class.
        first: ``[n_nodes]`` int64, those that do.
        node: ``[n_atoms]`` int64, which of them stands for each atom.
    """

    stands: np.ndarray
    first: np.ndarray
    node: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray) -> AlikeAtoms:
        """From the atom that stands for each atom, ``[n_atoms]``."""
        stands = first == np.arange(len(first))
        return cls(stands, np.flatnonzero(stands), (np.cumsum(stands) - 1)[first])

    @cached_property
    def multiplicity(self) -> np.ndarray:
        """``[n_nodes]``: of how many atoms each class is."""
        return np.bincount(self.node, minlength=len(self.first))


@dataclass(frozen=True, eq=False)
class Multiplicities:
    """How many atoms, edges and edges out each of a :class:`Connectivity` stands for.

    Args:
        nodes: of its atoms.
        edges: of its edges.
        leaving: ``[n_leaving]`` float32, of its edges out.
        n_triplets: pairs (edge in, edge out) at all atoms, alike or not.
    """

    nodes: Multiplicity
    edges: Multiplicity
    leaving: Tensor
    n_triplets: int

    def map(self, change: Callable[[Tensor], Tensor]) -> Multiplicities:
        """The same with every tensor changed: moved to a device, pinned."""
        return Multiplicities(self.nodes.map(change), self.edges.map(change), change(self.leaving), self.n_triplets)


def _multiplicity(numbers: np.ndarray) -> Multiplicity:
    return Multiplicity(torch.from_numpy(numbers.astype(np.float32)), int(numbers.sum()))


def _first_of_each(kinds: np.ndarray, places: np.ndarray, n_kinds: int) -> np.ndarray:
    """``[n_kinds]``: the first of some ascending places of each kind."""
    first = np.empty(n_kinds, dtype=np.int64)
    first[kinds[places[::-1]]] = places[::-1]
    return first


def _block_order(in_degree: np.ndarray, out_degree: np.ndarray) -> tuple[np.ndarray, tuple[tuple[int, int, int], ...]]:
    """``rank`` and ``blocks`` of a :class:`Connectivity`."""
    n_atoms = len(in_degree)
    atoms = np.lexsort((out_degree, in_degree))
    rank = np.empty(n_atoms, dtype=np.int64)
    rank[atoms] = np.arange(n_atoms)
    p, q = in_degree[atoms], out_degree[atoms]
    starts = np.flatnonzero(np.r_[True, (np.diff(p) != 0) | (np.diff(q) != 0)])
    counts = np.diff(np.r_[starts, n_atoms])
    return rank, tuple(zip(counts.tolist(), p[starts].tolist(), q[starts].tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Connectivity:
    """Who is bonded to whom, in block order.

    Args:
        incoming: the edges into each atom; they stand together.
        outgoing: the edges out of each atom.
        rank: ``[n_atoms]`` int64, the place of each atom in block order.
        leaving: the edge of each edge out, where those out of an atom stand together, in block order.
        returning: of each edge its place among those out.
        blocks: ``(n, p, q)``: n atoms with p edges in and q out, in block order.
        multiplicities: where atoms stand for others.
    """

    incoming: Segments
    outgoing: Segments
    rank: Tensor
    leaving: Segments
    returning: Segments
    blocks: tuple[tuple[int, int, int], ...]
    multiplicities: Multiplicities | None = None

    @classmethod
    def sort(cls, source: np.ndarray, destination: np.ndarray, n_atoms: int) -> tuple[Connectivity, np.ndarray]:
        """The connectivity of listed edges, and the order ``[n_edges]`` in which it takes them."""
        rank, blocks = _block_order(np.bincount(destination, minlength=n_atoms), np.bincount(source, minlength=n_atoms))
        edge_order = stable_order(rank[destination], n_atoms)
        source, destination = source[edge_order].astype(np.int64), destination[edge_order].astype(np.int64)
        out_order = stable_order(rank[source], n_atoms)
        in_place = np.empty_like(out_order)
        in_place[out_order] = places = np.arange(len(out_order))
        connectivity = cls(
            incoming=Segments.of(destination, n_atoms),
            outgoing=Segments.of(source, n_atoms),
            rank=torch.from_numpy(rank),
            leaving=Segments(*map(torch.from_numpy, (out_order, in_place, places))),
            returning=Segments(*map(torch.from_numpy, (in_place, out_order, places))),
            blocks=blocks,
        )
        return connectivity, edge_order

    @classmethod
    def merge(
        cls, source: np.ndarray, destination: np.ndarray, atoms: AlikeAtoms, kinds: np.ndarray
    ) -> tuple[Connectivity, np.ndarray, np.ndarray]:
        """The connectivity of atoms that stand for others.

        Args:
            source: ``[n_edges]``, atoms.
            destination: ``[n_edges]``, atoms.
            atoms: which are alike.
            kinds: ``[n_edges]``, each edge's class, from 0 and without gaps.

        Returns:
            The connectivity, and which of the listed edges its edges are, and which those out.
        """
        n_atoms, n_kinds = len(atoms.first), int(kinds.max(initial=-1)) + 1
        kept = np.flatnonzero(atoms.stands[destination])
        going = _first_of_each(kinds, np.flatnonzero(atoms.stands[source]), n_kinds)
        entering = np.bincount(atoms.node[destination[kept]], minlength=n_atoms)
        rank, blocks = _block_order(entering, np.bincount(atoms.node[source[going]], minlength=n_atoms))
        kept = kept[stable_order(rank[atoms.node[destination[kept]]], n_atoms)]
        going = going[stable_order(rank[atoms.node[source[going]]], n_atoms)]
        from_atom, into = atoms.node[source[kept]], atoms.node[destination[kept]]
        places = np.empty(n_kinds, dtype=np.int64)
        places[kinds[going]] = np.arange(n_kinds)
        edge_of_kind = _first_of_each(kinds[kept], np.arange(len(kept)), n_kinds)
        of_kinds = np.bincount(kinds, minlength=n_kinds)[kinds[going]]
        connectivity = cls(
            incoming=Segments.of(into, n_atoms),
            outgoing=Segments.of(from_atom, n_atoms),
            rank=torch.from_numpy(rank),
            leaving=Segments.of(edge_of_kind[kinds[going]], len(kept)),
            returning=Segments.of(places[kinds[kept]], n_kinds),
            blocks=blocks,
            multiplicities=Multiplicities(
                _multiplicity(atoms.multiplicity),
                _multiplicity(atoms.multiplicity[into]),
                torch.from_numpy(of_kinds.astype(np.float32)),
                int(of_kinds @ entering[atoms.node[source[going]]]),
            ),
        )
        return connectivity, kept, going

    def map(self, change: Callable[[Tensor], Tensor]) -> Connectivity:
        """The same with every tensor changed: moved to a device, pinned."""
        return Connectivity(
            self.incoming.map(change),
            self.outgoing.map(change),
            change(self.rank),
            self.leaving.map(change),
            self.returning.map(change),
            self.blocks,
            None if self.multiplicities is None else self.multiplicities.map(change),
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
        """``[n_triplets]`` edge in and ``[n_triplets]`` edge out of every pair, block by block.

        Where atoms stand for others, the edge out is one that is alike.
        """
        first, second, edge_in, edge_out = [], [], 0, 0
        for n, p, q in self.blocks:
            entering = torch.arange(edge_in, edge_in + n * p, device=self.source.device).view(n, p, 1)
            leaving = self.leaving.node[edge_out : edge_out + n * q].view(n, 1, q)
            first.append(entering.expand(n, p, q).reshape(-1))
            second.append(leaving.expand(n, p, q).reshape(-1))
            edge_in, edge_out = edge_in + n * p, edge_out + n * q
        return torch.cat(first), torch.cat(second)


class BlockedGraph(Topology):
    """A crystal graph: nodes are the atoms that are computed, in the batch's order; edges stand in block order."""

    def __init__(self, connectivity: Connectivity, n_nodes: int):
        """Args: the sorted edges and the number of those atoms."""
        self.connectivity = connectivity
        self.n_nodes = n_nodes
        self.n_edges = len(connectivity.source)
        if connectivity.multiplicities is not None:
            self.node_multiplicity = connectivity.multiplicities.nodes
            self.edge_multiplicity = connectivity.multiplicities.edges

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
