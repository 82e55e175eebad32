"""Giving back the lengths of bonds: in classes, or exactly after they were changed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.data.batch import CrystalBatch
from crysmm.engines.blocked import BlockedGraph
from crysmm.engines.linear import Linear, precise
from crysmm.models.layers import GaussianExpansion
from crysmm.objectives.corruption import Example, bond_lengths
from crysmm.objectives.pairs import PairClassifier
from crysmm.objectives.terms import Term, over_edges

LENGTH_CLASSES = 5  # up to 1 Angstrom, 2, 3, 4, and 5 or more, rounded
EXPANSION_BINS = 41


class BondLengthTerm(Term):
    """The length of a bond, rounded to 1, 2, 3, 4 or 5 Angstrom (less and more too), from its two atoms' embeddings.

    Cross-entropy, a mean over each crystal's bonds. CrysAE's first version had this decoder, with classes of which
    the fourth was never reached and lengths that round to 0 were put in the last; here they are as meant.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = PairClassifier(node_features, LENGTH_CLASSES)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        losses = functional.cross_entropy(
            self.scores(nodes, example.clean), length_classes(example.clean), reduction="none"
        )
        return over_edges(losses, example.clean, pooled=False)

    def scores(self, nodes: Tensor, batch: CrystalBatch) -> Tensor:
        """``[n_edges, LENGTH_CLASSES]``."""
        graph = BlockedGraph(batch.connectivity, len(nodes))
        projected = graph.at_source(self.decoder.project(nodes).flatten(1)).view(-1, LENGTH_CLASSES, nodes.shape[1])
        return precise((projected @ graph.at_destination(nodes)[:, :, None]).squeeze(2) + self.decoder.bias())


def length_classes(batch: CrystalBatch) -> Tensor:
    """``[n_edges]`` int64, the class of each bond's length."""
    return bond_lengths(batch.bond_vectors).round().clamp(1, LENGTH_CLASSES).long() - 1


class DistanceTerm(Term):
    """The length a bond had before noise, from its atoms' embeddings and the length with it.

    A layer of the embeddings and of the length in Gaussians, SiLU, a linear layer; what is asked for is ``(clean -
    seen) / distance_noise``, by the smooth L1 loss, a mean over bonds. It is none of the papers' losses.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
        cutoff: the last of the Gaussians, Angstrom.
        distance_noise: see :class:`~crysmm.objectives.corruption.Corruption`.
        pooled: see :func:`~crysmm.objectives.terms.mean_losses`.
    """

    def __init__(self, weight: float, node_features: int, cutoff: float, distance_noise: float, pooled: bool):
        super().__init__(weight)
        self.distance_noise = distance_noise
        self.pooled = pooled
        self.expansion = GaussianExpansion(0, cutoff, EXPANSION_BINS, squared_spacing=True)
        self.source = Linear(node_features, node_features, bias=False)
        self.destination = Linear(node_features, node_features, bias=False)
        self.length = nn.Linear(EXPANSION_BINS, node_features)
        self.output = Linear(node_features, 1)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        asked = bond_lengths(example.clean.bond_vectors) - bond_lengths(example.seen.bond_vectors)
        losses = functional.smooth_l1_loss(
            self.corrections(nodes, example.seen), asked / self.distance_noise, reduction="none"
        )
        return over_edges(losses, example.clean, self.pooled)

    def corrections(self, nodes: Tensor, seen: CrystalBatch) -> Tensor:
        """``[n_edges]``: what is to be added to the lengths, in units of the noise."""
        lengths = self.expansion(bond_lengths(seen.bond_vectors))
        graph, of_destination = BlockedGraph(seen.connectivity, len(nodes)), self.destination(nodes) + self.length.bias
        hidden = functional.silu(graph.add(self.source(nodes), of_destination, lengths, self.length.weight))
        return precise(self.output(hidden).squeeze(1))
