"""Blocked engine: edges grouped by degree, so that the edges of an atom are a dense axis.

Atoms are sorted by (in-degree p, out-degree q). The incoming edges of the n atoms of one such block are then a dense
``[n, p, d]`` view, and the pairs (incoming edge, outgoing edge) of the line graph at these atoms a dense
``[n, p, q, d]`` view: no pair is listed, gathered or scattered.

Of equivalent atoms (:mod:`crysmm.graphs.equivalence`) one representative can be computed for all. It keeps all of its
incoming edges, which now come from the representatives of their sources, and one outgoing edge of each class. So every
pair (incoming edge, class of outgoing edges) has one row, and sums over the incoming edges of an atom or a bond need no
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crysmm.engines.linear import linear_backward, to_autocast_dtype
from crysmm.engines.memory import empty_rows, matmul_chunks
from crysmm.engines.normalization import Multiplicity
from crysmm.engines.segments import Segments, gather, select_rows
from crysmm.engines.topology import Topology
from crysmm.graphs.order import stable_order

Blocks = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, eq=False)
class AtomClasses:
    """Equivalence classes of the atoms in a batch; each class becomes one node.

    Args:
        is_representative: True for one atom of each class, ``[n_atoms]``.
        representatives: These atoms in ascending order, ``[n_nodes]`` int64.
        node: Class of each atom, as a place in ``representatives``, ``[n_atoms]`` int64.
    """

    is_representative: np.ndarray
    representatives: np.ndarray
    node: np.ndarray

    @classmethod
    def of(cls, representative: np.ndarray) -> AtomClasses:
        """Make the classes from the representative of each atom, ``[n_atoms]``."""
        is_representative = representative == np.arange(len(representative))
        node = (np.cumsum(is_representative) - 1)[representative]
        return cls(is_representative, np.flatnonzero(is_representative), node)


@dataclass(frozen=True, eq=False)
class Multiplicities:
    """Numbers of equivalent atoms, edges and outgoing edges that the rows of a :class:`Connectivity` represent.

    Args:
        nodes: Atoms represented by each node.
        edges: Edges represented by each edge.
        outgoing: Edges represented by each outgoing edge, ``[n_outgoing]`` float32.
        n_triplets: Number of pairs (incoming edge, outgoing edge) over all atoms of the crystals.
    """

    nodes: Multiplicity
    edges: Multiplicity
    outgoing: Tensor
    n_triplets: int


@dataclass(frozen=True, eq=False)
class Connectivity:
    """Edges in block order, as incoming edges and as outgoing edges of their nodes.

    Edges are numbered so that the incoming edges of a node are contiguous, node by node in block order. Outgoing edges
    have numbers of their own, so that those of a node are contiguous in the same way. Without equivalent atoms the two
    are permutations of each other; with them, several edges can share an outgoing edge, which represents their class.

    Args:
        by_destination: Assignment of edges to the nodes they enter.
        by_source: Assignment of edges to the nodes they leave.
        rank: Place of each node in block order, ``[n_nodes]`` int64.
        edge_of_outgoing: Edge of each outgoing edge, the first of its class.
        outgoing_of_edge: Outgoing edge of each edge.
        blocks: ``(n, p, q)`` for each block in order: n nodes with p incoming and q outgoing edges.
        multiplicities: Numbers of what is represented; None without equivalent atoms.
    """

    by_destination: Segments
    by_source: Segments
    rank: Tensor
    edge_of_outgoing: Segments
    outgoing_of_edge: Segments
    blocks: Blocks
    multiplicities: Multiplicities | None = None

    @classmethod
    def sort(cls, source: np.ndarray, destination: np.ndarray, n_atoms: int) -> tuple[Connectivity, np.ndarray]:
        """Sort edges into blocks.

        Args:
            source: Source atom of each edge, ``[n_edges]``.
            destination: Destination atom of each edge, ``[n_edges]``.
            n_atoms: Number of atoms.

        Returns:
            The connectivity, and the given edges in its order, ``[n_edges]``.
        """
        rank, blocks = _block_order(np.bincount(destination, minlength=n_atoms), np.bincount(source, minlength=n_atoms))
        # stable: edges into one atom keep their order, so equal inputs give the same bits
        edge_order = stable_order(rank[destination], n_atoms)
        source, destination = source[edge_order].astype(np.int64), destination[edge_order].astype(np.int64)
        # outgoing edges are a permutation of the edges, so both maps are known without sorting again
        outgoing_order = stable_order(rank[source], n_atoms)
        inverse = np.empty_like(outgoing_order)
        inverse[outgoing_order] = places = np.arange(len(outgoing_order))
        connectivity = cls(
            by_destination=Segments.of(destination, n_atoms),
            by_source=Segments.of(source, n_atoms),
            rank=torch.from_numpy(rank),
            edge_of_outgoing=Segments(*map(torch.from_numpy, (outgoing_order, inverse, places))),
            outgoing_of_edge=Segments(*map(torch.from_numpy, (inverse, outgoing_order, places))),
            blocks=blocks,
        )
        return connectivity, edge_order

    @classmethod
    def merge(
        cls, source: np.ndarray, destination: np.ndarray, atoms: AtomClasses, edge_class: np.ndarray
    ) -> tuple[Connectivity, np.ndarray, np.ndarray]:
        """Sort the edges of the representatives into blocks.

        Args:
            source: Source atom of each edge, ``[n_edges]``.
            destination: Destination atom of each edge, ``[n_edges]``.
            atoms: Equivalence classes of the atoms.
            edge_class: Class of each edge, numbered from 0 without gaps, ``[n_edges]``.

        Returns:
            The connectivity, the given edges that are its edges, and those that are its outgoing edges.
        """
        n_nodes, n_classes = len(atoms.representatives), int(edge_class.max(initial=-1)) + 1
        # every class has an outgoing edge at a representative: find_equivalence has checked it
        incoming = np.flatnonzero(atoms.is_representative[destination])
        outgoing = _first_of_class(edge_class, np.flatnonzero(atoms.is_representative[source]), n_classes)
        in_degree = np.bincount(atoms.node[destination[incoming]], minlength=n_nodes)
        rank, blocks = _block_order(in_degree, np.bincount(atoms.node[source[outgoing]], minlength=n_nodes))
        incoming = incoming[stable_order(rank[atoms.node[destination[incoming]]], n_nodes)]
        outgoing = outgoing[stable_order(rank[atoms.node[source[outgoing]]], n_nodes)]
        node_left, node_entered = atoms.node[source[incoming]], atoms.node[destination[incoming]]
        # an edge and the outgoing edge of its class need not be the same edge: they are matched by class
        outgoing_of_class = np.empty(n_classes, dtype=np.int64)
        outgoing_of_class[edge_class[outgoing]] = np.arange(n_classes)
        edge_of_class = _first_of_class(edge_class[incoming], np.arange(len(incoming)), n_classes)
        # all edges of a class leave equivalent atoms, so their number counts what one outgoing edge represents
        class_size = np.bincount(edge_class, minlength=n_classes)[edge_class[outgoing]]
        n_equivalent = np.bincount(atoms.node, minlength=n_nodes)
        connectivity = cls(
            by_destination=Segments.of(node_entered, n_nodes),
            by_source=Segments.of(node_left, n_nodes),
            rank=torch.from_numpy(rank),
            edge_of_outgoing=Segments.of(edge_of_class[edge_class[outgoing]], len(incoming)),
            outgoing_of_edge=Segments.of(outgoing_of_class[edge_class[incoming]], n_classes),
            blocks=blocks,
            multiplicities=Multiplicities(
                Multiplicity.of(n_equivalent),
                Multiplicity.of(n_equivalent[node_entered]),
                torch.from_numpy(class_size.astype(np.float32)),
                int(class_size @ in_degree[atoms.node[source[outgoing]]]),
            ),
        )
        return connectivity, incoming, outgoing

    @property
    def source(self) -> Tensor:
        """Source node of each edge, ``[n_edges]`` int64."""
        return self.by_source.node

    @property
    def destination(self) -> Tensor:
        """Destination node of each edge, ``[n_edges]`` int64; edges with the same one are contiguous."""
        return self.by_destination.node

    @property
    def n_triplets(self) -> int:
        """Number of pairs (incoming edge, outgoing edge) at all nodes."""
        return sum(n * p * q for n, p, q in self.blocks)

    def triplets(self) -> tuple[Tensor, Tensor]:
        """List the incoming and the outgoing edge of every pair, block by block, ``[n_triplets]`` int64 each.

        With equivalent atoms, the outgoing edge is the one that represents its class.
        """
        first, second, edge, outgoing = [], [], 0, 0
        for n, p, q in self.blocks:
            # broadcast views as in the kernels, written out only at the end
            into = torch.arange(edge, edge + n * p, device=self.source.device).view(n, p, 1)
            out_of = self.edge_of_outgoing.node[outgoing : outgoing + n * q].view(n, 1, q)
            first.append(into.expand(n, p, q).reshape(-1))
            second.append(out_of.expand(n, p, q).reshape(-1))
            edge, outgoing = edge + n * p, outgoing + n * q
        return torch.cat(first), torch.cat(second)


def _block_order(in_degree: np.ndarray, out_degree: np.ndarray) -> tuple[np.ndarray, Blocks]:
    """Return ``rank`` and ``blocks`` of a :class:`Connectivity` from the degrees of its nodes, ``[n_nodes]`` each."""
    n_nodes = len(in_degree)
    nodes = np.lexsort((out_degree, in_degree))  # by in-degree first, so that nodes of one in-degree are contiguous
    rank = np.empty(n_nodes, dtype=np.int64)
    rank[nodes] = np.arange(n_nodes)
    p, q = in_degree[nodes], out_degree[nodes]
    starts = np.flatnonzero(np.r_[True, (np.diff(p) != 0) | (np.diff(q) != 0)])
    counts = np.diff(np.r_[starts, n_nodes])
    return rank, tuple(zip(counts.tolist(), p[starts].tolist(), q[starts].tolist(), strict=True))


def _first_of_class(classes: np.ndarray, members: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the first of some ascending members of each class, ``[n_classes]``."""
    first = np.empty(n_classes, dtype=np.int64)
    first[classes[members[::-1]]] = members[::-1]  # the last assignment wins: written backward, it is the first member
    return first


class BlockedGraph(Topology):
    """Crystal graph with the computed atoms as nodes, in the order of the batch, and edges in block order.

    Args:
        connectivity: Sorted edges.
        n_nodes: Number of computed atoms.
    """

    def __init__(self, connectivity: Connectivity, n_nodes: int):
        self.connectivity = connectivity
        self.n_nodes = n_nodes
        self.n_edges = len(connectivity.source)
        if connectivity.multiplicities is not None:
            self.node_multiplicity = connectivity.multiplicities.nodes
            self.edge_multiplicity = connectivity.multiplicities.edges

    def at_source(self, nodes: Tensor) -> Tensor:
        """Gather the row of each edge's source, ``[n_edges, d]``."""
        return gather(nodes, self.connectivity.by_source)

    def at_destination(self, nodes: Tensor) -> Tensor:
        """Gather the row of each edge's destination, ``[n_edges, d]``."""
        return gather(nodes, self.connectivity.by_destination)

    def add(self, source: Tensor, destination: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        """Add source, destination and projected edge rows chunk by chunk; see :meth:`Topology.add`."""
        # autocast skips products with out=, and backward passes: the inputs are converted here
        edges = to_autocast_dtype(edges)
        nodes = source.to(edges.dtype), destination.to(edges.dtype)
        return _Add.apply(*nodes, edges, weight, self._ends, self.connectivity)

    def sum(self, edges: Tensor) -> Tensor:
        """Sum over the incoming edges of each node, ``[n_nodes, d]``; zero without any."""
        return self.connectivity.by_destination.sum(edges)

    def softmax(self, scores: Tensor) -> Tensor:
        """Compute a softmax over the incoming edges of each node, ``[n_edges, d]``, along a dense axis."""
        return torch.cat([part.softmax(1).flatten(0, 1) for part in self._split(scores)])

    def gated_sum(self, gates: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sum gated values and gates, keeping gates and values alone; see :meth:`Topology.gated_sum`."""
        return _GatedSum.apply(gates, values, self.connectivity)

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sum ``weights * values`` over heads and incoming edges as one vector-matrix product for each node."""
        with torch.autocast(weights.device.type, enabled=False):  # attention in bf16 triples the embeddings' error
            sums = [
                (part.flatten(1)[:, None] @ rows.flatten(1, 2).to(part.dtype)).squeeze(1)
                for part, rows in zip(self._split(weights), self._split(values), strict=True)
            ]
        return torch.cat(sums).index_select(0, self.connectivity.rank)  # from block order to that of the batch

    def _split(self, edges: Tensor) -> list[Tensor]:
        """Return views ``[n, p, ...]`` of ``[n_edges, ...]``, one for each in-degree p."""
        parts = edges.split([n * p for n, p in self._in_degrees])
        return [part.view(n, p, *edges.shape[1:]) for part, (n, p) in zip(parts, self._in_degrees, strict=True)]

    @cached_property
    def _in_degrees(self) -> list[tuple[int, int]]:
        """``(n, p)`` in block order: n nodes with p incoming edges, whatever their out-degrees."""
        by_degree = groupby(self.connectivity.blocks, lambda block: block[1])
        return [(sum(block[0] for block in run), p) for p, run in by_degree]

    @cached_property
    def _ends(self) -> Tensor:
        """Source and destination of each edge, ``[n_edges, 2]``; destinations are numbered after all sources."""
        return torch.stack((self.connectivity.source, self.connectivity.destination + self.n_nodes), dim=1)


class _Add(torch.autograd.Function):
    """Differentiable :meth:`BlockedGraph.add`.

    For each edge e = i->j,

        out[e] = source[i] + destination[j] + weight @ edges[e].

    Shapes: source and destination ``[n_nodes, d]``, edges ``[n_edges, c]``, weight ``[d, c]``, ends ``[n_edges, 2]``.
    """

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
        nodes = torch.cat((source, destination))  # one table, so that one kernel gathers both ends and adds them
        matrix = weight.to(edges.dtype).t()
        total = empty_rows((len(edges), len(weight)), like=edges)
        for chunk in matmul_chunks(edges, in_cache=True):
            both_ends = functional.embedding_bag(ends[chunk], nodes, mode="sum")
            torch.addmm(both_ends, edges[chunk], matrix, out=total[chunk])  # reads the sums from the cache
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        edges, weight = ctx.saved_tensors
        # no bias: it has been added to the nodes
        needed = (*ctx.needs_input_grad[2:4], False)
        to_edges, to_weight, _ = linear_backward(gradient, edges, weight, needed)
        graph = ctx.connectivity
        # the gradient of a gather is a sum of listed rows, without atomic additions
        return graph.by_source.sum(gradient), graph.by_destination.sum(gradient), to_edges, to_weight, None, None


class _GatedSum(torch.autograd.Function):
    """Differentiable :meth:`BlockedGraph.gated_sum`.

    With ``s = sigmoid(gates)``, for each node j and its incoming edges e = i->j,

        weighted[j] = sum_e s[e] * values[i],    weights[j] = sum_e s[e].

    Shapes: gates ``[n_edges, d]``; values, weighted and weights ``[n_nodes, d]``.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, values: Tensor, connectivity: Connectivity) -> tuple[Tensor, Tensor]:
        ctx.connectivity = connectivity
        ctx.save_for_backward(gates, values)  # s is computed again: a sigmoid is cheaper than a tensor of all edges
        opened = torch.sigmoid(gates, out=empty_rows(gates.shape, like=gates))
        weights = connectivity.by_destination.sum(opened)
        opened *= select_rows(values, connectivity.source)  # in place, after the sum that still needs s
        return connectivity.by_destination.sum(opened), weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_weighted: Tensor, to_weights: Tensor) -> tuple[Tensor, Tensor, None]:
        gates, values = ctx.saved_tensors
        edges = ctx.connectivity
        opened = torch.sigmoid(gates, out=empty_rows(gates.shape, like=gates))
        # of values[i]: the sum of s[e] * to_weighted[j] over its outgoing edges
        change = select_rows(to_weighted, edges.destination)
        weighted = torch.mul(opened, change, out=empty_rows(gates.shape, like=gates))
        to_values = edges.by_source.sum(weighted)
        # the gradient of s, in place: to_weighted[j] * values[i] + to_weights[j]
        change *= select_rows(values, edges.source)
        change += select_rows(to_weights, edges.destination)
        return torch.ops.aten.sigmoid_backward.grad_input(change, opened, grad_input=change), to_values, None
