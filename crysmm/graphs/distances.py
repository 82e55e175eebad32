"""Sorted interatomic distances, by which a structure is known whatever its cell, origin, rotation or atom order.

For each pair of elements the distances up to ``SEARCH_RADIUS`` are sorted; those of two structures are compared one by
one, at the same number of neighbors per atom. Displacing every atom by d changes none of these by more than 2d, and a
supercell has the distances of its cell. Structures that differ only farther away (long stackings of the same layers)
and mirror images have the same distances: the backbones see distances and angles of neighbors and can hardly tell them
apart either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.graphs.neighbors import find_edges

SEARCH_RADIUS = 8.0  # Angstrom; stacking variants of layers first differ in the third shell
RANKS = np.arange(0.25, 60, 0.5)  # neighbors per atom of the sampled distances
_SEARCH = GraphSettings(neighbor_strategy="radius", cutoff=SEARCH_RADIUS)


@dataclass(frozen=True)
class SortedDistances:
    """Lengths that do not depend on cell, origin or orientation.

    Args:
        size: Cube root of the volume per atom, Angstrom.
        n_atoms: Number of atoms of the first element of each pair of elements.
        distances: Distances up to ``SEARCH_RADIUS`` for each pair of elements, ascending, Angstrom.
    """

    size: float
    n_atoms: Sequence[int]
    distances: Sequence[np.ndarray]

    def fingerprint(self) -> np.ndarray:
        """Return a sample of the lengths, which is as long for all crystals of a formula.

        The first is the size. Then follow the distances of each pair of elements at ``RANKS`` neighbors per atom of the
        first element, or ``SEARCH_RADIUS`` if there are fewer neighbors: ``[1 + len(RANKS) * n_element_pairs]``.
        """
        parts = [np.array([self.size])]
        for n_atoms, distances in zip(self.n_atoms, self.distances, strict=True):
            parts.append(_at(np.floor(RANKS * n_atoms).astype(int), distances))
        return np.concatenate(parts)

    def difference(self, other: SortedDistances) -> float:
        """Return the largest difference from the lengths of another crystal of the same formula, Angstrom."""
        largest = abs(self.size - other.size)
        for first, second, one, two in zip(self.n_atoms, other.n_atoms, self.distances, other.distances, strict=True):
            # Both lists as functions of the number of neighbors per atom, in steps; compared where either has one.
            divisor = math.gcd(first, second)
            width, other_width = second // divisor, first // divisor
            steps = np.union1d(np.arange(len(one) + 1) * width, np.arange(len(two) + 1) * other_width)
            apart = _at(steps // width, one) - _at(steps // other_width, two)
            largest = max(largest, float(np.abs(apart).max()))
        return largest


def _at(places: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the distances at some places of their list, and ``SEARCH_RADIUS`` beyond its end."""
    return np.append(distances, SEARCH_RADIUS)[np.minimum(places, len(distances))]


def sorted_distances(crystal: Crystal) -> SortedDistances:
    """Find the distances of a crystal by pairs of elements, in the order of their atomic numbers.

    Raises:
        StructureError: Atoms overlap, or the cell is too thin to search.
    """
    edges = find_edges(crystal, _SEARCH)
    lengths = np.linalg.norm(edges.vectors(crystal), axis=1).clip(max=SEARCH_RADIUS)
    source, destination = crystal.atomic_numbers[edges.source], crystal.atomic_numbers[edges.destination]
    pairs = list(combinations_with_replacement(np.unique(crystal.atomic_numbers), 2))
    return SortedDistances(
        float(np.cbrt(crystal.volume / len(crystal))),
        [int(np.count_nonzero(crystal.atomic_numbers == first)) for first, _ in pairs],
        [np.sort(lengths[(source == first) & (destination == second)]) for first, second in pairs],
    )
