"""CrysAE, the auto-encoder of CrysXPP.

Das et al., CrysXPP: an explainable property predictor for crystalline materials, npj Comput. Mater. 8, 43 (2022).

The encoder's embeddings, not normalised, give back the features of atoms, the connectivity of every ordered pair
and the lengths of bonds. Each loss is a mean within a crystal, then over crystals.

The default is the paper's three losses with weight 1 each, as in the authors' code nearest to it. Their later code
has no bond lengths and weights connectivity by 0.9 and features by 0.1: ``feature_weight 0.1, connectivity_weight
0.9, bond_length_weight 0``, 102,924 parameters with their encoder. Where this differs from their code: the encoder's
first layer has a bias; losses are divided by the crystals of the batch rather than by 512 whatever its size, which
a step size makes up for; bonds of atoms with fewer neighbours than k are not invented; and the classes of bond
lengths are as meant (see :class:`~crysmm.objectives.reconstruction.BondLengthTerm`), with cross-entropy over them.
"""

from __future__ import annotations

from crysmm.config.pretraining import CrysAEConfig
from crysmm.objectives.reconstruction import AtomFeatureTerm, BondLengthTerm, ConnectivityTerm, DistanceTerm
from crysmm.objectives.terms import Term


def crysae_terms(method: CrysAEConfig, node_features: int, atom_features: int, cutoff: float) -> dict[str, Term]:
    """The terms with a weight, by name.

    Args:
        method: weights and corruption.
        node_features: width of the encoder's embeddings.
        atom_features: number of features of an atom.
        cutoff: of the neighbour search, Angstrom.
    """
    terms: dict[str, Term] = {}
    if method.feature_weight:
        terms["features"] = AtomFeatureTerm(method.feature_weight, node_features, atom_features, pooled=False)
    if method.connectivity_weight:
        terms["connectivity"] = ConnectivityTerm(
            method.connectivity_weight, node_features, method.max_pairs, pooled=False
        )
    if method.bond_length_weight:
        terms["bond_lengths"] = BondLengthTerm(method.bond_length_weight, node_features)
    if method.distance_noise and method.distance_weight:
        terms["distances"] = DistanceTerm(
            method.distance_weight, node_features, cutoff, method.distance_noise, pooled=False
        )
    return terms
