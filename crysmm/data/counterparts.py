"""What a network has, as good as, seen already: crystals held out that have a counterpart in the training split.

Structures are compared by the distances between their atoms (:mod:`crysmm.data.duplicates`), those of one formula with
each other. Up to ``TOLERANCE`` they are one structure; up to ``NEAR`` the same phase relaxed once more, at another
volume, or slightly distorted, of which the training label tells nearly everything (docs/design.md has figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from tqdm import tqdm

from crysmm.data.duplicates import TOLERANCE, distance_fingerprint, rows_by_formula
from crysmm.data.store import Store
from crysmm.terminal import disables_bar

NEAR = 0.3  # Angstrom

Kind = Literal["identical", "near-identical", "same formula", ""]


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
