"""Telling crystals from decoys: the method of this package.

A part of the crystals are shown with wrong elements at some of their sites (:mod:`crysmm.objectives.substitution`),
and the encoder is asked of every atom whether it has been replaced, and of every crystal whether it is a decoy. The
crystals of a database have been relaxed and most of them could be made; decoys could not. To tell them apart is to
learn which elements go together, at which distances and in which surroundings, hence something of what decides
energies: a classifier of data against noise learns the ratio of their densities (Gutmann and Hyvaerinen, Noise-
contrastive estimation, AISTATS 2010). Asking of every atom rather than of hidden ones alone is that of ELECTRA
(Clark et al., ICLR 2020).

Besides, the encoder is asked for charges and bond sums that simple rules give for the true structure
(:mod:`crysmm.objectives.bonding`).

The methods of CrysAE and CrysGNN ask an encoder to give back what it was shown, which it can do by copying. What each
is worth with few labels stands in ``docs/results.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crysmm.config.methods import DecoysConfig
from crysmm.engines.linear import precise
from crysmm.models.layers import crystal_mean
from crysmm.objectives.bonding import BondingTerm
from crysmm.objectives.corruption import Example
from crysmm.objectives.terms import Term, hidden_decoder, over_atoms


class ReplacedAtomTerm(Term):
    """Whether an atom has been given another element, from its embedding: a hidden layer, binary cross-entropy.

    A mean over the atoms of the batch, but for those whose features are hidden.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = hidden_decoder(node_features, 1)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        scores = self.scores(nodes)
        replaced = replaced_atoms(example).to(scores.dtype)
        losses = functional.binary_cross_entropy_with_logits(scores, replaced, reduction="none")
        asked = None if example.hidden is None else ~example.hidden
        return over_atoms(losses, asked, example.clean.n_atoms, pooled=True)

    def scores(self, nodes: Tensor) -> Tensor:
        """``[n_atoms_in_all]``, above 0 where an atom seems to be replaced."""
        return precise(self.decoder(nodes)).flatten()


class DecoyTerm(Term):
    """Whether a crystal is a decoy, from the mean of its atoms' embeddings: a hidden layer, binary cross-entropy.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = hidden_decoder(node_features, 1)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        scores = self.scores(nodes, example.clean.n_atoms)
        return functional.binary_cross_entropy_with_logits(scores, decoys(example).to(scores.dtype), reduction="none")

    def scores(self, nodes: Tensor, n_atoms: Tensor) -> Tensor:
        """``[n_crystals]``, above 0 where a crystal seems to be a decoy."""
        return precise(self.decoder(crystal_mean(nodes, n_atoms))).flatten()


def replaced_atoms(example: Example) -> Tensor:
    """``[n_atoms_in_all]`` bool."""
    return example.seen.atomic_numbers != example.clean.atomic_numbers


def decoys(example: Example) -> Tensor:
    """``[n_crystals]`` bool: whether an atom of it has been replaced."""
    replaced = replaced_atoms(example).to(torch.float32)
    return torch.segment_reduce(replaced, "max", lengths=example.clean.n_atoms, unsafe=True) > 0


def decoy_terms(method: DecoysConfig, node_features: int) -> dict[str, Term]:
    """The terms with a weight, by name.

    Args:
        method: weights and corruption.
        node_features: width of the encoder's embeddings.
    """
    terms: dict[str, Term] = {}
    if method.replaced_weight:
        terms["replaced"] = ReplacedAtomTerm(method.replaced_weight, node_features)
    if method.decoy_weight:
        terms["decoy"] = DecoyTerm(method.decoy_weight, node_features)
    if method.bonding_weight:
        terms["bonding"] = BondingTerm(method.bonding_weight, node_features)
    return terms
