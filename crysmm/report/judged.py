"""The split that a report judges a model by, crystal by crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.data.store import Store
from crysmm.inference.assessment import Assessment
from crysmm.report.errors import CrystalErrors


@dataclass(frozen=True)
class Judged:
    """Crystals that were not learned from, and what was predicted.

    Args:
        split: ``test``, or ``val`` where there is no test split.
        store: of all crystals.
        rows: of the split's crystals in the store.
        targets: ``[n, n_targets]`` original units.
        assessment: the predictions.
        errors: of the predictions.
    """

    split: str
    store: Store
    rows: Sequence[int]
    targets: np.ndarray
    assessment: Assessment
    errors: CrystalErrors

    @property
    def ids(self) -> list[str]:
        """One a crystal."""
        return [self.store.ids[row] for row in self.rows]

    @property
    def formulas(self) -> list[str]:
        """One a crystal."""
        return [self.store.formulas[row] for row in self.rows]
