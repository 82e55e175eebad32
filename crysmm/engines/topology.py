"""What a layer needs to know of a graph: the operations between its nodes and its edges."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from crysmm.engines.linear import linear
from crysmm.engines.normalization import Multiplicity, normalized_silu

NO_GATE_OPEN = 1e-6  # added to the sum of weights, which may be that of none


class Topology(ABC):
    """Directed edges between numbered nodes.

    Node tensors are ``[n_nodes, d]`` and edge tensors ``[n_edges, d]``, the rows in this topology's order. Where a row
    stands for several, the multiplicities say for how many.
    """

    n_nodes: int
    n_edges: int
    node_multiplicity: Multiplicity | None = None
    edge_multiplicity: Multiplicity | None = None

    @abstractmethod
    def at_source(self, nodes: Tensor) -> Tensor:
        """``[n_edges, d]``: the row of each edge's source."""

    @abstractmethod
    def at_destination(self, nodes: Tensor) -> Tensor:
        """``[n_edges, d]``: the row of each edge's destination."""

    @abstractmethod
    def sum(self, edges: Tensor) -> Tensor:
        """``[n_nodes, d]``: the sum over the edges into each node, zero where there are none."""

    @abstractmethod
    def softmax(self, scores: Tensor) -> Tensor:
        """``[n_edges, d]``: softmax over the edges into each node."""

    def add(self, source: Tensor, destination: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        """``[n_edges, d]``: for each edge the row of its source + that of its destination + weight times its own.

        Args:
            source: ``[n_nodes, d]``.
            destination: ``[n_nodes, d]``.
            edges: ``[n_edges, c]``.
            weight: ``[d, c]``.
        """
        return self.at_source(source) + self.at_destination(destination) + linear(edges, weight)

    def gated_sum(self, gates: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the edges into each node of ``s * values[source]`` and of ``s = sigmoid(gates)``.

        Args:
            gates: ``[n_edges, d]``, before the sigmoid.
            values: ``[n_nodes, d]``.
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
        """A gate for each edge: the edges updated by it, and the mean of what the gates into a node let through.

        Args:
            source: ``[n_nodes, d]``, of each edge's source.
            destination: ``[n_nodes, d]``, of its destination.
            edges: ``[n_edges, c]``.
            weight: ``[d, c]``, of the edges.
            values: ``[n_nodes, d]``.
            norm: of the gates; ``None`` where nothing reads the updated edges.

        Returns:
            ``[n_edges, d]`` edges + SiLU(norm(gates)), with gates = source + destination + weight times edge (the edges
            as they are without a norm), and ``[n_nodes, d]`` means of the sources' values, weighted by sigmoid(gates).
        """
        gates = self.add(source, destination, edges, weight)
        updated = edges if norm is None else normalized_silu(norm, gates, edges, self.edge_multiplicity)
        weighted, weights = self.gated_sum(gates, values)
        return updated, weighted / (weights + NO_GATE_OPEN)

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """``[n_nodes, d]``: the sum over the edges into each node, and over heads, of ``weights * values``.

        Args:
            weights: ``[n_edges, heads]``.
            values: ``[n_edges, heads, d]``.
        """
        return self.sum((weights[:, :, None] * values).sum(1))


class GatherTopology(Topology):
    """Plain gathers and scattered sums over listed edges: for line graphs with pairs left out."""

    def __init__(self, source: Tensor, destination: Tensor, n_nodes: int):
        """Args: ``source`` and ``destination``, ``[n_edges]`` int64."""
        self.source = source
        self.destination = destination
        self.n_nodes = n_nodes
        self.n_edges = len(source)

    def at_source(self, nodes: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return nodes.index_select(0, self.source)

    def at_destination(self, nodes: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return nodes.index_select(0, self.destination)

    def sum(self, edges: Tensor) -> Tensor:
        """See :class:`Topology`."""
        return edges.new_zeros((self.n_nodes, *edges.shape[1:])).index_add(0, self.destination, edges)

    def softmax(self, scores: Tensor) -> Tensor:
        """See :class:`Topology`."""
        largest = scores.new_full((self.n_nodes, *scores.shape[1:]), -torch.inf)
        index = self.destination[:, None].expand_as(scores)
        largest = largest.scatter_reduce(0, index, scores.detach(), "amax")
        weights = torch.exp(scores - self.at_destination(largest))
        return weights / self.at_destination(self.sum(weights))
