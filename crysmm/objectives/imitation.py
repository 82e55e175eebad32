"""Imitation of a teacher on structures without labels: the distillation of CrysGNN as pre-training.

The encoder learns, atom by atom, the features of a universal potential, or the embeddings of another model. Fine-tuned,
it brings what the teacher knows to a network that needs no teacher to predict. Unlike distillation beside the labels
(:mod:`crysmm.objectives.distillation`), it sees any number of crystals, whether they have labels or not.

Features are compared as in distillation: each is standardized over the atoms of the training crystals, if they are a
potential's, and those of an atom are divided by their length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crysmm.engines.linear import Linear, precise
from crysmm.objectives.corruption import Example
from crysmm.objectives.scores import HeldOut, HeldOutScore, MeanScore
from crysmm.objectives.terms import Term, over_atoms


class ImitationTerm(Term):
    """Direction of the teacher's features, from an atom's embedding by a linear layer; squared distance.

    The loss is a mean over the atoms of a crystal, then over crystals. Of unit vectors it is ``2 - 2 cos``.

    Args:
        node_features: Width of the embeddings.
        width: Number of the teacher's features per atom.
    """

    def __init__(self, node_features: int, width: int):
        super().__init__(1.0)
        self.decoder = Linear(node_features, width)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss per crystal, ``[n_crystals]``."""
        return over_atoms(2 - 2 * self.cosines(nodes, example), None, example.clean.n_atoms, pooled=False)

    def cosines(self, nodes: Tensor, example: Example) -> Tensor:
        """Return the cosine of each atom's predicted and true features, ``[n_atoms_in_all]``.

        Raises:
            ValueError: The batch has no features of a teacher.
        """
        teacher = example.clean.teacher_features
        if teacher is None:
            raise ValueError("the batch has no embeddings of a teacher; give them to its loader")
        # The teacher's features were divided by their lengths when they were read.
        return (functional.normalize(precise(self.decoder(nodes)), dim=1) * teacher).sum(1)

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the mean cosine; the baseline, 0, is that of random directions."""
        return [MeanScore("imitation_cosine", self.measure)]

    def measure(self, held_out: HeldOut) -> tuple[Tensor, Tensor]:
        """Return the cosine of each atom, and 0."""
        cosines = self.cosines(held_out.nodes, held_out.example)
        return cosines, torch.zeros_like(cosines)
