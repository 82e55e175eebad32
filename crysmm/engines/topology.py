"""Graph operations of a layer: the interface between its nodes and edges that every engine implements."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from crysmm.engines.linear import linear
from crysmm.engines.normalization import Multiplicity, normalized_silu

GATE_EPSILON = 1e-6  # added to a sum of gates, which is 0 for a node without incoming edges


class Topology(ABC):
    """Directed edges between numbered nodes.

    Node tensors are ``[n_nodes, d]`` and edge tensors ``[n_edges, d]``, with rows in the order of the topology. Where a
    row represents several equivalent ones, the multiplicities count them.
    """

    n_nodes: int
    n_edges: int
    node_multiplicity: Multiplicity | None = None
    edge_multiplicity: Multiplicity | None = None

    @abstractmethod
    def at_source(self, nodes: Tensor) -> Tensor:
        """Gather the row of each edge's source, ``[n_edges, d]``."""

    @abstractmethod
    def at_destination(self, nodes: Tensor) -> Tensor:
        """Gather the row of each edge's destination, ``[n_edges, d]``."""

    @abstractmethod
    def sum(self, edges: Tensor) -> Tensor:
        """Sum over the incoming edges of each node, ``[n_nodes, d]``; zero without any."""

    @abstractmethod
    def softmax(self, scores: Tensor) -> Tensor:
        """Compute a softmax over the incoming edges of each node, ``[n_edges, d]``."""

    def add(self, source: Tensor, destination: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        """Compute ``source[i] + destination[j] + weight @ edges[e]`` for each edge e = i->j, ``[n_edges, d]``.

        Args:
            source: Node rows for the source of each edge, ``[n_nodes, d]``.
            destination: Node rows for the destination of each edge, ``[n_nodes, d]``.
            edges: Edge rows, ``[n_edges, c]``.
            weight: Weight of the edges, ``[d, c]``.
        """
        # linear in each part, so nodes are multiplied before they are gathered: edges outnumber them
        return self.at_source(source) + self.at_destination(destination) + linear(edges, weight)

    def gated_sum(self, gates: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sum ``s * values[source]`` and ``s = sigmoid(gates)`` over the incoming edges of each node.

        Args:
            gates: Gates before the sigmoid, ``[n_edges, d]``.
            values: Node rows, ``[n_nodes, d]``.
        """
        weights = torch.sigmoid(gates)
        return self.sum(weights * self.at_source(values)), self.sum(weights)

    def gate(
        self,
        source: Tensor,
        destination: Tensor,
        edges: Tensor,
        weight: Tensor,
        values: Tensor,
        norm: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update edges by gates, and average node values through them.

        For each edge e = i->j, with the gate ``m_e = source[i] + destination[j] + weight @ edges[e]``:

            edges'[e] = edges[e] + silu(norm(m_e))
            means[j]  = sum_e sigmoid(m_e) * values[i] / (sum_e sigmoid(m_e) + 1e-6),    over edges e into j

        Args:
            source: Node rows for the source of each edge, ``[n_nodes, d]``.
            destination: Node rows for the destination of each edge, ``[n_nodes, d]``.
            edges: Edge rows, ``[n_edges, c]``.
            weight: Weight of the edges, ``[d, c]``.
            values: Node rows that are averaged, ``[n_nodes, d]``.
            norm: Normalization of the gates; None where nothing reads the updated edges, which are then ``edges``.

        Returns:
            The updated edges, ``[n_edges, d]``, and the means, ``[n_nodes, d]``.
        """
        gates = self.add(source, destination, edges, weight)
        updated = edges if norm is None else normalized_silu(norm, gates, edges, self.edge_multiplicity)
        weighted, weights = self.gated_sum(gates, values)
        return updated, weighted / (weights + GATE_EPSILON)

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sum ``weights * values`` over heads and the incoming edges of each node, ``[n_nodes, d]``.

        Args:
            weights: Weight of each head, ``[n_edges, heads]``.
            values: Edge rows of each head, ``[n_edges, heads, d]``.
        """
        # heads are summed first: the sum over edges then has fewer columns
        return self.sum((weights[:, :, None] * values).sum(1))


class GatherTopology(Topology):
    """Listed edges with gathers and scattered sums, for line graphs with pairs left out.

    Args:
        source: Source of each edge, ``[n_edges]`` int64.
        destination: Destination of each edge, ``[n_edges]`` int64.
        n_nodes: Number of nodes.
    """

    def __init__(self, source: Tensor, destination: Tensor, n_nodes: int):
        self.source = source
        self.destination = destination
        self.n_nodes = n_nodes
        self.n_edges = len(source)

    def at_source(self, nodes: Tensor) -> Tensor:
        """Gather the row of each edge's source, ``[n_edges, d]``."""
        return nodes.index_select(0, self.source)

    def at_destination(self, nodes: Tensor) -> Tensor:
        """Gather the row of each edge's destination, ``[n_edges, d]``."""
        return nodes.index_select(0, self.destination)

    def sum(self, edges: Tensor) -> Tensor:
        """Sum over the incoming edges of each node by scattering, ``[n_nodes, d]``."""
        # on a GPU index_add is atomic, so the last bits differ between runs
        return edges.new_zeros((self.n_nodes, *edges.shape[1:])).index_add(0, self.destination, edges)

    def softmax(self, scores: Tensor) -> Tensor:
        """Compute a softmax over the incoming edges of each node, ``[n_edges, d]``."""
        # subtracting each node's largest score keeps the exponentials finite; it cancels, so it needs no gradient
        largest = scores.new_full((self.n_nodes, *scores.shape[1:]), -torch.inf)
        index = self.destination[:, None].expand_as(scores)
        largest = largest.scatter_reduce(0, index, scores.detach(), "amax")
        weights = torch.exp(scores - self.at_destination(largest))
        return weights / self.at_destination(self.sum(weights))
