"""The dgl engine: DGL's own kernels, the reference for the blocked engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from crysmm.engines.topology import Topology
from crysmm.graphs.dgl import import_dgl

if TYPE_CHECKING:
    import dgl


class DGLTopology(Topology):
    """Nodes and edges of a ``dgl.DGLGraph``, in its order.

    Args:
        graph: Homogeneous graph; its features are not used.
    """

    def __init__(self, graph: dgl.DGLGraph):
        self.operations = import_dgl().ops  # differentiable sparse kernels
        self.graph = graph
        self.n_nodes = graph.num_nodes()
        self.n_edges = graph.num_edges()

    @classmethod
    def from_edges(cls, source: Tensor, destination: Tensor, n_nodes: int) -> DGLTopology:
        """Make the topology of listed edges, ``[n_edges]`` int64 each."""
        return cls(import_dgl().graph((source, destination), num_nodes=n_nodes))

    def at_source(self, nodes: Tensor) -> Tensor:
        """Gather the row of each edge's source, ``[n_edges, d]``."""
        return self.operations.copy_u(self.graph, nodes)

    def at_destination(self, nodes: Tensor) -> Tensor:
        """Gather the row of each edge's destination, ``[n_edges, d]``."""
        return self.operations.copy_v(self.graph, nodes)

    def sum(self, edges: Tensor) -> Tensor:
        """Sum over the incoming edges of each node, ``[n_nodes, d]``."""
        return self.operations.copy_e_sum(self.graph, edges)

    def softmax(self, scores: Tensor) -> Tensor:
        """Compute a softmax over the incoming edges of each node, ``[n_edges, d]``."""
        return self.operations.edge_softmax(self.graph, scores)

    def add(self, source: Tensor, destination: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        """Add source, destination and projected edge rows; see :meth:`Topology.add`."""
        # a plain linear layer: the reference shares as little code as possible with the blocked engine
        return self.operations.u_add_v(self.graph, source, destination) + functional.linear(edges, weight)

    def gated_sum(self, gates: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sum gated values and gates, the former in one pass; see :meth:`Topology.gated_sum`."""
        weights = torch.sigmoid(gates)
        return (
            self.operations.u_mul_e_sum(self.graph, values, weights),
            self.operations.copy_e_sum(self.graph, weights),
        )
