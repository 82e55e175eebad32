"""Find duplicate structures, and near-duplicates across splits, whatever their cell, origin, rotation or atom order.

Two structures are the same if they have the same formula and their interatomic distances agree
(:mod:`crysmm.graphs.distances`). A sample of the distances, the fingerprint, finds the few pairs that need to be
compared.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from crysmm.crystals.crystal import Crystal
from crysmm.graphs.distances import SortedDistances, sorted_distances
from crysmm.progress import progress_bar

if TYPE_CHECKING:
    from crysmm.data.store import Store  # imports torch, which worker processes and splits do without

TOLERANCE = 0.01  # Angstrom
NEAR = 0.3  # Angstrom
Kind = Literal["identical", "near-identical", "same formula", ""]


def find_duplicates(
    formulas: Sequence[str], crystals: Callable[[list[int]], Iterable[Crystal]], *, progress: bool = True
) -> list[list[int]]:
    """Group rows that hold the same structure within ``TOLERANCE``.

    Args:
        formulas: Reduced formula of each row.
        crystals: Function that returns the structures of some rows; called only for formulas that occur more than once.
        progress: True to show a progress bar.
    """
    candidates = [rows for rows in rows_by_formula(formulas, range(len(formulas))).values() if len(rows) > 1]
    groups: list[list[int]] = []
    with progress_bar("comparing structures", sum(map(len, candidates)), "structures", shown=progress) as bar:
        for rows in candidates:
            groups += _groups_of_one_formula(rows, crystals)
            bar.update(len(rows))
    return sorted(groups)


def _groups_of_one_formula(
    rows: Sequence[int], crystals: Callable[[list[int]], Iterable[Crystal]]
) -> Iterator[list[int]]:
    """Yield groups of rows; the distances of rows with close fingerprints decide."""
    from scipy.sparse import coo_array, triu
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import radius_neighbors_graph

    fingerprints = np.array([sorted_distances(crystal).fingerprint() for crystal in crystals(list(rows))])
    near = radius_neighbors_graph(fingerprints, TOLERANCE, metric="chebyshev")
    pairs = list(zip(*map(np.ndarray.tolist, triu(near, 1).nonzero()), strict=True))
    if not pairs:
        return
    places = sorted({place for pair in pairs for place in pair})
    of_places = map(sorted_distances, crystals([rows[place] for place in places]))
    distances = dict(zip(places, of_places, strict=True))
    same = [(one, other) for one, other in pairs if distances[one].difference(distances[other]) <= TOLERANCE]
    edges = np.array(same, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(same)), tuple(edges)), shape=(len(rows), len(rows)))
    labels = connected_components(graph, directed=False)[1]
    for label in np.flatnonzero(np.bincount(labels) > 1):
        yield [rows[place] for place in np.flatnonzero(labels == label).tolist()]


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
            known = store.crystals(others)
            fingerprints = np.array([sorted_distances(crystal).fingerprint() for crystal in known])
            for row, crystal in zip(rows, store.crystals(rows), strict=True):
                place, difference = _nearest(sorted_distances(crystal), known, fingerprints)
                found[row] = Counterpart(row, others[place], difference, len(others))
            bar.update(len(rows) + len(others))
    return [found[row] for row in held_out]


def _nearest(distances: SortedDistances, known: Sequence[Crystal], fingerprints: np.ndarray) -> tuple[int, float]:
    """Return the place of the most similar of some crystals of a formula, and its difference."""
    nearest, smallest = 0, math.inf
    at_least = np.abs(fingerprints - distances.fingerprint()).max(axis=1)  # a sample differs by no more than the whole
    for place in at_least.argsort(kind="stable").tolist():
        if at_least[place] >= smallest:
            break
        if (difference := distances.difference(sorted_distances(known[place]))) < smallest:
            nearest, smallest = place, difference
    return nearest, smallest
