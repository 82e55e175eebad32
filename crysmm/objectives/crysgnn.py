"""CrysGNN, the encoder that is a teacher.

Das et al., CrysGNN: distilling pre-trained knowledge to enhance property prediction for crystalline materials, AAAI
(2023).

The encoder's embeddings of atoms, each divided by its length, give back the features of atoms and the connectivity
of every ordered pair; their mean over a crystal gives its space group, and is alike within a crystal system (NT-Xent).
The four losses weigh 0.25 each, as in the authors' code; the paper's text gives no values. Features and connectivity
are means over a batch, in which a large cell counts for more than a small one.

With five convolutions of width 64 there are 162,162 parameters, and the 64 of a bias in the encoder's first layer.
Bonds of atoms with fewer neighbours than k are not invented.
"""

from __future__ import annotations

from crysmm.config.methods import CrysGNNConfig
from crysmm.objectives.bonds import DistanceTerm
from crysmm.objectives.features import AtomFeatureTerm
from crysmm.objectives.reconstruction import ConnectivityTerm
from crysmm.objectives.symmetry import CrystalSystemTerm, SpaceGroupTerm
from crysmm.objectives.terms import Term


def crysgnn_terms(method: CrysGNNConfig, node_features: int, atom_features: int, cutoff: float) -> dict[str, Term]:
    """The terms with a weight, by name.

    Args:
        method: weights and corruption.
        node_features: width of the encoder's embeddings.
        atom_features: number of features of an atom.
        cutoff: of the neighbour search, Angstrom.
    """
    terms: dict[str, Term] = {}
    if method.feature_weight:
        terms["features"] = AtomFeatureTerm(method.feature_weight, node_features, atom_features, pooled=True)
    if method.connectivity_weight:
        terms["connectivity"] = ConnectivityTerm(
            method.connectivity_weight, node_features, method.max_pairs, pooled=True
        )
    if method.space_group_weight:
        terms["space_group"] = SpaceGroupTerm(method.space_group_weight, node_features)
    if method.crystal_system_weight:
        terms["crystal_system"] = CrystalSystemTerm(method.crystal_system_weight, method.temperature)
    if method.distance_noise and method.distance_weight:
        terms["distances"] = DistanceTerm(
            method.distance_weight, node_features, cutoff, method.distance_noise, pooled=True
        )
    return terms
