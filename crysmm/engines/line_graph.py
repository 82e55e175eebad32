"""The line graph of the blocked engine: at an atom with p bonds in and q out all p x q pairs, never listed.

Triplets outnumber atoms two hundred to one. So a convolution computes them in groups of pieces, each some atoms of one
block, and a group's rows stay in the processor's cache from the matrix product to the sums over neighbours. For the
backward pass it keeps the gates. The rows of the triplets, to which layer after layer adds, are kept once, after the
last layer: the backward pass subtracts what each has added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.engines.blocked import Connectivity
from crysmm.engines.linear import multiply, product_over_rows
from crysmm.engines.memory import empty_rows, rows_at_a_time
from crysmm.engines.normalization import BatchNorm, Multiplicity, Normalizer, normalized_silu
from crysmm.engines.segments import gather
from crysmm.engines.topology import NO_GATE_OPEN, GatherTopology, Topology


@dataclass(frozen=True)
class Piece:
    """Some atoms of one block: ``n`` with ``p`` edges in and ``q`` out.

    Args:
        n: number of atoms.
        p: edges into each.
        q: edges out of each.
        entering: where those into them are.
        leaving: where those out of them are, among all edges out.
        pairs: where the pairs of both are.
        device: where they are summed.
    """

    n: int
    p: int
    q: int
    entering: slice
    leaving: slice
    pairs: slice
    device: torch.device

    def of_entering(self, nodes: Tensor) -> Tensor:
        """``[n, p, d]`` view of ``[n_nodes, d]``."""
        return nodes[self.entering].view(self.n, self.p, nodes.shape[1])

    def of_leaving(self, leaving: Tensor) -> Tensor:
        """``[n, q, d]`` view of ``[n_leaving, d]``."""
        return leaving[self.leaving].view(self.n, self.q, leaving.shape[1])

    def of_pairs(self, edges: Tensor, start: int = 0) -> Tensor:
        """``[n, p, q, d]`` view of ``[n_edges, d]``, or of what begins with a later edge."""
        edges = edges[self.pairs.start - start : self.pairs.stop - start]
        return edges.view(self.n, self.p, self.q, edges.shape[1])

    def sum_over_entering(self, pairs: Tensor) -> Tensor:
        """``[n, q, d]`` sums of ``[n, p, q, d]``."""
        return _sums(pairs, *self._of_leaving).view(self.n, self.q, pairs.shape[3])

    def sum_over_leaving(self, pairs: Tensor) -> Tensor:
        """``[n, p, d]`` sums of ``[n, p, q, d]``."""
        return _sums(pairs, *self._of_entering).view(self.n, self.p, pairs.shape[3])

    @cached_property
    def _of_entering(self) -> tuple[Tensor, Tensor]:
        """``[n * p * q]``, the pairs of the first edge in, those of the second, and where those of each start."""
        return self._numbers(self.n * self.p * self.q), self._numbers(self.n * self.p) * self.q

    @cached_property
    def _of_leaving(self) -> tuple[Tensor, Tensor]:
        """The same of each edge out."""
        pairs = self._numbers(self.n * self.p * self.q).view(self.n, self.p, self.q)
        return pairs.transpose(1, 2).flatten(), self._numbers(self.n * self.q) * self.p

    def _numbers(self, count: int) -> Tensor:
        return torch.arange(count, device=self.device)


def _sums(pairs: Tensor, index: Tensor, starts: Tensor) -> Tensor:
    return functional.embedding_bag(index, pairs.flatten(0, 2), starts, mode="sum")


def cut(blocks: tuple[tuple[int, int, int], ...], rows: float, device: torch.device) -> list[list[Piece]]:
    """Blocks of ``(n, p, q)`` in pieces, those together that have at most so many pairs; or an atom that has more."""
    groups: list[list[Piece]] = [[]]
    room, edge_in, edge_out, pair = rows, 0, 0, 0
    for count, p, q in blocks:
        left = count
        while left:
            if p * q > room and room < rows:
                groups.append([])
                room = rows
            n = int(min(left, max(1, room / max(1, p * q))))
            ends = edge_in + n * p, edge_out + n * q, pair + n * p * q
            places = (slice(edge_in, ends[0]), slice(edge_out, ends[1]), slice(pair, ends[2]))
            groups[-1].append(Piece(n, p, q, *places, device))
            edge_in, edge_out, pair = ends
            room, left = room - n * p * q, left - n
    return groups


def pairs_of(group: list[Piece]) -> slice:
    """Where the pairs of successive pieces are."""
    return slice(group[0].pairs.start, group[-1].pairs.stop) if group else slice(0, 0)


class BlockedLineGraph(Topology):
    """A complete line graph: nodes are the edges of the crystal graph, edges all pairs (edge in, edge out).

    The pair (e, e) of a bond to the atom's own image is one of them: only so do a cell and its supercell agree.
    """

    def __init__(self, connectivity: Connectivity):
        """Args: the sorted edges of the crystal graph."""
        self.connectivity = connectivity
        self.n_nodes = len(connectivity.source)
        self.n_edges = connectivity.n_triplets
        if connectivity.multiplicities is not None:
            self.node_multiplicity = connectivity.multiplicities.edges
        self._residuals: Residuals | None = None

    @cached_property
    def blocks(self) -> list[Piece]:
        """Whole blocks."""
        (blocks,) = cut(self.connectivity.blocks, math.inf, self.connectivity.rank.device)
        return blocks

    @cached_property
    def groups(self) -> list[list[Piece]]:
        """What is computed at a time."""
        rank = self.connectivity.rank
        return cut(self.connectivity.blocks, rows_at_a_time(rank), rank.device)

    def at_source(self, nodes: Tensor) -> Tensor:
        """See :class:`Topology`."""
        parts = [block.of_entering(nodes)[:, :, None].expand(-1, -1, block.q, -1) for block in self.blocks]
        return torch.cat([part.flatten(0, 2) for part in parts])

    @cached_property
    def edge_multiplicity(self) -> Multiplicity | None:  # type: ignore[override]
        """See :class:`Topology`."""
        multiplicities = self.connectivity.multiplicities
        if multiplicities is None:
            return None
        numbers = self.of_leaving(multiplicities.leaving[:, None]).flatten()
        return Multiplicity(numbers, multiplicities.n_triplets)

    def at_destination(self, nodes: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return self.of_leaving(self._sort(nodes))

    def of_leaving(self, leaving: Tensor) -> Tensor:
        """``[n_edges, d]``: the row of each pair's edge out, from those of all edges out, ``[n_leaving, d]``."""
        parts = [block.of_leaving(leaving)[:, None].expand(-1, block.p, -1, -1) for block in self.blocks]
        return torch.cat([part.flatten(0, 2) for part in parts])

    def sum(self, edges: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return self._restore(torch.cat([block.of_pairs(edges).sum(1).flatten(0, 1) for block in self.blocks]))

    def softmax(self, scores: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return torch.cat([block.of_pairs(scores).softmax(1).flatten(0, 2) for block in self.blocks])

    def gate(
        self,
        source: Tensor,
        destination: Tensor,
        edges: Tensor,
        weight: Tensor,
        values: Tensor,
        norm: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Topology`; piece by piece."""
        edges = edges.to(source.dtype)
        residuals = self._residuals_of(edges)
        inputs = source, self._sort(destination), edges, weight, values
        if isinstance(norm, BatchNorm):
            updated, means = _Gate.apply(
                *inputs, norm.weight, norm.bias, norm, self.edge_multiplicity, residuals, self.groups
            )
            if residuals is not None:
                residuals.rows = updated.detach()
        else:
            gates, means = _Gate.apply(*inputs, None, None, None, None, residuals, self.groups)
            updated = edges if norm is None else normalized_silu(norm, gates, edges)
        return updated, self._restore(means)

    def _residuals_of(self, edges: Tensor) -> Residuals | None:
        """Those that end with these edges; none where nothing goes backward."""
        if not torch.is_grad_enabled():
            return None
        if self._residuals is None or not self._residuals.end_with(edges):
            self._residuals = Residuals(edges.detach())
        return self._residuals

    def _sort(self, nodes: Tensor) -> Tensor:
        return gather(nodes, self.connectivity.leaving)

    def _restore(self, leaving: Tensor) -> Tensor:
        return gather(leaving, self.connectivity.returning)


class Residuals:
    """Rows to which layer after layer adds ``silu(norm(gates))``: the last are kept, and lead back to those before.

    Args:
        rows: ``[n, d]``, before any layer; each layer puts its own here, which its backward pass changes.
    """

    def __init__(self, rows: Tensor):
        self.rows = rows
        self.added: list[tuple[Tensor, Normalizer]] = []

    def end_with(self, rows: Tensor) -> bool:
        """Whether these are the last ones."""
        return self.rows.data_ptr() == rows.data_ptr() and self.rows.shape == rows.shape

    def after(self, count: int) -> Tensor:
        """The rows after so many layers, in the place of the last ones."""
        while len(self.added) > count:
            gates, normalizer = self.added.pop()
            normalizer.subtract_activated(gates, self.rows)
        return self.rows


class _Gate(torch.autograd.Function):
    """:meth:`Topology.gate` with ``destination`` and the means of the edges out; without a norm, the gates first."""

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
            multiply(edges[pairs], matrix, gates[pairs])
            for piece in group:
                gate = piece.of_pairs(gates)
                gate += piece.of_entering(source)[:, :, None]
                gate += piece.of_leaving(destination)[:, None]
                opened = torch.sigmoid(gate)
                mean, weight_sum = piece.of_leaving(means), piece.of_leaving(weights)
                torch.add(piece.sum_over_entering(opened), NO_GATE_OPEN, out=weight_sum)
                opened *= piece.of_entering(values)[:, :, None]
                torch.div(piece.sum_over_entering(opened), weight_sum, out=mean)
        ctx.save_for_backward(gates, weight, values, means, weights)
        ctx.set_materialize_grads(False)
        ctx.normalizer = None if norm is None else Normalizer.of(norm, gates, multiplicity)
        if residuals is not None:
            ctx.groups, ctx.residuals, ctx.layer = groups, residuals, len(residuals.added)
        if ctx.normalizer is None:
            return gates, means
        if residuals is not None:
            residuals.added.append((gates, ctx.normalizer))
        return ctx.normalizer.add_activated(gates, edges), means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        gates, weight, values, means, weights = ctx.saved_tensors
        of_rows, of_means = gradients  # the first of the updated edges, or of the gates
        residuals, ctx.residuals = ctx.residuals, None
        if residuals is None:
            raise RuntimeError("a line graph goes backward once; for another backward pass call the network again")
        of_gates, of_residual, of_norm = of_rows, None, (None, None)
        if of_rows is not None and ctx.normalizer is not None:
            updated = residuals.after(ctx.layer + 1)
            residuals.added.pop()
            of_gates, *of_norm = ctx.normalizer.backward(gates, of_rows, added_to=updated)
            of_residual = of_rows
        edges = residuals.after(ctx.layer)
        of_means = torch.zeros_like(means) if of_means is None else of_means
        # those of a group have been read when that of the edges is written
        to_edges = empty_rows(edges.shape, like=edges) if of_gates is None or of_residual is None else of_gates
        matrix = weight.to(edges.dtype)
        to_source, to_values = (empty_rows(values.shape, like=values) for _ in range(2))
        to_destination = empty_rows(means.shape, like=means)
        to_weight = torch.zeros_like(weight)
        for group in ctx.groups:
            pairs = pairs_of(group)
            changes = gates.new_empty(gates[pairs].shape)
            for piece in group:
                opened = torch.sigmoid(piece.of_pairs(gates))
                of_sum = piece.of_leaving(of_means) / piece.of_leaving(weights)
                change = piece.of_pairs(changes, pairs.start)
                torch.mul(opened, of_sum[:, None], out=change)
                piece.of_entering(to_values).copy_(piece.sum_over_leaving(change))
                # the sigmoid's: its own value less the mean, times the gradient of the sum
                torch.sub(piece.of_entering(values)[:, :, None], piece.of_leaving(means)[:, None], out=change)
                change *= of_sum[:, None]
                torch.ops.aten.sigmoid_backward.grad_input(change, opened, grad_input=change)
                if of_gates is not None:
                    change += piece.of_pairs(of_gates)
                piece.of_entering(to_source).copy_(piece.sum_over_leaving(change))
                piece.of_leaving(to_destination).copy_(piece.sum_over_entering(change))
            to_weight += product_over_rows(changes, edges[pairs])
            multiply(changes, matrix, to_edges[pairs], None if of_residual is None else of_residual[pairs])
        return to_source, to_destination, to_edges, to_weight, to_values, *of_norm, None, None, None, None


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
