"""Which rows are one structure: in other cells, at other origins, turned, or with their atoms in another order.

Two structures count as one if they have the same formula and their interatomic distances agree: for each pair of
elements the distances up to ``SEARCH_RADIUS`` are sorted, and compared at the same number of neighbours per atom.
Moving every atom by d changes none of these by more than 2d, and a cell has those of its supercells. What differs
farther away only (long stackings of the same layers), and a crystal and its mirror image, count as one too: the
backbones see distances and angles of neighbours, and hardly tell them apart either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
from tqdm import tqdm

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.data.store import Store
from crysmm.files import disables_bar
from crysmm.graphs.neighbors import find_edges

TOLERANCE = 0.01  # Angstrom
SEARCH_RADIUS = 8.0  # Angstrom; two stackings of layers differ first in the third shell
RANKS = np.arange(0.25, 60, 0.5)  # neighbours per atom at which distances are compared
_SEARCH = GraphSettings(neighbor_strategy="radius", cutoff=SEARCH_RADIUS)
NEAR = 0.3  # Angstrom
Kind = Literal["identical", "near-identical", "same formula", ""]


def find_duplicates(
    formulas: Sequence[str], crystal: Callable[[int], Crystal], *, progress: bool = True
) -> list[list[int]]:
    """Groups of rows that hold the same structure within ``TOLERANCE``.

    Args:
        formulas: reduced formula of each row.
        crystal: gives the structure of a row; asked only where a formula occurs more than once.
        progress: show a bar.
    """
    from sklearn.cluster import DBSCAN

    candidates = [rows for rows in rows_by_formula(formulas, range(len(formulas))).values() if len(rows) > 1]
    groups: list[list[int]] = []
    hidden = disables_bar(progress)
    with tqdm(total=sum(map(len, candidates)), desc="comparing structures", disable=hidden, delay=1) as bar:
        for rows in candidates:
            fingerprints = np.array([distance_fingerprint(crystal(row)) for row in rows])
            labels = DBSCAN(eps=TOLERANCE, min_samples=2, metric="chebyshev").fit_predict(fingerprints)
            groups += [[rows[place] for place in np.flatnonzero(labels == label)] for label in range(max(labels) + 1)]
            bar.update(len(rows))
    return sorted(groups)


def rows_by_formula(formulas: Sequence[str], rows: Iterable[int]) -> dict[str, list[int]]:
    """The rows of each formula, in their order.

    Args:
        formulas: of every row there is.
        rows: those to group.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        rows_of[formulas[row]].append(row)
    return rows_of


def distance_fingerprint(crystal: Crystal) -> np.ndarray:
    """``[1 + len(RANKS) * n_pairs_of_elements]`` lengths in Angstrom that neither cell, origin nor orientation changes.

    First the cube root of the volume per atom; then, pair by pair, the sorted distances at ``RANKS`` neighbours
    per atom of the first element, ``SEARCH_RADIUS`` where there are not so many.
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
    """What the training split holds that is like a crystal held out.

    Args:
        row: of the crystal in the store.
        nearest: row of the training crystal of its formula with the most similar structure; None if there is none.
        difference: largest difference of their sorted interatomic distances, Angstrom; infinite if there is none.
        n_same_formula: training crystals of its formula.
    """

    row: int
    nearest: int | None = None
    difference: float = np.inf
    n_same_formula: int = 0

    @property
    def kind(self) -> Kind:
        """How alike the two are."""
        if self.difference <= TOLERANCE:
            return "identical"
        if self.difference <= NEAR:
            return "near-identical"
        return "same formula" if self.n_same_formula else ""


def find_counterparts(
    store: Store, training: Sequence[int], held_out: Sequence[int], *, progress: bool = True
) -> list[Counterpart]:
    """The counterpart of each crystal held out.

    Args:
        store: the crystals.
        training: rows learned from.
        held_out: rows to look up.
        progress: show a bar.
    """
    training_rows = rows_by_formula(store.formulas, training)
    found = {row: Counterpart(row) for row in held_out}
    shared = [
        (rows, training_rows[formula])
        for formula, rows in rows_by_formula(store.formulas, held_out).items()
        if formula in training_rows
    ]
    n_rows = sum(len(rows) + len(others) for rows, others in shared)
    with tqdm(total=n_rows, desc="comparing structures", disable=disables_bar(progress), delay=1) as bar:
        for rows, others in shared:
            known = np.array([distance_fingerprint(store.crystal(other)) for other in others])
            for row in rows:
                differences = np.abs(known - distance_fingerprint(store.crystal(row))).max(axis=1)
                nearest = int(differences.argmin())
                found[row] = Counterpart(row, others[nearest], float(differences[nearest]), len(others))
            bar.update(len(rows) + len(others))
    return [found[row] for row in held_out]
