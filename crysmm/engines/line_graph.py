"""Line graph of the blocked engine: all pairs of the p incoming and q outgoing edges of an atom, never listed.

The edge-gated convolution of ALIGNN (Choudhary and DeCost 2021) on the line graph computes, for each pair (i, j) of an
incoming edge i and an outgoing edge j of one atom, with x_ij the row of the pair ``[d]``:

    m_ij  = a_i + b_j + W x_ij,                              gates
    mu_j  = sum_i s_ij v_i / (sum_i s_ij + 1e-6),            means for the outgoing edges, with s_ij = sigmoid(m_ij)
    x'_ij = x_ij + silu(norm(m_ij)).                         rows of the pairs for the next layer

Triplets outnumber atoms two hundred to one, so this decides time and memory of a step. A convolution computes them in
groups of pieces, each of some atoms of one block, and the rows of a group stay in the processor's cache from the matrix
product to the sums over i. For the backward pass each layer keeps its gates m. The rows x are kept once, after the last
layer: the backward pass subtracts what each layer has added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.engines.blocked import Blocks, Connectivity
from crysmm.engines.linear import matmul_into, matmul_over_rows
from crysmm.engines.memory import empty_rows, rows_in_cache
from crysmm.engines.normalization import BatchNorm, Multiplicity, Normalizer, normalized_silu
from crysmm.engines.segments import gather
from crysmm.engines.topology import GATE_EPSILON, GatherTopology, Topology


@dataclass(frozen=True)
class Piece:
    """Some atoms of one block: ``n`` atoms with ``p`` incoming and ``q`` outgoing edges each.

    Args:
        n: Number of atoms.
        p: Incoming edges of each atom.
        q: Outgoing edges of each atom.
        incoming: Slice of their incoming edges, among all edges.
        outgoing: Slice of their outgoing edges, among all outgoing edges.
        pairs: Slice of their pairs, among all pairs.
        device: Device on which they are computed.
    """

    n: int
    p: int
    q: int
    incoming: slice
    outgoing: slice
    pairs: slice
    device: torch.device

    def at_incoming(self, edges: Tensor) -> Tensor:
        """View the rows of the incoming edges in ``[n_edges, d]`` as ``[n, p, d]``."""
        return edges[self.incoming].view(self.n, self.p, edges.shape[1])

    def at_outgoing(self, outgoing: Tensor) -> Tensor:
        """View the rows of the outgoing edges in ``[n_outgoing, d]`` as ``[n, q, d]``."""
        return outgoing[self.outgoing].view(self.n, self.q, outgoing.shape[1])

    def at_pairs(self, pairs: Tensor, start: int = 0) -> Tensor:
        """View the rows of the pairs in ``[n_pairs, d]`` as ``[n, p, q, d]``; ``start`` is the number of row 0."""
        pairs = pairs[self.pairs.start - start : self.pairs.stop - start]
        return pairs.view(self.n, self.p, self.q, pairs.shape[1])

    def sum_over_incoming(self, pairs: Tensor) -> Tensor:
        """Sum ``[n, p, q, d]`` over the incoming edges, ``[n, q, d]``."""
        index, starts = self._pairs_by_outgoing
        # embedding_bag reads the pairs in place and accumulates in fp32; in bf16 Tensor.sum takes seven times as long
        sums = functional.embedding_bag(index, pairs.flatten(0, 2), starts, mode="sum")
        return sums.view(self.n, self.q, pairs.shape[3])

    def sum_over_outgoing(self, pairs: Tensor) -> Tensor:
        """Sum ``[n, p, q, d]`` over the outgoing edges, ``[n, p, d]``."""
        index, starts = self._pairs_by_incoming
        sums = functional.embedding_bag(index, pairs.flatten(0, 2), starts, mode="sum")
        return sums.view(self.n, self.p, pairs.shape[3])

    @cached_property
    def _pairs_by_outgoing(self) -> tuple[Tensor, Tensor]:
        """Pairs sorted by outgoing edge, ``[n * p * q]``, and the start of each edge's pairs, ``[n * q]``."""
        pairs = torch.arange(self.n * self.p * self.q, device=self.device).view(self.n, self.p, self.q)
        return pairs.transpose(1, 2).flatten(), torch.arange(self.n * self.q, device=self.device) * self.p

    @cached_property
    def _pairs_by_incoming(self) -> tuple[Tensor, Tensor]:
        """Pairs sorted by incoming edge, ``[n * p * q]``, and the start of each edge's pairs, ``[n * p]``."""
        pairs = torch.arange(self.n * self.p * self.q, device=self.device)  # the order in which they are stored
        return pairs, torch.arange(self.n * self.p, device=self.device) * self.q


def cut_blocks(blocks: Blocks, rows: float, device: torch.device) -> list[list[Piece]]:
    """Cut blocks into groups of pieces with at most ``rows`` pairs in all, or with one atom that has more.

    A group may take the end of one block and the beginning of the next: its pieces share one matrix product, whose
    shapes are then few, however the atoms are distributed over blocks.
    """
    groups: list[list[Piece]] = [[]]
    room, edge, outgoing, pair = rows, 0, 0, 0  # pairs that still fit into the group, and the next free numbers
    for count, p, q in blocks:
        left = count
        while left:
            if p * q > room and room < rows:  # not even one more atom fits, and the group is not empty
                groups.append([])
                room = rows
            n = int(min(left, max(1, room / max(1, p * q))))  # an atom without pairs takes no room
            ends = edge + n * p, outgoing + n * q, pair + n * p * q
            slices = (slice(edge, ends[0]), slice(outgoing, ends[1]), slice(pair, ends[2]))
            groups[-1].append(Piece(n, p, q, *slices, device))
            edge, outgoing, pair = ends
            room, left = room - n * p * q, left - n
    return groups


def pairs_of(group: list[Piece]) -> slice:
    """Return the slice of the pairs of successive pieces."""
    return slice(group[0].pairs.start, group[-1].pairs.stop) if group else slice(0, 0)


class BlockedLineGraph(Topology):
    """Complete line graph: its nodes are the edges of the crystal graph, its edges all pairs of successive ones.

    The pair (e, e) of a bond to the atom's own image is one of them; without it a cell and its supercell would differ.

    Args:
        connectivity: Sorted edges of the crystal graph.
    """

    def __init__(self, connectivity: Connectivity):
        self.connectivity = connectivity
        self.n_nodes = len(connectivity.source)
        self.n_edges = connectivity.n_triplets
        if connectivity.multiplicities is not None:
            self.node_multiplicity = connectivity.multiplicities.edges
        self._residuals: Residuals | None = None

    @cached_property
    def blocks(self) -> list[Piece]:
        """One piece for each block."""
        (blocks,) = cut_blocks(self.connectivity.blocks, math.inf, self.connectivity.rank.device)
        return blocks

    @cached_property
    def groups(self) -> list[list[Piece]]:
        """Pieces that are computed together, so that their rows stay in the cache."""
        rank = self.connectivity.rank
        return cut_blocks(self.connectivity.blocks, rows_in_cache(rank), rank.device)

    @cached_property
    def edge_multiplicity(self) -> Multiplicity | None:  # type: ignore[override]
        """Number of pairs that each pair represents; computed where a norm needs it, as it has a row for every pair."""
        multiplicities = self.connectivity.multiplicities
        if multiplicities is None:
            return None
        counts = self.from_outgoing(multiplicities.outgoing[:, None]).flatten()
        return Multiplicity(counts, multiplicities.n_triplets)

    def at_source(self, nodes: Tensor) -> Tensor:
        """Gather the row of each pair's incoming edge, ``[n_edges, d]``."""
        # by whole blocks, so that few parts are concatenated
        parts = [block.at_incoming(nodes)[:, :, None].expand(-1, -1, block.q, -1) for block in self.blocks]
        return torch.cat([part.flatten(0, 2) for part in parts])

    def at_destination(self, nodes: Tensor) -> Tensor:
        """Gather the row of each pair's outgoing edge, ``[n_edges, d]``."""
        return self.from_outgoing(gather(nodes, self.connectivity.edge_of_outgoing))

    def from_outgoing(self, outgoing: Tensor) -> Tensor:
        """Gather the row of each pair's outgoing edge from rows of outgoing edges, ``[n_outgoing, d]``."""
        parts = [block.at_outgoing(outgoing)[:, None].expand(-1, block.p, -1, -1) for block in self.blocks]
        return torch.cat([part.flatten(0, 2) for part in parts])

    def sum(self, edges: Tensor) -> Tensor:
        """Sum over the pairs of each outgoing edge, ``[n_nodes, d]``."""
        # sums are in the order of the outgoing edges; nodes are in that of the edges
        sums = torch.cat([block.at_pairs(edges).sum(1).flatten(0, 1) for block in self.blocks])
        return gather(sums, self.connectivity.outgoing_of_edge)

    def softmax(self, scores: Tensor) -> Tensor:
        """Compute a softmax over the pairs of each outgoing edge, ``[n_edges, d]``."""
        return torch.cat([block.at_pairs(scores).softmax(1).flatten(0, 2) for block in self.blocks])

    def gate(
        self,
        source: Tensor,
        destination: Tensor,
        edges: Tensor,
        weight: Tensor,
        values: Tensor,
        norm: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update pairs by gates and average values through them, group by group; see :meth:`Topology.gate`."""
        edges = edges.to(source.dtype)  # under autocast the linear layers before have made source bf16
        residuals = None
        if torch.is_grad_enabled():
            # the first layer starts new residuals; the next ones get the rows that the one before has returned
            if self._residuals is None or not self._residuals.end_with(edges):
                self._residuals = Residuals(edges.detach())
            residuals = self._residuals
        # outgoing edges in block order, so that those of an atom are a dense axis
        inputs = source, gather(destination, self.connectivity.edge_of_outgoing), edges, weight, values
        if isinstance(norm, BatchNorm):
            updated, means = _Gate.apply(
                *inputs, norm.weight, norm.bias, norm, self.edge_multiplicity, residuals, self.groups
            )
            if residuals is not None:
                residuals.rows = updated.detach()  # shares memory, without a reference to the graph of autograd
        else:
            # other norms need no statistics of the batch: autograd goes through the gates
            gates, means = _Gate.apply(*inputs, None, None, None, None, residuals, self.groups)
            updated = edges if norm is None else normalized_silu(norm, gates, edges)
        return updated, gather(means, self.connectivity.outgoing_of_edge)


class Residuals:
    """Rows to which layer after layer adds ``silu(norm(gates))``, kept once instead of once for each layer.

    The backward pass visits the layers in reverse order and subtracts what each has added, so that every layer finds
    the rows it has read, to rounding. That costs 1% of a step and saves a quarter of its memory.

    Args:
        rows: Rows before the first layer, ``[n, d]``. Each layer replaces them by its own result, which the backward
            pass changes in place.
    """

    def __init__(self, rows: Tensor):
        self.rows = rows
        self.added: list[tuple[Tensor, Normalizer]] = []  # gates and normalizer of each layer

    def end_with(self, rows: Tensor) -> bool:
        """Return whether these rows are the result of the last layer."""
        # the same memory: autograd may hand on another Python object
        return self.rows.data_ptr() == rows.data_ptr() and self.rows.shape == rows.shape

    def after(self, n_layers: int) -> Tensor:
        """Return the rows after the first ``n_layers`` layers, computed in place of the last ones."""
        while len(self.added) > n_layers:
            gates, normalizer = self.added.pop()
            normalizer.subtract_activated(gates, self.rows)
        return self.rows


class _Gate(torch.autograd.Function):
    """Differentiable gates of the pairs (equations at the top of this file).

    Shapes: source a and values v ``[n_edges, d]``; destination b, and the returned means, ``[n_outgoing, d]``; edges x
    and gates m ``[n_pairs, d]``; weight W ``[d, d]``. Without a norm the first result is the gates instead of the
    updated pairs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        destination: Tensor,
        edges: Tensor,
        weight: Tensor,
        values: Tensor,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        norm: BatchNorm | None,
        multiplicity: Multiplicity | None,
        residuals: Residuals | None,
        groups: list[list[Piece]],
    ) -> tuple[Tensor, Tensor]:
        matrix = weight.to(edges.dtype).t()
        gates = empty_rows((len(edges), values.shape[1]), like=values)
        means, weights = (empty_rows(destination.shape, like=values) for _ in range(2))
        for group in groups:
            pairs = pairs_of(group)
            matmul_into(gates[pairs], edges[pairs], matrix)  # one product for the group: few large shapes
            for piece in group:
                # m, in place while the product is in the cache; sums and gates broadcast over p or q
                gate = piece.at_pairs(gates)
                gate += piece.at_incoming(source)[:, :, None]
                gate += piece.at_outgoing(destination)[:, None]
                # s and s * v exist for one piece at a time
                opened = torch.sigmoid(gate)
                mean, weight_sum = piece.at_outgoing(means), piece.at_outgoing(weights)
                torch.add(piece.sum_over_incoming(opened), GATE_EPSILON, out=weight_sum)
                opened *= piece.at_incoming(values)[:, :, None]
                torch.div(piece.sum_over_incoming(opened), weight_sum, out=mean)
        ctx.save_for_backward(gates, weight, values, means, weights)
        ctx.set_materialize_grads(False)  # zeros for an unused result would be as large as all pairs
        ctx.normalizer = None if norm is None else Normalizer.of(norm, gates, multiplicity)
        if residuals is not None:
            ctx.groups, ctx.residuals, ctx.layer = groups, residuals, len(residuals.added)
        if ctx.normalizer is None:
            return gates, means
        if residuals is not None:
            residuals.added.append((gates, ctx.normalizer))
        # after all groups, as the statistics of the norm are those of all gates
        return ctx.normalizer.add_activated(gates, edges), means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        gates, weight, values, means, weights = ctx.saved_tensors
        to_first, to_means = gradients  # the first result: the updated pairs, or the gates without a norm
        residuals, ctx.residuals = ctx.residuals, None
        if residuals is None:  # the rows have been changed in place, so a second backward pass would be wrong
            raise RuntimeError("a line graph goes backward once; for another backward pass call the network again")
        to_gates, to_residual, to_norm = to_first, None, (None, None)
        if to_first is not None and ctx.normalizer is not None:
            updated = residuals.after(ctx.layer + 1)
            residuals.added.pop()  # this layer: its part is subtracted below
            # the norm's backward pass computes silu(norm(m)) anyway, and takes it from the updated pairs on the way
            to_gates, *to_norm = ctx.normalizer.backward(gates, to_first, added_to=updated)
            to_residual = to_first
        edges = residuals.after(ctx.layer)  # x, whether or not a gradient has reached the layer's result
        to_means = torch.zeros_like(means) if to_means is None else to_means
        # a group's rows of to_gates have been read when those of to_edges are written, so both can share memory
        to_edges = empty_rows(edges.shape, like=edges) if to_gates is None or to_residual is None else to_gates
        matrix = weight.to(edges.dtype)
        to_source, to_values = (empty_rows(values.shape, like=values) for _ in range(2))
        to_destination = empty_rows(means.shape, like=means)
        to_weight = torch.zeros_like(weight)  # in the precision of the parameter, fp32 under autocast
        for group in ctx.groups:
            pairs = pairs_of(group)
            changes = gates.new_empty(gates[pairs].shape)  # the gradient of m, for the pairs of this group
            for piece in group:
                opened = torch.sigmoid(piece.at_pairs(gates))  # again: cheaper than keeping s of all pairs
                to_sum = piece.at_outgoing(to_means) / piece.at_outgoing(weights)  # of sum_i s_ij v_i
                change = piece.at_pairs(changes, pairs.start)
                # of v_i: sum_j s_ij to_sum_j
                torch.mul(opened, to_sum[:, None], out=change)
                piece.at_incoming(to_values).copy_(piece.sum_over_outgoing(change))
                # of s_ij, through numerator and denominator of the mean: (v_i - mu_j) to_sum_j
                torch.sub(piece.at_incoming(values)[:, :, None], piece.at_outgoing(means)[:, None], out=change)
                change *= to_sum[:, None]
                # of m_ij: through the sigmoid, plus that of the updated pairs
                torch.ops.aten.sigmoid_backward.grad_input(change, opened, grad_input=change)
                if to_gates is not None:
                    change += piece.at_pairs(to_gates)
                piece.at_incoming(to_source).copy_(piece.sum_over_outgoing(change))
                piece.at_outgoing(to_destination).copy_(piece.sum_over_incoming(change))
            to_weight += matmul_over_rows(changes, edges[pairs])
            # of x_ij: through W, plus the gradient that skips the layer
            matmul_into(to_edges[pairs], changes, matrix, None if to_residual is None else to_residual[pairs])
        return to_source, to_destination, to_edges, to_weight, to_values, *to_norm, None, None, None, None


def incomplete_line_graph(
    connectivity: Connectivity, *, as_jarvis: bool, short: Tensor | None = None
) -> GatherTopology:
    """Make a line graph with pairs left out, as a list of the others.

    Args:
        connectivity: Sorted edges of the crystal graph.
        as_jarvis: Leave out the pairs (e, e) of bonds to an atom's own image, as DGL does.
        short: True for bonds that may be in a pair, ``[n_edges]``; None for all bonds.
    """
    first, second = connectivity.triplets()  # without equivalent atoms an outgoing edge is an edge, so (e, e) is found
    kept = first != second if as_jarvis else torch.ones_like(first, dtype=torch.bool)
    if short is not None:
        kept = kept & short[first] & short[second]
    return GatherTopology(first[kept], second[kept], len(connectivity.source))
