"""CGCNN: Xie and Grossman, Crystal graph convolutional neural networks, Phys. Rev. Lett. 120, 145301 (2018).

Equation 5 as in the authors' code, with the filter and core of a bond from one linear layer on
``z = [v_i, v_j, e_ij]``:

    v_i' = softplus(v_i + BN(sum_j sigmoid(f_ij) * softplus(c_ij))),    [f_ij, c_ij] = BN(W z_ij + b)

Differences from the authors' code: an atom with fewer neighbors than k has fewer bonds, instead of bonds to atom 0 at a
distance beyond the cutoff; and W z is computed as W_i v_i + W_j v_j + W_e e_ij, with the products of atoms before they
are gathered for bonds, which gives the same numbers for a twelfth of the work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import ConvolutionalConfig
from crysmm.config.run import Engine
from crysmm.engines.linear import Linear, linear
from crysmm.engines.normalization import BatchNorm, normalized
from crysmm.engines.topology import Topology
from crysmm.models.backbone import Backbone, GaussianExpansion, GraphInput, hidden_layers


class CGCNNConvolution(nn.Module):
    """Convolution of atoms of width ``node_features`` over bonds of width ``edge_features``."""

    def __init__(self, node_features: int, edge_features: int):
        super().__init__()
        self.widths = [node_features, node_features, edge_features]
        self.fc_full = nn.Linear(sum(self.widths), 2 * node_features)
        self.bn1 = BatchNorm(2 * node_features)
        self.bn2 = BatchNorm(node_features)

    def forward(self, graph: Topology, nodes: Tensor, edges: Tensor) -> Tensor:
        """Update ``nodes [n_nodes, node_features]`` along ``edges [n_edges, edge_features]``."""
        center, neighbor, bond = self.fc_full.weight.split(self.widths, dim=1)
        # An edge goes from the neighbor to the center. The bias is added to the atoms, of which there are fewer.
        gates = graph.add(linear(nodes, neighbor), linear(nodes, center, self.fc_full.bias), edges, bond)
        # The filter comes first, as in the authors' weights, and one normalization covers filter and core. Neither
        # normalization is in the paper's equation 5, but both are in its code.
        filters, core = normalized(self.bn1, gates, graph.edge_multiplicity).chunk(2, dim=1)
        messages = graph.sum(torch.sigmoid(filters) * functional.softplus(core))
        return functional.softplus(nodes + normalized(self.bn2, messages, graph.node_multiplicity))


class CGCNN(Backbone):
    """Crystal graph convolutional network; 80,833 parameters with a scalar output.

    Args:
        config: Widths and depths.
        atom_input_features: Number of features of each atom.
        cutoff: Center of the last Gaussian in which bond lengths are expanded, Angstrom.
        engine: Engine that passes the messages.
    """

    def __init__(
        self, config: ConvolutionalConfig, atom_input_features: int, cutoff: float, engine: Engine = "blocked"
    ):
        super().__init__(engine)
        self.config = config
        self.node_features = config.node_features
        self.expansion = GaussianExpansion(0, cutoff, config.edge_features, squared_spacing=True)
        self.embedding = Linear(atom_input_features, config.node_features)
        self.convs = nn.ModuleList(
            CGCNNConvolution(config.node_features, config.edge_features) for _ in range(config.conv_layers)
        )

    def embed_atoms(self, inputs: GraphInput) -> Tensor:
        """Embed the atoms by all convolutions, ``[n_nodes, node_features]``."""
        nodes = self.embedding(inputs.atom_features)
        edges = self.expansion(inputs.bond_lengths())
        for convolution in self.convs:
            nodes = convolution(inputs.graph, nodes, edges)
        return nodes

    def readout(self) -> tuple[nn.Sequential, int]:
        """Make the authors' readout: softplus, then hidden layers with softplus."""
        config = self.config
        layers = hidden_layers(self.node_features, config.fc_features, config.fc_layers, nn.Softplus)
        return nn.Sequential(nn.Softplus(), *layers), config.fc_features if config.fc_layers else self.node_features
