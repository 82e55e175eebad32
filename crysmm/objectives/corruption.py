"""What is done to structures before an encoder sees them, so that giving them back takes more than copying."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch
from crysmm.objectives.substitution import substitute

SHORTEST_BOND = 0.1  # Angstrom; noise leaves no bond shorter


@dataclass(frozen=True, eq=False)
class Example:
    """A batch, and what the encoder gets to see of it.

    Args:
        clean: the batch.
        seen: the batch after corruption.
        hidden: ``[n_atoms_in_all]`` bool, the atoms whose features are hidden; ``None`` where no atom's are.
    """

    clean: CrystalBatch
    seen: CrystalBatch
    hidden: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Corruption:
    """Gives some atoms other elements, hides the features of some, and changes the lengths of bonds.

    Hidden features are zeros, which no element has. Atomic numbers of hidden atoms stay: they reach pooled embeddings
    of GATGNN alone, which no objective reads. Random numbers are drawn on the CPU, so that they are the same on every
    device.

    Args:
        mask_ratio: share of the batch's atoms that are hidden, drawn without regard to their crystal; 0 for none,
            otherwise at least one atom of a batch is.
        distance_noise: deviation of the Gaussian noise on the length of each bond, Angstrom. Every edge has its own,
            a bond's two directions too, and keeps its direction; none gets shorter than two atoms can be apart.
        replaced_ratio: see :func:`~crysmm.objectives.substitution.substitute`; 0 makes no decoys.
        features: ``[104, F]``, features of the elements by atomic number; needed for decoys.
    """

    mask_ratio: float
    distance_noise: float
    replaced_ratio: float = 0.0
    features: Tensor | None = None

    def apply(self, batch: CrystalBatch, generator: torch.Generator | None = None) -> Example:
        """The batch as it is to be seen; draws from torch's global random state without a generator."""
        seen, hidden = batch, None
        if self.replaced_ratio:
            seen = self._replace(seen, generator)
        if self.mask_ratio:
            hidden = self._choose(len(batch.atom_features), generator).to(batch.atom_features.device)
            seen = replace(seen, atom_features=seen.atom_features.masked_fill(hidden[:, None], 0))
        if self.distance_noise:
            seen = replace(seen, bond_vectors=self._stretch(seen.bond_vectors, generator))
        return Example(batch, seen, hidden)

    def _replace(self, batch: CrystalBatch, generator: torch.Generator | None) -> CrystalBatch:
        numbers = substitute(batch, self.replaced_ratio, generator)
        assert self.features is not None
        return replace(batch, atomic_numbers=numbers, atom_features=self.features.to(batch.atom_features)[numbers])

    def _choose(self, n_atoms: int, generator: torch.Generator | None) -> Tensor:
        n_hidden = max(1, round(self.mask_ratio * n_atoms))
        hidden = torch.zeros(n_atoms, dtype=torch.bool)
        hidden[torch.randperm(n_atoms, generator=generator)[:n_hidden]] = True
        return hidden

    def _stretch(self, vectors: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(len(vectors), generator=generator).to(vectors)
        lengths = bond_lengths(vectors)
        return vectors * ((lengths + self.distance_noise * noise).clamp_min(SHORTEST_BOND) / lengths)[:, None]


def bond_lengths(vectors: Tensor) -> Tensor:
    """``[n_edges]`` lengths of ``[n_edges, 3]`` vectors."""
    return torch.linalg.vector_norm(vectors, dim=1)
