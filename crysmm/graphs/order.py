"""Order of integers that are far fewer than their places, such as the atom of each bond."""

from __future__ import annotations

import numpy as np


def stable_order(keys: np.ndarray, end: int) -> np.ndarray:
    """Return the permutation that sorts integers below ``end`` and keeps equal ones in order."""
    # numpy sorts integers of up to 16 bits by counting, 20 times faster than it compares larger ones
    return np.argsort(keys.astype(np.min_scalar_type(end)), kind="stable")
