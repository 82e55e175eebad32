"""Interface of what is known of a store's atoms beside their graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class AtomRows(Protocol):
    """Rows of numbers for the atoms of a store's crystals.

    Attributes:
        width: Number of columns.
        source: What they are from; identifies them.
    """

    width: int

    @property
    def source(self) -> str: ...  # noqa: D102

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows of all atoms in some crystals, ``[n_atoms_in_all, width]`` float32."""
        ...
