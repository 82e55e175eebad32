"""CrysAE, the auto-encoder of CrysXPP.

Das et al., CrysXPP: an explainable property predictor for crystalline materials, npj Comput. Mater. 8, 43 (2022).

Decoders reconstruct atom features, the connectivity of every ordered pair and bond lengths from the encoder's
embeddings, which are not normalized. Each loss is a mean within a crystal, then over crystals.

The default is the paper's three losses, each with weight 1, as in the closest version of the authors' code. Their
later code has no bond lengths and weights of 0.9 for connectivity and 0.1 for features: ``feature_weight 0.1,
connectivity_weight 0.9, bond_length_weight 0``, 102,924 parameters with their encoder. Differences from their code:

- The first layer of the encoder has a bias.
- Losses are divided by the number of crystals in the batch, not by 512 for every batch size; the learning rate makes
  up for the difference.
- Atoms with fewer neighbors than k get no extra bonds.
- Bond length classes are those that were intended (see :class:`BondLengthTerm`), trained with cross-entropy.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crysmm.config.pretraining import CrysAEConfig
from crysmm.data.batch import CrystalBatch
from crysmm.engines.blocked import BlockedGraph
from crysmm.engines.linear import precise
from crysmm.objectives.corruption import Example
from crysmm.objectives.reconstruction import PairClassifier, reconstruction_terms
from crysmm.objectives.scores import ClassAccuracy, HeldOut, HeldOutScore
from crysmm.objectives.terms import Term, over_edges

LENGTH_CLASSES = 5  # rounded to 1, 2, 3, 4 and 5 Angstrom


class BondLengthTerm(Term):
    """Bond length in classes of 1 Angstrom, from the embeddings of both atoms; cross-entropy.

    Lengths are rounded to 1, 2, 3, 4 or 5 Angstrom; shorter and longer bonds are in the first and the last class. The
    loss is a mean over the bonds of each crystal. The first version of CrysAE had this decoder, but its fourth class
    was never reached and lengths that round to 0 were in the last one.

    Args:
        weight: Factor of the loss in the objective.
        node_features: Width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = PairClassifier(node_features, LENGTH_CLASSES)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss of the clean bond lengths per crystal, ``[n_crystals]``."""
        losses = functional.cross_entropy(*self.logits(nodes, example.clean), reduction="none")
        return over_edges(losses, example.clean, pooled=False)

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the accuracy of the classes."""
        return [ClassAccuracy(name, LENGTH_CLASSES, self.classify)]

    def classify(self, held_out: HeldOut) -> tuple[Tensor, Tensor]:
        """Return the true and the predicted class of each bond."""
        logits, classes = self.logits(held_out.nodes, held_out.example.clean)
        return classes, logits.argmax(1)

    def logits(self, nodes: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return logits, ``[n_edges, LENGTH_CLASSES]``, and true classes, ``[n_edges]`` int64, of all bonds.

        Args:
            nodes: Embeddings of the atoms, ``[n_atoms_in_all, d]``.
            batch: Batch with the true bond lengths.
        """
        # As in the connectivity term, first atoms are multiplied by the forms before they are gathered for bonds.
        graph = BlockedGraph(batch.connectivity, len(nodes))
        projected, bias = self.decoder.project(nodes)
        at_source = graph.at_source(projected.flatten(1)).view(-1, *projected.shape[1:])
        products = (at_source @ graph.at_destination(nodes)[:, :, None]).squeeze(2)
        return precise(products + bias), batch.bond_lengths().round().clamp(1, LENGTH_CLASSES).long() - 1


def crysae_terms(method: CrysAEConfig, node_features: int, atom_features: int, cutoff: float) -> dict[str, Term]:
    """Build the terms with a nonzero weight, by name.

    Args:
        method: Weights and corruption.
        node_features: Width of the encoder's embeddings.
        atom_features: Number of features per atom.
        cutoff: Cutoff of the neighbor search, Angstrom.
    """
    terms = reconstruction_terms(method, node_features, atom_features, cutoff, pooled=False)
    if method.bond_length_weight:
        terms["bond_lengths"] = BondLengthTerm(method.bond_length_weight, node_features)
    return terms
