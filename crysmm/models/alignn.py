"""ALIGNN: Choudhary and DeCost, Atomistic line graph neural network, npj Comput. Mater. 7, 185 (2021).

Edge-gated graph convolution (equations 1 to 5), for nodes h and edges e of either graph:

    m_ij = A h_i + B h_j + C e_ij,   s = sigmoid(m)
    h_j' = h_j + SiLU(norm(U h_j + sum_i s_ij * V h_i / (sum_i s_ij + 1e-6))),   e_ij' = e_ij + SiLU(norm(m_ij))

An ALIGNN layer convolves the crystal graph, then the line graph, whose nodes are the updated bonds m. Parameter names
are the authors', so that their checkpoints can be read. Differences from the authors' code: outputs that nothing reads
(the angles after the last ALIGNN layer, the bonds after the last layer) are not computed, and their normalizations stay
as frozen parameters. The default graph lists each bond once in each direction and keeps the pair (e, e) of a bond to an
atom's own image, so that a cell and its supercell agree; ``as_jarvis`` gives the authors' graph.
"""

from __future__ import annotations

from torch import Tensor, nn

from crysmm.config.models import ALIGNNConfig, Normalization
from crysmm.config.run import Engine
from crysmm.data.batch import CrystalBatch
from crysmm.engines.linear import linear, perceptron
from crysmm.engines.normalization import Multiplicity, normalization, normalized_silu
from crysmm.engines.segments import gather
from crysmm.engines.topology import Topology
from crysmm.models.backbone import Backbone, GaussianExpansion, GraphInput, crystal_sum

LARGEST_BOND = 8.0  # Angstrom; center of the last Gaussian, whatever the cutoff


class MLPLayer(nn.Module):
    """Linear layer, normalization and SiLU."""

    def __init__(self, features_in: int, features_out: int, norm: Normalization):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(features_in, features_out), normalization(norm, features_out), nn.SiLU())

    def forward(self, rows: Tensor, multiplicity: Multiplicity | None = None) -> Tensor:
        """Map ``[n, features_in]`` to ``[n, features_out]``."""
        return perceptron(rows, [self.parts()], multiplicity=multiplicity)

    def parts(self) -> tuple[nn.Linear, nn.Module]:
        """Return the linear layer and the normalization."""
        linear_layer, norm, _ = self.layer
        assert isinstance(linear_layer, nn.Linear)
        return linear_layer, norm


class ScalarEmbedding(nn.Sequential):
    """Expansion of lengths or cosines in Gaussians, then two MLP layers.

    Args:
        expansion: Expansion in Gaussians.
        embedding_features: Width of the first layer.
        features: Width of the second layer.
        norm: Normalization of both.
    """

    def __init__(self, expansion: GaussianExpansion, embedding_features: int, features: int, norm: Normalization):
        super().__init__(
            expansion,
            MLPLayer(len(expansion.centers), embedding_features, norm),
            MLPLayer(embedding_features, features, norm),
        )

    def forward(self, values: Tensor, multiplicity: Multiplicity | None = None) -> Tensor:
        """Embed ``[n]`` as ``[n, features]``."""
        expansion, *layers = self
        parts = [layer.parts() for layer in layers if isinstance(layer, MLPLayer)]
        return perceptron(values, parts, expansion, multiplicity)


class EdgeGatedGraphConvolution(nn.Module):
    """Edge-gated convolution of nodes and edges.

    Args:
        features: Width of both.
        norm: Normalization of both.
        updates_edges: True if a later layer reads the updated edges; otherwise they are not computed.
    """

    def __init__(self, features: int, norm: Normalization, updates_edges: bool = True):
        super().__init__()
        self.updates_edges = updates_edges
        self.src_gate = nn.Linear(features, features)
        self.dst_gate = nn.Linear(features, features)
        self.edge_gate = nn.Linear(features, features)
        self.bn_edges = normalization(norm, features)
        self.src_update = nn.Linear(features, features)
        self.dst_update = nn.Linear(features, features)
        self.bn_nodes = normalization(norm, features)
        if not updates_edges:
            # Kept, because the authors' checkpoints have it; frozen, because no gradient reaches it.
            self.bn_edges.requires_grad_(False)

    def forward(self, graph: Topology, nodes: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Update nodes ``[n_nodes, features]`` and edges ``[n_edges, features]``."""
        # Nodes are multiplied before they are gathered, and the edges' bias goes to the nodes: there are fewer of them.
        source, destination, values, own = (
            linear(nodes, layer.weight, bias)
            for layer, bias in (
                (self.src_gate, self.src_gate.bias),
                (self.dst_gate, self.dst_gate.bias + self.edge_gate.bias),
                (self.dst_update, self.dst_update.bias),
                (self.src_update, self.src_update.bias),
            )
        )
        norm = self.bn_edges if self.updates_edges else None
        updated, means = graph.gate(source, destination, edges, self.edge_gate.weight, values, norm)
        return normalized_silu(self.bn_nodes, own + means, nodes, graph.node_multiplicity), updated


class ALIGNNLayer(nn.Module):
    """Convolution of the crystal graph, then of the line graph."""

    def __init__(self, features: int, norm: Normalization, updates_angles: bool):
        super().__init__()
        self.node_update = EdgeGatedGraphConvolution(features, norm)
        self.edge_update = EdgeGatedGraphConvolution(features, norm, updates_angles)

    def forward(
        self, graph: Topology, line_graph: Topology, atoms: Tensor, bonds: Tensor, angles: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update atoms ``[n_nodes, features]``, bonds ``[n_edges, ...]`` and angles ``[n_triplets, ...]``."""
        # The order is the authors': the line graph reads the bonds that the crystal graph has just updated, and its
        # nodes, the bonds, are the edges of the next crystal graph convolution.
        atoms, bonds = self.node_update(graph, atoms, bonds)
        bonds, angles = self.edge_update(line_graph, bonds, angles)
        return atoms, bonds, angles


class ALIGNN(Backbone):
    """Atomistic line graph network; 4,026,753 parameters with a scalar output.

    Args:
        config: Widths and depths.
        atom_input_features: Number of features of each atom.
        engine: Engine that passes the messages.
    """

    def __init__(self, config: ALIGNNConfig, atom_input_features: int, engine: Engine = "blocked"):
        super().__init__(engine)
        self.config = config
        features, norm = config.hidden_features, config.norm
        self.node_features = features
        self.needs_line_graph = config.alignn_layers > 0
        self.atom_embedding = MLPLayer(atom_input_features, features, norm)
        width = config.embedding_features
        lengths = GaussianExpansion(0, LARGEST_BOND, config.edge_input_features, squared_spacing=False)
        self.edge_embedding = ScalarEmbedding(lengths, width, features, norm)
        if self.needs_line_graph:
            cosines = GaussianExpansion(-1, 1, config.triplet_input_features, squared_spacing=False)
            self.angle_embedding = ScalarEmbedding(cosines, width, features, norm)
        self.alignn_layers = nn.ModuleList(
            ALIGNNLayer(features, norm, updates_angles=layer < config.alignn_layers - 1)
            for layer in range(config.alignn_layers)
        )
        self.gcn_layers = nn.ModuleList(
            EdgeGatedGraphConvolution(features, norm, updates_edges=layer < config.gcn_layers - 1)
            for layer in range(config.gcn_layers)
        )

    def embed_atoms(self, inputs: GraphInput) -> Tensor:
        """Embed the atoms by all ALIGNN and graph convolution layers, ``[n_nodes, node_features]``."""
        atoms = self.atom_embedding(inputs.atom_features, inputs.graph.node_multiplicity)
        bonds = self.edge_embedding(inputs.bond_lengths(), inputs.graph.edge_multiplicity)
        if inputs.line_graph is not None:
            angles = self.angle_embedding(inputs.bond_cosines(), inputs.line_graph.edge_multiplicity)
            for layer in self.alignn_layers:
                atoms, bonds, angles = layer(inputs.graph, inputs.line_graph, atoms, bonds, angles)
        for layer in self.gcn_layers:
            atoms, bonds = layer(inputs.graph, atoms, bonds)
        return atoms

    def readout(self) -> tuple[nn.Sequential, int]:
        """Make the authors' readout, which has nothing between pooling and output layer."""
        return nn.Sequential(), self.node_features


class ShortBondPenalty(nn.Module):
    """Penalty for short bonds in ALIGNN's ``alignn_atomwise``: ``factor * max(0, length - |r|)`` for each edge r.

    The original adds the sum over all crystals of a batch to each of them; here each has its own.

    Args:
        factor: Penalty per Angstrom.
        length: Length below which a bond is short, Angstrom.
    """

    def __init__(self, factor: float, length: float):
        super().__init__()
        self.factor, self.length = factor, length

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Sum over the edges of each crystal, ``[n_crystals, 1]``."""
        penalties = self.factor * (self.length - batch.bond_lengths()).clamp(min=0)
        of_atoms = batch.connectivity.by_destination.sum(penalties[:, None])
        if batch.merged is not None:  # equivalent atoms have the same incoming bonds
            of_atoms = gather(of_atoms, batch.merged.atoms)
        return crystal_sum(of_atoms, batch.n_atoms)
