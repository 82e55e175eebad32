"""Element features of the atoms, as jarvis-tools tabulates them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

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
    rows = _rows_of_cgcnn() if atom_features == "cgcnn" else _rows_of(atom_features)
    table = np.concatenate((np.zeros((1, len(rows[0]))), rows)).astype(np.float32)
    table.setflags(write=False)
    return table


def _rows_of_cgcnn() -> list[list[float]]:
    """One an element, from JARVIS' file: importing its modules, which read other tables too, takes .3 s."""
    features = json.loads((files("jarvis.core") / "atom_init.json").read_text(encoding="utf-8"))
    return [features[str(min(number, CGCNN_LAST_ELEMENT))] for number in range(1, len(SYMBOLS))]


def _rows_of(atom_features: AtomFeatures) -> list[list[float]]:
    """One an element, as JARVIS makes them."""
    from jarvis.core.specie import get_node_attributes

    return [get_node_attributes(symbol, atom_features) for symbol in SYMBOLS[1:]]
