"""The periodic table: symbols, atomic numbers, covalent radii and element features."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

SYMBOLS: tuple[str, ...] = (
    "X",  # place of atomic number 0, so that SYMBOLS[Z] is the symbol of Z
    *"H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr".split(),
    *"Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er".split(),
    *"Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm".split(),
    *"Md No Lr".split(),
)
ATOMIC_NUMBERS: dict[str, int] = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}
CGCNN_LAST_ELEMENT = 100  # Fm; JARVIS gives its features to Md, No and Lr, with a warning printed for each
HYDROGENS = {"D": "H", "T": "H"}  # isotopes that have symbols of their own

FeatureSet = Literal["cgcnn", "basic", "atomic_number", "cfid"]


def elements_in(formulas: Iterable[str]) -> list[str]:
    """Return the symbols of the elements in some formulas, by atomic number."""
    symbols = {symbol for formula in formulas for symbol in re.findall("[A-Z][a-z]?", formula)}
    return sorted(symbols, key=ATOMIC_NUMBERS.__getitem__)


@cache
def covalent_radii() -> np.ndarray:
    """Return ``[104]`` covalent radii by atomic number, Angstrom (Cordero et al., Dalton Trans. 2832, 2008, by ASE).

    Bk and the elements after it, for which no radius is published, have 2 Angstrom.
    """
    import numpy as np
    from ase.data import covalent_radii

    return np.array([0.0, *covalent_radii[1 : len(SYMBOLS)]])


@cache
def feature_table(features: FeatureSet) -> np.ndarray:
    """Return the features of every element, to be indexed with atomic numbers.

    Args:
        features: ``cgcnn`` (92 columns, Xie and Grossman 2018), ``basic`` (11), ``atomic_number`` (1) or
            ``cfid`` (438, Choudhary et al. 2018). ``cgcnn`` ends at Fm: Md, No and Lr have Fm's row, as in JARVIS.

    Returns:
        ``[104, F]`` float32, read-only. Row Z belongs to the element of atomic number Z; row 0 is zero.
    """
    import numpy as np

    if features == "cgcnn":
        # read from JARVIS' file: importing its module, which reads other tables too, takes 0.3 s
        by_number = json.loads((files("jarvis.core") / "atom_init.json").read_text(encoding="utf-8"))
        rows = [by_number[str(min(number, CGCNN_LAST_ELEMENT))] for number in range(1, len(SYMBOLS))]
    else:
        from jarvis.core.specie import get_node_attributes

        rows = [get_node_attributes(symbol, features) for symbol in SYMBOLS[1:]]
    table = np.concatenate((np.zeros((1, len(rows[0]))), rows)).astype(np.float32)
    table.setflags(write=False)  # shared by every caller
    return table
