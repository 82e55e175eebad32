"""Discrimination of crystals from decoys: the pre-training method of this package.

Some crystals are shown with wrong elements at some of their sites (:func:`crysmm.objectives.corruption.substitute`).
The encoder predicts for every atom whether it has been replaced and for every crystal whether it is a decoy. The
crystals of a database are relaxed and most of them could be made; decoys could not. Telling them apart requires
knowing which elements go together, at which distances and in which environments, hence part of what determines
energies: a classifier of data against noise learns the ratio of their densities (Gutmann and Hyvaerinen, Noise-
contrastive estimation, AISTATS 2010). Predictions for every atom, not only for hidden ones, follow ELECTRA (Clark et
al., ICLR 2020).

The encoder also predicts charges and sums over bonds that simple rules give for the true structure. With
electronegativities X (Pauling) and covalent radii R, a bond from atom j to atom i with length d has the order
``w = exp(-(d / (R_i + R_j) - 1) / 0.2)``. The quantities of atom i are, over its incoming bonds,

    q_i = sum w (X_j - X_i) / sum w     a charge: electrons go to the more electronegative neighbors
    sum w,  sum w d / sum w             coordination, mean bond length
    sum w (X_j - X_i)^2, and over sum w the energy of polar bonds: Pauling, The nature of the chemical bond (1932)
    sum w q_j,  q_i sum w q_j           potential and energy of the charges around

Rough as they are, they correlate with formation energies, and they need no labels.

The methods of CrysAE and CrysGNN have the encoder reconstruct its input, which copying can do.
``docs/results/few_labels.md`` compares the methods at few labels.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.pretraining import DecoysConfig
from crysmm.data.batch import CrystalBatch
from crysmm.elements import SYMBOLS, covalent_radii
from crysmm.engines.blocked import BlockedGraph
from crysmm.engines.linear import Linear, precise
from crysmm.engines.normalization import BatchNorm
from crysmm.models.backbone import crystal_mean
from crysmm.objectives.corruption import Example
from crysmm.objectives.scores import ClassAccuracy, HeldOut, HeldOutScore
from crysmm.objectives.terms import Term, over_atoms

QUANTITIES = 7
# Relative length over which the order of a bond falls by e. It is 1 at the sum of the radii and below 0.01 at twice
# that, so that the nearest neighbors decide. For a bond of 1.85 Angstrom it is the 0.37 Angstrom of bond valences.
SOFTNESS = 0.2
LARGEST = 6.0  # standard deviations; outliers, such as atoms far from all others, are clipped, else they fill the loss
# On Pauling's scale, where jarvis-tools has no value; light noble gases get one that makes them keep their electrons.
ELECTRONEGATIVITIES = {"He": 3.5, "Ne": 3.5, "Ar": 3.2, "Tb": 1.2, "Yb": 1.1}


class ReplacedAtomTerm(Term):
    """Replaced or real atom, from its embedding by one hidden layer; binary cross-entropy.

    The loss is a mean over the atoms of the batch whose features are not hidden. Scores are above 0 for atoms that are
    predicted to be replaced.

    Args:
        weight: Factor of the loss in the objective.
        node_features: Width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = hidden_decoder(node_features, 1)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss of the batch once per crystal, ``[n_crystals]``."""
        scores = precise(self.decoder(nodes)).flatten()
        replaced = example.replaced.to(scores.dtype)
        losses = functional.binary_cross_entropy_with_logits(scores, replaced, reduction="none")
        # Without its features, an atom shows nothing that could have been replaced.
        visible = None if example.hidden is None else ~example.hidden
        return over_atoms(losses, visible, example.clean.n_atoms, pooled=True)

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the accuracy of the classes."""
        return [ClassAccuracy(name, 2, self.classify)]

    def classify(self, held_out: HeldOut) -> tuple[Tensor, Tensor]:
        """Return which atoms are replaced, and which are predicted to be."""
        return held_out.example.replaced.long(), (self.decoder(held_out.seen_nodes).flatten() > 0).long()


class DecoyTerm(Term):
    """Decoy or real crystal, from the mean of its atom embeddings by one hidden layer; binary cross-entropy.

    Scores are above 0 for crystals that are predicted to be decoys.

    Args:
        weight: Factor of the loss in the objective.
        node_features: Width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = hidden_decoder(node_features, 1)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss per crystal, ``[n_crystals]``."""
        scores = precise(self.decoder(crystal_mean(nodes, example.clean.n_atoms))).flatten()
        return functional.binary_cross_entropy_with_logits(scores, example.decoys.to(scores.dtype), reduction="none")

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the accuracy of the classes."""
        return [ClassAccuracy(name, 2, self.classify)]

    def classify(self, held_out: HeldOut) -> tuple[Tensor, Tensor]:
        """Return which crystals are decoys, and which are predicted to be."""
        example = held_out.example
        scores = self.decoder(crystal_mean(held_out.seen_nodes, example.clean.n_atoms)).flatten()
        return example.decoys.long(), (scores > 0).long()


class BondingTerm(Term):
    """Bonding quantities of the true structure, per atom and averaged per crystal, by one hidden layer each.

    Targets are the quantities of :func:`bonding`, standardized by a batch normalization without parameters. The loss is
    the mean absolute error of the atoms plus that of the crystals.

    Args:
        weight: Factor of the loss in the objective.
        node_features: Width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        # Without parameters: the statistics alone put the quantities, which have different units, on one scale.
        self.of_atoms = BatchNorm(QUANTITIES, affine=False)
        self.of_crystals = BatchNorm(QUANTITIES, affine=False)
        self.atom_decoder = hidden_decoder(node_features, QUANTITIES)
        self.crystal_decoder = hidden_decoder(node_features, QUANTITIES)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss per crystal, ``[n_crystals]``: that of its atoms pooled over the batch, plus its own."""
        n_atoms = example.clean.n_atoms
        quantities = bonding(example.clean)
        with torch.autocast(nodes.device.type, enabled=False):  # targets stay in fp32
            atoms = self.of_atoms(quantities).clamp(-LARGEST, LARGEST)
            crystals = self.of_crystals(crystal_mean(quantities, n_atoms)).clamp(-LARGEST, LARGEST)
        of_atoms = functional.l1_loss(precise(self.atom_decoder(nodes)), atoms, reduction="none").mean(1)
        pooled = crystal_mean(nodes, n_atoms)
        of_crystals = functional.l1_loss(precise(self.crystal_decoder(pooled)), crystals, reduction="none").mean(1)
        return over_atoms(of_atoms, None, n_atoms, pooled=True) + of_crystals


def hidden_decoder(node_features: int, outputs: int) -> nn.Sequential:
    """Build a hidden layer as wide as the embeddings, softplus, and a linear layer."""
    return nn.Sequential(Linear(node_features, node_features), nn.Softplus(), Linear(node_features, outputs))


def bonding(batch: CrystalBatch) -> Tensor:
    """Compute bonding quantities of atoms; an atom without bonds has zeros.

    Returns:
        ``[n_atoms_in_all, QUANTITIES]``: charge, coordination, mean bond length, polarity in sum and per bond,
        potential, energy.
    """
    electronegativity, radius = (table.to(batch.bond_vectors)[batch.atomic_numbers, None] for table in element_tables())
    graph = BlockedGraph(batch.connectivity, len(batch.atomic_numbers))
    lengths = batch.bond_lengths()[:, None]
    difference = graph.at_source(electronegativity) - graph.at_destination(electronegativity)
    order = torch.exp(-(lengths / (graph.at_source(radius) + graph.at_destination(radius)) - 1) / SOFTNESS)
    coordination, charge, polarity, length = graph.sum(
        torch.cat([order, order * difference, order * difference**2, order * lengths], dim=1)
    ).split(1, dim=1)
    divisor = coordination.clamp_min(torch.finfo(coordination.dtype).tiny)  # zeros over zero bonds stay zeros
    charge = charge / divisor
    potential = graph.sum(order * graph.at_source(charge))
    return torch.cat(
        [charge, coordination, length / divisor, polarity, polarity / divisor, potential, charge * potential], dim=1
    )


@cache
def element_tables() -> tuple[Tensor, Tensor]:
    """Return electronegativities and covalent radii by atomic number, ``[104]`` each.

    Electronegativities are Pauling's; radii are in Angstrom.
    """
    from jarvis.core.specie import chem_data

    # Row 0, which belongs to no element, keeps atomic numbers as indices.
    known = [ELECTRONEGATIVITIES.get(symbol) or chem_data[symbol]["X"] for symbol in SYMBOLS[1:]]
    return torch.tensor([0.0, *known]), torch.tensor(covalent_radii(), dtype=torch.float32)


def decoy_terms(method: DecoysConfig, node_features: int) -> dict[str, Term]:
    """Build the terms with a nonzero weight, by name.

    Args:
        method: Weights and corruption.
        node_features: Width of the encoder's embeddings.
    """
    terms: dict[str, Term] = {}
    if method.replaced_weight:
        terms["replaced"] = ReplacedAtomTerm(method.replaced_weight, node_features)
    if method.decoy_weight:
        terms["decoy"] = DecoyTerm(method.decoy_weight, node_features)
    if method.bonding_weight:
        terms["bonding"] = BondingTerm(method.bonding_weight, node_features)
    return terms
