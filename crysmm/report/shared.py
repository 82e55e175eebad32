"""What crystals held out have in common with the training split, as far as seconds tell; ``crysmm audit`` tells all."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.data.counterparts import Counterpart, find_counterparts
from crysmm.data.duplicates import rows_by_formula
from crysmm.data.store import Store
from crysmm.report.judged import Judged
from crysmm.report.numbers import share
from crysmm.report.parts import Table
from crysmm.runs.plots import TITLES

MOST_COMPARED = 1000  # structures, about a millisecond each


@dataclass(frozen=True)
class Shared:
    """What a split shares with the training split.

    Args:
        has_formula: ``[n]`` whether a training crystal has a crystal's formula.
        counterparts: by row of the store, of the crystals with such a formula whose structures were compared.
    """

    has_formula: np.ndarray
    counterparts: Mapping[int, Counterpart]

    def kinds(self, rows: Sequence[int]) -> np.ndarray:
        """``[n]`` how alike each crystal and its counterpart are, empty where that is not known."""
        return np.array([self.counterparts[row].kind if row in self.counterparts else "" for row in rows])


def find_shared(store: Store, training: Sequence[int], rows: Sequence[int], first: Sequence[int]) -> Shared:
    """Look for the formulas of some crystals in the training split, and compare the structures of some of these.

    Args:
        store: the crystals.
        training: rows learned from.
        rows: held out.
        first: those of them to compare before others.
    """
    of_training, held_out = rows_by_formula(store.formulas, training), rows_by_formula(store.formulas, rows)
    has_formula = np.array([store.formulas[row] in of_training for row in rows])
    formulas = sorted(held_out.keys() & of_training.keys())
    random.Random(0).shuffle(formulas)
    wanted = {store.formulas[row] for row in first}
    formulas.sort(key=lambda formula: formula not in wanted)
    compared: list[int] = []
    left = MOST_COMPARED
    for formula in formulas:
        cost = len(held_out[formula]) + len(of_training[formula])
        if cost <= left:
            left -= cost
            compared += held_out[formula]
    found = find_counterparts(store, training, compared, progress=False)
    return Shared(has_formula, {counterpart.row: counterpart for counterpart in found})


def shared_table(judged: Judged, shared: Shared) -> Table:
    """How far off the crystals are that have something in common with training crystals, and those that have not."""
    kinds = shared.kinds(judged.rows)
    domain = judged.assessment.domain
    groups = {
        "all": np.ones(len(kinds), dtype=bool),
        "formula of a training crystal": shared.has_formula,
        "identical structure in training": kinds == "identical",
        "near-identical structure in training": kinds == "near-identical",
        "formula of no training crystal": ~shared.has_formula,
        **({} if domain is None else {"unlike the training crystals": np.array([bool(note) for note in domain])}),
    }
    errors = judged.errors
    rows = [
        [
            name,
            f"{members.sum():,}",
            share(members.mean()),
            errors.text(errors.values[members].mean()) if members.any() else "-",
        ]
        for name, members in groups.items()
    ]
    n_left = int(shared.has_formula.sum()) - len(shared.counterparts)
    left = f"; of {n_left:,} with a shared formula, structures were not compared: crysmm audit does" if n_left else ""
    caption = f"What {TITLES[judged.split]} crystals share with the training split{left}"
    return Table(caption, ["crystals", "number", "share", errors.measure], rows)
