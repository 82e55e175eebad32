"""Corruption of structures before an encoder sees them, so that reconstructing them takes more than copying."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch

SHORTEST_BOND = 0.1  # Angstrom; noise makes no bond shorter, as two atoms of a crystal cannot be closer

KINDS = 4  # of substitution, equally likely: none, and the following
_, SINGLE_ATOMS, EXCHANGE, WHOLE_ELEMENT = range(KINDS)
KEYS_PER_CRYSTAL = 128  # more than there are elements


@dataclass(frozen=True, eq=False)
class Example:
    """A batch and its corrupted version.

    Args:
        clean: Batch before corruption.
        seen: Batch after corruption, the encoder's input.
        hidden: Mask of the atoms whose features are hidden, ``[n_atoms_in_all]`` bool, or ``None`` if none are.
    """

    clean: CrystalBatch
    seen: CrystalBatch
    hidden: Tensor | None = None

    @cached_property
    def replaced(self) -> Tensor:
        """Mask of the atoms that have been replaced, ``[n_atoms_in_all]`` bool."""
        # Decided by comparison, since substitution may have drawn the same element again.
        return self.seen.atomic_numbers != self.clean.atomic_numbers

    @cached_property
    def decoys(self) -> Tensor:
        """Mask of the crystals with at least one replaced atom, ``[n_crystals]`` bool."""
        replaced = self.replaced.to(torch.float32)
        return torch.segment_reduce(replaced, "max", lengths=self.clean.n_atoms, unsafe=True) > 0


@dataclass(frozen=True, eq=False)
class Corruption:
    """Corrupts batches: substitutes elements, hides atom features and adds noise to bond lengths.

    Hidden features are set to zeros, which no element has. The atomic numbers of hidden atoms stay: they only reach
    the pooled embeddings of GATGNN, which no pre-training loss reads. Random numbers are drawn on the CPU, so that
    they are the same on every device.

    Args:
        mask_ratio: Fraction of the atoms of a batch to hide, drawn regardless of their crystal; at least one atom is
            hidden unless it is 0.
        distance_noise: Standard deviation of the Gaussian noise on bond lengths, Angstrom. Every edge has its own
            noise, even the two directions of one bond; directions stay, and no bond gets shorter than 0.1 Angstrom.
        replaced_ratio: See :func:`substitute`; 0 makes no decoys.
        features: Atom features of the elements by atomic number, ``[104, F]``; needed for decoys.
    """

    mask_ratio: float
    distance_noise: float
    replaced_ratio: float = 0.0
    features: Tensor | None = None

    def apply(self, batch: CrystalBatch, generator: torch.Generator | None = None) -> Example:
        """Corrupt a batch.

        Args:
            batch: Batch to corrupt; it is left unchanged.
            generator: Source of random numbers, by default torch's global one.
        """
        seen, hidden = batch, None
        if self.replaced_ratio:
            assert self.features is not None
            numbers = substitute(batch, self.replaced_ratio, generator)
            features = self.features.to(batch.atom_features)[numbers]
            seen = replace(seen, atomic_numbers=numbers, atom_features=features)
        if self.mask_ratio:  # after substitution, which would fill hidden features again
            n_atoms = len(batch.atom_features)
            n_hidden = max(1, round(self.mask_ratio * n_atoms))
            hidden = torch.zeros(n_atoms, dtype=torch.bool)
            hidden[torch.randperm(n_atoms, generator=generator)[:n_hidden]] = True
            hidden = hidden.to(batch.atom_features.device)
            seen = replace(seen, atom_features=seen.atom_features.masked_fill(hidden[:, None], 0))
        if self.distance_noise:
            vectors = seen.bond_vectors
            noise = torch.randn(len(vectors), generator=generator).to(vectors)
            lengths = seen.bond_lengths()
            scale = (lengths + self.distance_noise * noise).clamp_min(SHORTEST_BOND) / lengths
            seen = replace(seen, bond_vectors=vectors * scale[:, None])
        return Example(batch, seen, hidden)


def substitute(batch: CrystalBatch, ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Return the atomic numbers of a batch in which about three of four crystals have become decoys.

    One of four things happens to each crystal, with equal probability:

    - It stays unchanged.
    - Single atoms, each with probability ``ratio``, get another element.
    - Two of its elements are exchanged. Half the time at as many pairs of atoms as there are, less one pair if that
      could give the same crystal again (AB); otherwise at as many pairs as change a fraction ``ratio`` of the atoms.
    - One of its elements is replaced by another at all its sites.

    New elements are drawn from those of the batch, each counted once per crystal that contains it. By chance, or in a
    crystal of one element, nothing may change, so only a comparison with the input shows which crystals are decoys.

    There is no loop over crystals, and numbers are drawn on the CPU, so that they are the same on every device.

    Args:
        batch: Batch of real crystals; it is left unchanged.
        ratio: Fraction of the atoms to replace, where not a whole element is replaced.
        generator: Source of random numbers, by default torch's global one.

    Returns:
        Atomic numbers, ``[n_atoms_in_all]`` int64.
    """
    numbers, n_atoms = batch.atomic_numbers.cpu(), batch.n_atoms.cpu()
    crystals = torch.repeat_interleave(n_atoms)
    # A species is an element in a crystal, here with the number of its atoms.
    species, species_of_atom, size = torch.unique(
        crystals * KEYS_PER_CRYSTAL + numbers, return_inverse=True, return_counts=True
    )
    crystal_of_species, elements = species // KEYS_PER_CRYSTAL, species % KEYS_PER_CRYSTAL
    n_species = torch.bincount(crystal_of_species, minlength=len(n_atoms))

    # Draw two species per crystal, and for each atom its rank among the atoms of its species.
    shuffled, first_place, _ = _shuffle_within(crystal_of_species, n_species, generator)
    one = shuffled[first_place]
    other = shuffled[first_place + (n_species > 1).long()]  # the same one in a crystal of one element
    _, _, rank = _shuffle_within(species_of_atom, size, generator)

    # The order of the draws below is part of reproducibility: a seed gives the same decoys in every version.
    kind = torch.randint(KINDS, n_atoms.shape, generator=generator)[crystals]
    of_one, of_other = species_of_atom == one[crystals], species_of_atom == other[crystals]
    drawn = elements[torch.randint(len(elements), numbers.shape, generator=generator)]
    drawn_for_crystal = elements[torch.randint(len(elements), n_atoms.shape, generator=generator)][crystals]

    pairs = torch.minimum(size[one], size[other])
    pairs = pairs - ((n_species == 2) & (size[one] == size[other])).long()  # NaCl with all exchanged is NaCl again
    some = (ratio * n_atoms / 2).round().long().clamp_min(1).minimum(pairs)  # each pair changes two atoms
    exchanged = rank < torch.where(torch.rand(n_atoms.shape, generator=generator) < 0.5, some, pairs)[crystals]
    chosen = torch.rand(numbers.shape, generator=generator) < ratio

    new = numbers.clone()
    new = torch.where((kind == SINGLE_ATOMS) & chosen, drawn, new)
    new = torch.where((kind == EXCHANGE) & exchanged & of_one, elements[other][crystals], new)
    new = torch.where((kind == EXCHANGE) & exchanged & of_other, elements[one][crystals], new)
    new = torch.where((kind == WHOLE_ELEMENT) & of_one, drawn_for_crystal, new)
    return new.to(batch.atomic_numbers.device)


def _shuffle_within(groups: Tensor, sizes: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """Shuffle members within their groups.

    Args:
        groups: Group of each member, ``[n]`` int64.
        sizes: Number of members per group, ``[n_groups]``.
        generator: Source of random numbers.

    Returns:
        The members ordered by group and randomly within each group, ``[n]``; the position of the first member of each
        group in that order, ``[n_groups]``; and the rank of each member within its group, ``[n]``.
    """
    # Sorting group + [0, 1) orders by group and randomly within it. The sum is in fp64, as fp32 would leave the
    # fraction few digits in large batches.
    order = torch.argsort(groups + torch.rand(groups.shape, generator=generator, dtype=torch.float64))
    first = sizes.cumsum(0) - sizes
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - first[groups[order]]
    return order, first, rank
