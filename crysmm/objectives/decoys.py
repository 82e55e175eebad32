"""Telling crystals from decoys: the method of this package.

A part of the crystals are shown with wrong elements at some of their sites (:mod:`crysmm.objectives.corruption`),
and the encoder is asked of every atom whether it has been replaced, and of every crystal whether it is a decoy. The
crystals of a database have been relaxed and most of them could be made; decoys could not. To tell them apart is to
learn which elements go together, at which distances and in which surroundings, hence something of what decides
energies: a classifier of data against noise learns the ratio of their densities (Gutmann and Hyvaerinen, Noise-
contrastive estimation, AISTATS 2010). Asking of every atom rather than of hidden ones alone is that of ELECTRA
(Clark et al., ICLR 2020).

Besides, the encoder is asked for charges and bond sums that simple rules give for the true structure
(:mod:`crysmm.objectives.decoys`).

The methods of CrysAE and CrysGNN ask an encoder to give back what it was shown, which it can do by copying. What each
is worth with few labels stands in ``docs/results.md``.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from crysmm.config.pretraining import DecoysConfig
from crysmm.data.batch import CrystalBatch
from crysmm.elements import SYMBOLS
from crysmm.engines.blocked import BlockedGraph
from crysmm.engines.linear import precise
from crysmm.engines.normalization import BatchNorm
from crysmm.models.layers import crystal_mean
from crysmm.objectives.corruption import Example, bond_lengths
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


QUANTITIES = 7
SOFTNESS = 0.2
LARGEST = 6.0  # deviations; what is further out, such as of atoms far from all others, counts as so far
# On Pauling's scale, where jarvis-tools has none; of light noble gases a value that makes them hold their electrons.
ELECTRONEGATIVITIES = {"He": 3.5, "Ne": 3.5, "Ar": 3.2, "Tb": 1.2, "Yb": 1.1}


class BondingTerm(Term):
    """The quantities above, of each atom and on average over each crystal, from the embeddings: two hidden layers.

    They are those of the true structure, each minus its mean and over its deviation (running statistics of a batch
    normalisation). The loss is the mean absolute error of both, a mean over the batch.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.of_atoms = BatchNorm(QUANTITIES, affine=False)
        self.of_crystals = BatchNorm(QUANTITIES, affine=False)
        self.atom_decoder = hidden_decoder(node_features, QUANTITIES)
        self.crystal_decoder = hidden_decoder(node_features, QUANTITIES)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        n_atoms = example.clean.n_atoms
        quantities = bonding(example.clean)
        with torch.autocast(nodes.device.type, enabled=False):
            atoms = self.of_atoms(quantities).clamp(-LARGEST, LARGEST)
            crystals = self.of_crystals(crystal_mean(quantities, n_atoms)).clamp(-LARGEST, LARGEST)
        of_atoms = functional.l1_loss(precise(self.atom_decoder(nodes)), atoms, reduction="none").mean(1)
        pooled = crystal_mean(nodes, n_atoms)
        of_crystals = functional.l1_loss(precise(self.crystal_decoder(pooled)), crystals, reduction="none").mean(1)
        return over_atoms(of_atoms, None, n_atoms, pooled=True) + of_crystals


def bonding(batch: CrystalBatch) -> Tensor:
    """``[n_atoms_in_all, QUANTITIES]``: q, sum w, mean length, polarity in all and a bond, potential, energy.

    An atom without bonds has zeros.
    """
    electronegativity, radius = (table.to(batch.bond_vectors)[batch.atomic_numbers, None] for table in _tables())
    graph = BlockedGraph(batch.connectivity, len(batch.atomic_numbers))
    lengths = bond_lengths(batch.bond_vectors)[:, None]
    difference = graph.at_source(electronegativity) - graph.at_destination(electronegativity)
    order = torch.exp(-(lengths / (graph.at_source(radius) + graph.at_destination(radius)) - 1) / SOFTNESS)
    coordination, charge, polarity, length = graph.sum(
        torch.cat([order, order * difference, order * difference**2, order * lengths], dim=1)
    ).split(1, dim=1)
    a_bond = coordination.clamp_min(torch.finfo(coordination.dtype).tiny)
    charge = charge / a_bond
    potential = graph.sum(order * graph.at_source(charge))
    return torch.cat(
        [charge, coordination, length / a_bond, polarity, polarity / a_bond, potential, charge * potential], dim=1
    )


@cache
def _tables() -> tuple[Tensor, Tensor]:
    """Electronegativity (Pauling) and covalent radius (Angstrom, Cordero 2008) by atomic number, ``[104]`` each."""
    from ase.data import covalent_radii
    from jarvis.core.specie import chem_data

    known = [ELECTRONEGATIVITIES.get(symbol) or chem_data[symbol]["X"] for symbol in SYMBOLS[1:]]
    return torch.tensor([0.0, *known]), torch.tensor(covalent_radii[: len(SYMBOLS)], dtype=torch.float32)
