"""What is done to structures before an encoder sees them, so that giving them back takes more than copying."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch
from crysmm.graphs.neighbors import MINIMUM_DISTANCE


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


@dataclass(frozen=True)
class Corruption:
    """Hides the features of some atoms and changes the lengths of bonds.

    Hidden features are zeros, which no element has. Atomic numbers stay: they reach pooled embeddings of GATGNN
    alone, which no objective reads. Random numbers are drawn on the CPU, so that they are the same on every device.

    Args:
        mask_ratio: share of the batch's atoms that are hidden, drawn without regard to their crystal; 0 for none,
            otherwise at least one atom of a batch is.
        distance_noise: deviation of the Gaussian noise on the length of each bond, Angstrom. Every edge has its own,
            a bond's two directions too, and keeps its direction; none gets shorter than two atoms can be apart.
    """

    mask_ratio: float
    distance_noise: float

    def apply(self, batch: CrystalBatch, generator: torch.Generator | None = None) -> Example:
        """The batch as it is to be seen; draws from torch's global random state without a generator."""
        seen, hidden = batch, None
        if self.mask_ratio:
            hidden = self._choose(len(batch.atom_features), generator).to(batch.atom_features.device)
            seen = replace(seen, atom_features=batch.atom_features.masked_fill(hidden[:, None], 0))
        if self.distance_noise:
            seen = replace(seen, bond_vectors=self._stretch(batch.bond_vectors, generator))
        return Example(batch, seen, hidden)

    def _choose(self, n_atoms: int, generator: torch.Generator | None) -> Tensor:
        n_hidden = max(1, round(self.mask_ratio * n_atoms))
        hidden = torch.zeros(n_atoms, dtype=torch.bool)
        hidden[torch.randperm(n_atoms, generator=generator)[:n_hidden]] = True
        return hidden

    def _stretch(self, vectors: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(len(vectors), generator=generator).to(vectors)
        lengths = bond_lengths(vectors)
        return vectors * ((lengths + self.distance_noise * noise).clamp_min(MINIMUM_DISTANCE) / lengths)[:, None]


def bond_lengths(vectors: Tensor) -> Tensor:
    """``[n_edges]`` lengths of ``[n_edges, 3]`` vectors."""
    return torch.linalg.vector_norm(vectors, dim=1)
