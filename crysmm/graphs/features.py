"""Element features: what an atom knows before it has neighbours."""

from __future__ import annotations

import contextlib
import io
from functools import cache

import numpy as np

from crysmm.config.graph import AtomFeatures
from crysmm.elements import SYMBOLS


@cache
def feature_table(atom_features: AtomFeatures) -> np.ndarray:
    """``[104, F]`` float32: the features of atomic number Z in row Z, from jarvis-tools; row 0 is zero.

    ``cgcnn`` (F = 92) has no rows beyond Z = 100; as in JARVIS, those of Z = 101 to 103 are that of 100. ``basic``
    has F = 11, ``atomic_number`` F = 1 and ``cfid`` F = 438.
    """
    from jarvis.core.specie import get_node_attributes

    with contextlib.redirect_stdout(io.StringIO()):  # JARVIS prints a line for each Z above 100
        rows = [np.asarray(get_node_attributes(symbol, atom_features), dtype=np.float32) for symbol in SYMBOLS[1:]]
    table = np.vstack((np.zeros_like(rows[0]), *rows))
    table.flags.writeable = False
    return table
