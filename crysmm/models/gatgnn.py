"""GATGNN: Louis et al., Graph convolutional neural networks with global attention, PCCP 22, 18141 (2020).

Augmented graph attention (equations 5 to 8): with x_i = softplus(W [v_i, e_ij]) and x_j = softplus(W [v_j, e_ij]),

    s_ij = softplus(BN(softplus(a . [x_i, x_j]))),  alpha = softmax of s over the bonds of atom i,
    v_i' = softplus(BN(mean over heads of sum_j alpha_ij x_j + b))

Global attention by composition: each atom is weighted by a softmax over its crystal of a two-layer network on
[v_i, element fractions of the crystal], and the weighted atoms are summed. As in CGCNN here, W [v, e] is computed
atoms before bonds, and missing neighbours are left out instead of padded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import GATGNNConfig
from crysmm.engines.linear import Linear, linear, precise
from crysmm.engines.normalization import BatchNorm, normalized
from crysmm.engines.topology import Topology
from crysmm.errors import InputError
from crysmm.models.backbone import Backbone, Engine, GraphInput, hidden_layers
from crysmm.models.layers import GaussianExpansion, crystal_mean, crystal_softmax, crystal_sum, spread

N_ELEMENTS = 103


class AugmentedGraphAttention(nn.Module):
    """One attention layer: ``heads`` heads of width ``features``, averaged."""

    def __init__(self, features: int, heads: int):
        super().__init__()
        self.features, self.heads = features, heads
        self.weight = nn.Parameter(torch.empty(heads * features, 2 * features))
        self.attention = nn.Parameter(torch.empty(heads, 2 * features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.bn_scores = BatchNorm(heads)
        self.bn_nodes = BatchNorm(features)
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.attention)

    def forward(self, graph: Topology, nodes: Tensor, edges: Tensor) -> Tensor:
        """``[n_nodes, features]`` to the same, with ``edges [n_edges, features]``."""
        from_node, from_edge = self.weight.chunk(2, dim=1)
        projected, bonds = linear(nodes, from_node), linear(edges, from_edge)
        center = functional.softplus(graph.at_destination(projected) + bonds)
        neighbor = functional.softplus(graph.at_source(projected) + bonds)
        of_center, of_neighbor = self.attention.chunk(2, dim=1)
        scores = functional.softplus(by_head(center, of_center) + by_head(neighbor, of_neighbor))
        weights = graph.softmax(functional.softplus(normalized(self.bn_scores, scores, graph.edge_multiplicity)))
        messages = graph.weighted_sum(weights, neighbor.unflatten(1, (self.heads, -1))) / self.heads
        return functional.softplus(normalized(self.bn_nodes, messages + self.bias, graph.node_multiplicity))


def by_head(rows: Tensor, vectors: Tensor) -> Tensor:
    """``[n, heads]`` products, in fp32 or better, of each head's part of ``[n, heads * features]`` with its own vector.

    As one matrix product, most of whose factors are 0: faster than products that are kept to be summed.

    Args:
        rows: ``[n, heads * features]``.
        vectors: ``[heads, features]``.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return functional.linear(precise(rows), torch.block_diag(*vectors))


class CompositionAttention(nn.Module):
    """A weight for each atom of a crystal, from its embedding and the crystal's element fractions."""

    def __init__(self, features: int, hidden_features: int):
        super().__init__()
        self.hidden = Linear(features + N_ELEMENTS, hidden_features)
        self.score = Linear(hidden_features, 1)

    def forward(self, nodes: Tensor, atomic_numbers: Tensor, n_atoms: Tensor) -> Tensor:
        """``[n_atoms_in_all, 1]`` weights that sum to one over each crystal."""
        one_hot = functional.one_hot(atomic_numbers - 1, N_ELEMENTS).to(nodes.dtype)
        composition = spread(crystal_mean(one_hot, n_atoms), n_atoms, len(nodes))
        hidden = functional.softplus(self.hidden(torch.cat((nodes, composition), dim=1)))
        return crystal_softmax(self.score(hidden), n_atoms)


class GATGNN(Backbone):
    """The graph attention network with composition attention.

    Args:
        config: widths and depths.
        atom_input_features: features an atom carries.
        cutoff: the last of the Gaussians bond lengths are expanded in, Angstrom.
        engine: see :class:`Backbone`.
    """

    def __init__(self, config: GATGNNConfig, atom_input_features: int, cutoff: float, engine: Engine = "blocked"):
        super().__init__(engine)
        self.config = config
        self.node_features = config.node_features
        self.expansion = GaussianExpansion(0, cutoff, config.edge_features, squared_spacing=True)
        self.embedding = Linear(atom_input_features, config.node_features)
        self.edge_embedding = Linear(config.edge_features, config.node_features)
        self.layers = nn.ModuleList(
            AugmentedGraphAttention(config.node_features, config.heads) for _ in range(config.conv_layers)
        )
        self.global_attention = CompositionAttention(config.node_features, config.composition_features)

    def embed_atoms(self, inputs: GraphInput) -> Tensor:
        """See :class:`Backbone`."""
        nodes = self.embedding(inputs.atom_features)
        edges = functional.leaky_relu(self.edge_embedding(self.expansion(inputs.bond_lengths())), 0.2)
        for layer in self.layers:
            nodes = layer(inputs.graph, nodes, edges)
        return nodes

    def pool(self, nodes: Tensor, inputs: GraphInput) -> Tensor:
        """The sum over the atoms, weighted by composition attention.

        Raises:
            InputError: DGL graphs without atomic numbers.
        """
        if inputs.atomic_numbers is None:
            raise InputError(
                'GATGNN needs the atomic numbers of the atoms: g.ndata["Z"], which crysmm.crystal_graph sets'
            )
        weights = self.global_attention(nodes, inputs.atomic_numbers, inputs.n_atoms)
        return crystal_sum(weights * nodes, inputs.n_atoms)

    def readout(self) -> tuple[nn.Sequential, int]:
        """Hidden layers with softplus."""
        config = self.config
        layers = hidden_layers(self.node_features, config.fc_features, config.fc_layers, nn.Softplus)
        return nn.Sequential(*layers), config.fc_features if config.fc_layers else self.node_features
