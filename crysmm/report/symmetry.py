"""Space groups of the crystals a report groups by crystal system: of so many as take seconds to find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crysmm.data.space_groups import find_space_group
from crysmm.data.store import Store

MOST_FOUND = 1000  # about a millisecond each


def find_space_groups(store: Store, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Space groups of some crystals; of more than ``MOST_FOUND``, of so many, drawn at random, but always the same.

    Returns:
        Places in ``rows``, and the space group of each, 0 where none was found.
    """
    places = np.arange(len(rows))
    if len(rows) > MOST_FOUND:
        places = np.sort(np.random.default_rng(0).choice(len(rows), MOST_FOUND, replace=False))
    return places, np.array([find_space_group(store.crystal(rows[int(place)])) for place in places])
