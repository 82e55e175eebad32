"""What simple rules say of an atom's bonds: quantities that follow from a structure alone, as targets.

With electronegativities X (Pauling) and covalent radii R, a bond from atom j to atom i of length d has the order
``w = exp(-(d / (R_i + R_j) - 1) / 0.2)``. Of each atom's incoming bonds are formed

    q_i = sum w (X_j - X_i) / sum w     a charge, by which electrons go to the more electronegative neighbours
    sum w,  sum w d / sum w             coordination, mean bond length
    sum w (X_j - X_i)^2, and over sum w the energy of polar bonds: Pauling, The nature of the chemical bond (1932)
    sum w q_j,  q_i sum w q_j           potential and energy of the charges around

Rough as they are, they go with formation energies, and no label is needed for them.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from crysmm.data.batch import CrystalBatch
from crysmm.elements import SYMBOLS
from crysmm.engines.blocked import BlockedGraph
from crysmm.engines.linear import precise
from crysmm.engines.normalization import BatchNorm
from crysmm.models.layers import crystal_mean
from crysmm.objectives.corruption import Example, bond_lengths
from crysmm.objectives.terms import Term, hidden_decoder, over_atoms

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
