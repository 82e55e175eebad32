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

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.pretraining import CrysGNNConfig
from crysmm.data.space_groups import crystal_system
from crysmm.engines.linear import precise
from crysmm.models.layers import crystal_mean
from crysmm.objectives.corruption import Example
from crysmm.objectives.reconstruction import AtomFeatureTerm, ConnectivityTerm, DistanceTerm
from crysmm.objectives.terms import Term, mean_losses, space_groups_of


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


SPACE_GROUPS = 230


class SpaceGroupTerm(Term):
    """The space group from the mean of the atoms' embeddings: one linear layer, cross-entropy.

    Crystals whose space group is unknown are not asked.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = nn.Linear(node_features, SPACE_GROUPS)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        space_groups = space_groups_of(example.clean)
        known = space_groups > 0
        scores = self.scores(nodes, example.clean.n_atoms)
        losses = functional.cross_entropy(scores, (space_groups - 1).clamp_min(0), reduction="none")
        return mean_losses(torch.where(known, losses, 0), known.to(losses.dtype), pooled=False)

    def scores(self, nodes: Tensor, n_atoms: Tensor) -> Tensor:
        """``[n_crystals, SPACE_GROUPS]``, column g - 1 for space group g."""
        return precise(self.decoder(crystal_mean(nodes, n_atoms)))


class CrystalSystemTerm(Term):
    """Contrast: means of the atoms' embeddings alike within a crystal system and unlike between them (NT-Xent).

    A mean over the pairs of one system in the batch, hence the same for every crystal; crystals whose space group is
    unknown are in no pair. See :class:`~crysmm.objectives.ntxent.NTXent`.

    Args:
        weight: see :class:`Term`.
        temperature: cosines are divided by it.
    """

    def __init__(self, weight: float, temperature: float):
        from crysmm.objectives.ntxent import NTXent  # the library takes a second to import

        super().__init__(weight)
        self.loss = NTXent(temperature)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        space_groups = space_groups_of(example.clean)
        known = space_groups > 0
        pooled = crystal_mean(nodes, example.clean.n_atoms)
        with torch.autocast(pooled.device.type, enabled=False):  # bf16 cosines, over the temperature, are too coarse
            loss = self.loss(pooled[known], crystal_system(space_groups[known]))
        return loss.expand(len(known))
