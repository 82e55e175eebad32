"""Find duplicate structures, and near-duplicates across splits, whatever their cell, origin, rotation or atom order.

Two structures are the same if they have the same formula and their interatomic distances agree: for each pair of
elements the distances up to ``SEARCH_RADIUS`` are sorted and compared one by one, at the same number of neighbors per
atom. Displacing every atom by d changes none of these by more than 2d, and a supercell has the distances of its cell.
Structures that differ only farther away (long stackings of the same layers) and mirror images count as the same:
the backbones see distances and angles of neighbors and can hardly tell them apart either. A sample of the distances,
the fingerprint, finds the few pairs whose distances need to be compared.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Literal

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.graphs.neighbors import find_edges
from crysmm.progress import progress_bar

if TYPE_CHECKING:
    from crysmm.data.store import Store  # imports torch, which worker processes and splits do without

TOLERANCE = 0.01  # Angstrom
NEAR = 0.3  # Angstrom
SEARCH_RADIUS = 8.0  # Angstrom; stacking variants of layers first differ in the third shell
RANKS = np.arange(0.25, 60, 0.5)  # neighbors per atom at which distances are compared
_SEARCH = GraphSettings(neighbor_strategy="radius", cutoff=SEARCH_RADIUS)
Kind = Literal["identical", "near-identical", "same formula", ""]


def find_duplicates(
    formulas: Sequence[str], crystal: Callable[[int], Crystal], *, progress: bool = True
) -> list[list[int]]:
    """Group rows that hold the same structure within ``TOLERANCE``.

    Args:
        formulas: Reduced formula of each row.
        crystal: Function that returns the structure of a row; called only for formulas that occur more than once.
        progress: True to show a progress bar.
    """
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import NearestNeighbors

    candidates = [rows for rows in rows_by_formula(formulas, range(len(formulas))).values() if len(rows) > 1]
    groups: list[list[int]] = []
    with progress_bar("comparing structures", sum(map(len, candidates)), "structures", shown=progress) as bar:
        for rows in candidates:
            distances = [sorted_distances(crystal(row)) for row in rows]
            apart = np.full((len(rows), len(rows)), np.inf)
            fingerprints = np.array([one.fingerprint() for one in distances])
            near = NearestNeighbors(radius=TOLERANCE, metric="chebyshev").fit(fingerprints).radius_neighbors()[1]
            for one, others in enumerate(near):
                for other in others[others > one]:
                    apart[one, other] = apart[other, one] = distances[one].difference(distances[other])
            _, labels = connected_components(apart <= TOLERANCE, directed=False)
            groups += [
                [rows[place] for place in np.flatnonzero(labels == label)]
                for label in np.flatnonzero(np.bincount(labels) > 1)
            ]
            bar.update(len(rows))
    return sorted(groups)


def rows_by_formula(formulas: Sequence[str], rows: Iterable[int]) -> dict[str, list[int]]:
    """Group rows by formula, in order.

    Args:
        formulas: Reduced formula of every row.
        rows: Rows to group.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        rows_of[formulas[row]].append(row)
    return rows_of


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
            places = np.minimum(np.floor(RANKS * n_atoms).astype(int), len(distances))
            parts.append(np.append(distances, SEARCH_RADIUS)[places])
        return np.concatenate(parts)

    def difference(self, other: SortedDistances) -> float:
        """Return the largest difference from the lengths of another crystal of the same formula, Angstrom."""
        largest = abs(self.size - other.size)
        for first, second, *pair in zip(self.n_atoms, other.n_atoms, self.distances, other.distances, strict=True):
            common = math.lcm(first, second)
            one, two = np.repeat(pair[0], common // first), np.repeat(pair[1], common // second)
            padding = np.full(abs(len(one) - len(two)), SEARCH_RADIUS)
            shorter, longer = sorted((one, two), key=len)
            apart = np.abs(np.append(shorter, padding) - longer)
            largest = max(largest, float(apart.max(initial=0)))
        return largest


def sorted_distances(crystal: Crystal) -> SortedDistances:
    """Find the distances of a crystal by pairs of elements, in the order of their atomic numbers."""
    edges = find_edges(crystal, _SEARCH)
    lengths = np.linalg.norm(edges.vectors(crystal), axis=1).clip(max=SEARCH_RADIUS)
    source, destination = crystal.atomic_numbers[edges.source], crystal.atomic_numbers[edges.destination]
    pairs = list(combinations_with_replacement(np.unique(crystal.atomic_numbers), 2))
    return SortedDistances(
        float(np.cbrt(crystal.volume / len(crystal))),
        [int(np.count_nonzero(crystal.atomic_numbers == first)) for first, _ in pairs],
        [np.sort(lengths[(source == first) & (destination == second)]) for first, second in pairs],
    )


@dataclass(frozen=True)
class Counterpart:
    """Most similar training crystal of a held-out crystal.

    Args:
        row: Store row of the held-out crystal.
        nearest: Store row of the most similar training crystal with the same formula, or None.
        difference: Largest difference between their sorted interatomic distances, Angstrom; infinite without one.
        n_same_formula: Number of training crystals with the same formula.
    """

    row: int
    nearest: int | None = None
    difference: float = np.inf
    n_same_formula: int = 0

    @property
    def kind(self) -> Kind:
        """Degree of similarity."""
        if self.difference <= TOLERANCE:
            return "identical"
        if self.difference <= NEAR:
            return "near-identical"
        return "same formula" if self.n_same_formula else ""


def find_counterparts(
    store: Store, training: Sequence[int], held_out: Sequence[int], *, progress: bool = True
) -> list[Counterpart]:
    """Find the most similar training crystal of each held-out crystal.

    Args:
        store: Store with all crystals.
        training: Rows of the training split.
        held_out: Rows to look up.
        progress: True to show a progress bar.
    """
    training_rows = rows_by_formula(store.formulas, training)
    found = {row: Counterpart(row) for row in held_out}
    shared = [
        (rows, training_rows[formula])
        for formula, rows in rows_by_formula(store.formulas, held_out).items()
        if formula in training_rows
    ]
    n_rows = sum(len(rows) + len(others) for rows, others in shared)
    with progress_bar("comparing structures", n_rows, "structures", shown=progress) as bar:
        for rows, others in shared:
            known = [sorted_distances(crystal) for crystal in store.crystals(others)]
            fingerprints = np.array([one.fingerprint() for one in known])
            for row, crystal in zip(rows, store.crystals(rows), strict=True):
                place, difference = _nearest(sorted_distances(crystal), known, fingerprints)
                found[row] = Counterpart(row, others[place], difference, len(others))
            bar.update(len(rows) + len(others))
    return [found[row] for row in held_out]


def _nearest(
    distances: SortedDistances, known: Sequence[SortedDistances], fingerprints: np.ndarray
) -> tuple[int, float]:
    """Return the place of the most similar of some crystals of a formula, and its difference."""
    nearest, smallest = 0, math.inf
    at_least = np.abs(fingerprints - distances.fingerprint()).max(axis=1)  # a sample differs by no more than the whole
    for place in at_least.argsort(kind="stable").tolist():
        if at_least[place] >= smallest:
            break
        if (difference := distances.difference(known[place])) < smallest:
            nearest, smallest = place, difference
    return nearest, smallest
