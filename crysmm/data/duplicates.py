"""Find duplicate structures, and near-duplicates across splits, whatever their cell, origin, rotation or atom order.

Two structures are the same if they have the same formula and their interatomic distances agree: for each pair of
elements the distances up to ``SEARCH_RADIUS`` are sorted and compared at the same number of neighbors per atom.
Displacing every atom by d changes none of these by more than 2d, and a supercell has the distances of its cell.
Structures that differ only farther away (long stackings of the same layers) and mirror images count as the same:
the backbones see distances and angles of neighbors and can hardly tell them apart either.
"""

from __future__ import annotations

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
    from sklearn.cluster import DBSCAN

    candidates = [rows for rows in rows_by_formula(formulas, range(len(formulas))).values() if len(rows) > 1]
    groups: list[list[int]] = []
    with progress_bar("comparing structures", sum(map(len, candidates)), "structures", shown=progress) as bar:
        for rows in candidates:
            fingerprints = np.array([distance_fingerprint(crystal(row)) for row in rows])
            labels = DBSCAN(eps=TOLERANCE, min_samples=2, metric="chebyshev").fit_predict(fingerprints)
            groups += [[rows[place] for place in np.flatnonzero(labels == label)] for label in range(max(labels) + 1)]
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


def distance_fingerprint(crystal: Crystal) -> np.ndarray:
    """Return lengths that do not depend on cell, origin or orientation, Angstrom.

    The first is the cube root of the volume per atom. Then follow, for each pair of elements, the sorted distances at
    ``RANKS`` neighbors per atom of the first element, or ``SEARCH_RADIUS`` if there are fewer neighbors. The array is
    ``[1 + len(RANKS) * n_element_pairs]``.
    """
    edges = find_edges(crystal, _SEARCH)
    distances = np.linalg.norm(edges.vectors(crystal), axis=1)
    source, destination = crystal.atomic_numbers[edges.source], crystal.atomic_numbers[edges.destination]
    parts = [np.cbrt([crystal.volume / len(crystal)])]
    for first, second in combinations_with_replacement(np.unique(crystal.atomic_numbers), 2):
        ordered = np.sort(distances[(source == first) & (destination == second)])
        places = np.floor(RANKS * np.count_nonzero(crystal.atomic_numbers == first)).astype(int)
        padded = np.append(ordered, SEARCH_RADIUS)
        parts.append(np.minimum(padded[np.minimum(places, len(ordered))], SEARCH_RADIUS))
    return np.concatenate(parts)


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
            known = np.array([distance_fingerprint(crystal) for crystal in store.crystals(others)])
            for row, crystal in zip(rows, store.crystals(rows), strict=True):
                differences = np.abs(known - distance_fingerprint(crystal)).max(axis=1)
                nearest = int(differences.argmin())
                found[row] = Counterpart(row, others[nearest], float(differences[nearest]), len(others))
            bar.update(len(rows) + len(others))
    return [found[row] for row in held_out]
