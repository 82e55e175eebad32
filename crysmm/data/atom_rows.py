"""Rows of numbers per atom, beside the graphs of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class AtomRows(Protocol):
    """Rows of numbers for the atoms of a store's crystals.

    Attributes:
        width: Number of columns.
        source: Identifier of the teacher or file they come from.
    """

    width: int

    @property
    def source(self) -> str: ...  # noqa: D102

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows of all atoms in some crystals, ``[n_atoms_in_all, width]`` float32."""
        ...
