"""GATGNN: Louis et al., Graph convolutional neural networks with global attention, PCCP 22, 18141 (2020).

Augmented graph attention (equations 5 to 8): with x_i = softplus(W [v_i, e_ij]) and x_j = softplus(W [v_j, e_ij]),

    s_ij = softplus(BN(softplus(a . [x_i, x_j]))),  alpha = softmax of s over the bonds of atom i,
    v_i' = softplus(BN(mean over heads of sum_j alpha_ij x_j + b))

Global attention by composition: a two-layer network on [v_i, element fractions of the crystal] scores each atom, a
softmax over the crystal makes weights of the scores, and the weighted atoms are summed. As in CGCNN here, the products
of W [v, e] are computed for atoms before they are gathered for bonds, and missing neighbors are left out, not padded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import GATGNNConfig
from crysmm.config.run import Engine
from crysmm.engines.linear import Linear, linear, precise
from crysmm.engines.normalization import BatchNorm, normalized
from crysmm.engines.topology import Topology
from crysmm.errors import InputError
from crysmm.models.backbone import (
    Backbone,
    GaussianExpansion,
    GraphInput,
    crystal_mean,
    crystal_softmax,
    crystal_sum,
    hidden_layers,
    repeat_for_atoms,
)

N_ELEMENTS = 103


class AugmentedGraphAttention(nn.Module):
    """Attention layer with ``heads`` heads of width ``features``, which are averaged."""

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
        """Update ``nodes [n_nodes, features]`` along ``edges [n_edges, features]``."""
        # W [v, e] = W_v v + W_e e: atoms are projected once, not once for each of their bonds.
        from_node, from_edge = self.weight.chunk(2, dim=1)
        projected, bonds = linear(nodes, from_node), linear(edges, from_edge)
        center = functional.softplus(graph.at_destination(projected) + bonds)
        neighbor = functional.softplus(graph.at_source(projected) + bonds)
        # a . [x_i, x_j] in two parts, so that the pair is never put side by side. Each head has its own a: one product
        # with a block-diagonal matrix, mostly 0, is faster than elementwise products, which must be kept to be summed.
        of_center, of_neighbor = (torch.block_diag(*vectors) for vectors in self.attention.chunk(2, dim=1))
        with torch.autocast(nodes.device.type, enabled=False):
            scores = functional.linear(precise(center), of_center) + functional.linear(precise(neighbor), of_neighbor)
        scores = normalized(self.bn_scores, functional.softplus(scores), graph.edge_multiplicity)
        weights = graph.softmax(functional.softplus(scores))
        # The sum over the heads divided by their number is their mean.
        messages = graph.weighted_sum(weights, neighbor.unflatten(1, (self.heads, -1))) / self.heads
        return functional.softplus(normalized(self.bn_nodes, messages + self.bias, graph.node_multiplicity))


class CompositionAttention(nn.Module):
    """Weight of each atom in its crystal, from the atom's embedding and the crystal's element fractions."""

    def __init__(self, features: int, hidden_features: int):
        super().__init__()
        self.hidden = Linear(features + N_ELEMENTS, hidden_features)
        self.score = Linear(hidden_features, 1)

    def forward(self, nodes: Tensor, atomic_numbers: Tensor, n_atoms: Tensor) -> Tensor:
        """Compute weights that sum to one over each crystal, ``[n_atoms_in_all, 1]``."""
        # Every atom of a crystal sees the same composition: the fraction of each of the 103 elements.
        one_hot = functional.one_hot(atomic_numbers - 1, N_ELEMENTS).to(nodes.dtype)
        composition = repeat_for_atoms(crystal_mean(one_hot, n_atoms), n_atoms, len(nodes))
        hidden = functional.softplus(self.hidden(torch.cat((nodes, composition), dim=1)))
        return crystal_softmax(self.score(hidden), n_atoms)


class GATGNN(Backbone):
    """Graph attention network with composition attention.

    Args:
        config: Widths and depths.
        atom_input_features: Number of features of each atom.
        cutoff: Center of the last Gaussian in which bond lengths are expanded, Angstrom.
        engine: Engine that passes the messages.
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
        """Embed the atoms by all attention layers, ``[n_nodes, node_features]``."""
        nodes = self.embedding(inputs.atom_features)
        edges = functional.leaky_relu(self.edge_embedding(self.expansion(inputs.bond_lengths())), 0.2)
        for layer in self.layers:
            nodes = layer(inputs.graph, nodes, edges)
        return nodes

    def pool(self, nodes: Tensor, inputs: GraphInput) -> Tensor:
        """Sum over the atoms, weighted by composition attention.

        Raises:
            InputError: The DGL graphs have no atomic numbers.
        """
        # DGL graphs of other programs may lack them; batches of this package always have them.
        if inputs.atomic_numbers is None:
            raise InputError(
                'GATGNN needs the atomic numbers of the atoms: g.ndata["Z"], which crysmm.crystal_graph sets'
            )
        weights = self.global_attention(nodes, inputs.atomic_numbers, inputs.n_atoms)
        return crystal_sum(weights * nodes, inputs.n_atoms)

    def readout(self) -> tuple[nn.Sequential, int]:
        """Make the authors' readout: hidden layers with softplus."""
        config = self.config
        layers = hidden_layers(self.node_features, config.fc_features, config.fc_layers, nn.Softplus)
        return nn.Sequential(*layers), config.fc_features if config.fc_layers else self.node_features
