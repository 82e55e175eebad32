"""What is done to structures before an encoder sees them, so that giving them back takes more than copying."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch

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
        replaced_ratio: see :func:`~crysmm.objectives.corruption.substitute`; 0 makes no decoys.
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


REAL, SINGLE_ATOMS, EXCHANGE, WHOLE_ELEMENT = range(4)
KINDS = 4
KEYS_A_CRYSTAL = 128  # more than there are elements


def substitute(batch: CrystalBatch, ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Atomic numbers ``[n_atoms_in_all]`` of a batch in which three crystals of four have become decoys.

    With equal chances a crystal stays as it is; gets another element at single atoms, each with a chance of
    ``ratio``; has two of its elements exchanged, half the time at all atoms that can be paired (but one pair in a
    crystal AB, which could be the same again) and else at so many pairs that ``ratio`` of the atoms change; or has
    one of its elements replaced by another at all its atoms. New elements are those of the batch, each counted once
    for every crystal that has it. By chance, or where a crystal has one element alone, nothing may change: what
    differs afterwards tells.

    There is no loop over crystals. Numbers are drawn on the CPU, so that they are the same on every device.

    Args:
        batch: is left as it is.
        ratio: see above.
        generator: of random numbers, by default torch's global one.
    """
    numbers, n_atoms = batch.atomic_numbers.cpu(), batch.n_atoms.cpu()
    crystals = torch.repeat_interleave(n_atoms)
    # A species is an element in a crystal.
    species, species_of_atom, size = torch.unique(
        crystals * KEYS_A_CRYSTAL + numbers, return_inverse=True, return_counts=True
    )
    crystal_of_species, elements = species // KEYS_A_CRYSTAL, species % KEYS_A_CRYSTAL
    n_species = torch.bincount(crystal_of_species, minlength=len(n_atoms))

    shuffled, first_place, _ = _shuffle_within(crystal_of_species, n_species, generator)
    one = shuffled[first_place]
    other = shuffled[first_place + (n_species > 1).long()]  # the same where there is no other
    _, _, rank = _shuffle_within(species_of_atom, size, generator)

    kind = torch.randint(KINDS, n_atoms.shape, generator=generator)[crystals]
    of_one, of_other = species_of_atom == one[crystals], species_of_atom == other[crystals]
    drawn = elements[torch.randint(len(elements), numbers.shape, generator=generator)]
    drawn_for_crystal = elements[torch.randint(len(elements), n_atoms.shape, generator=generator)][crystals]

    pairs = torch.minimum(size[one], size[other])
    pairs = pairs - ((n_species == 2) & (size[one] == size[other])).long()  # all would be the same crystal in NaCl
    some = (ratio * n_atoms / 2).round().long().clamp_min(1).minimum(pairs)
    exchanged = rank < torch.where(torch.rand(n_atoms.shape, generator=generator) < 0.5, some, pairs)[crystals]
    chosen = torch.rand(numbers.shape, generator=generator) < ratio

    new = numbers.clone()
    new = torch.where((kind == SINGLE_ATOMS) & chosen, drawn, new)
    new = torch.where((kind == EXCHANGE) & exchanged & of_one, elements[other][crystals], new)
    new = torch.where((kind == EXCHANGE) & exchanged & of_other, elements[one][crystals], new)
    new = torch.where((kind == WHOLE_ELEMENT) & of_one, drawn_for_crystal, new)
    return new.to(batch.atomic_numbers.device)


def _shuffle_within(groups: Tensor, sizes: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """The members of each group together, in random order; where each group begins; each member's place in its group.

    Args:
        groups: ``[n]``, the group of each.
        sizes: ``[n_groups]``.
        generator: see :func:`substitute`.
    """
    order = torch.argsort(groups + torch.rand(groups.shape, generator=generator, dtype=torch.float64))
    first = sizes.cumsum(0) - sizes
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - first[groups[order]]
    return order, first, place
