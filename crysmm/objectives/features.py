"""Giving back the features of atoms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crysmm.engines.linear import Linear, precise
from crysmm.objectives.corruption import Example
from crysmm.objectives.terms import Term, over_atoms


class AtomFeatureTerm(Term):
    """Each feature of an atom, a bit, from its embedding: one linear layer, binary cross-entropy.

    The loss is a mean over features and atoms; where atoms are hidden, over those alone.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
        atom_features: number of features of an atom, 0 or 1 each.
        pooled: see :func:`mean_losses`.
    """

    def __init__(self, weight: float, node_features: int, atom_features: int, pooled: bool):
        super().__init__(weight)
        self.decoder = Linear(node_features, atom_features)
        self.pooled = pooled

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        logits = precise(self.decoder(nodes))
        bits = example.clean.atom_features.to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, bits, reduction="none").mean(1)
        return over_atoms(losses, example.hidden, example.clean.n_atoms, self.pooled)
