"""Element features of the atoms, as jarvis-tools tabulates them."""

from __future__ import annotations

from functools import cache

import numpy as np

from crysmm.config.graph import AtomFeatures
from crysmm.elements import SYMBOLS

CGCNN_LAST_ELEMENT = 100  # Fm; JARVIS gives its features to Md, No and Lr, with a warning printed for each


@cache
def feature_table(atom_features: AtomFeatures) -> np.ndarray:
    """Features of every element, to be indexed with atomic numbers.

    Args:
        atom_features: ``cgcnn`` (92 columns, Xie and Grossman 2018), ``basic`` (11), ``atomic_number`` (1) or
            ``cfid`` (438, Choudhary et al. 2018). ``cgcnn`` ends at Fm: Md, No and Lr have Fm's row, as in JARVIS.

    Returns:
        ``[104, F]`` float32, read-only. Row Z belongs to the element of atomic number Z; row 0 is zero.
    """
    from jarvis.core.specie import get_node_attributes

    last = CGCNN_LAST_ELEMENT if atom_features == "cgcnn" else len(SYMBOLS) - 1
    rows = [get_node_attributes(SYMBOLS[min(number, last)], atom_features) for number in range(1, len(SYMBOLS))]
    table = np.concatenate((np.zeros((1, len(rows[0]))), rows)).astype(np.float32)
    table.setflags(write=False)
    return table
