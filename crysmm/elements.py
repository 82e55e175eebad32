"""The periodic table, as far as names and numbers go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

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
HYDROGENS = {"D": "H", "T": "H"}  # isotopes that have symbols of their own


def elements_in(formulas: Iterable[str]) -> list[str]:
    """Symbols of the elements that occur in some formulas, by atomic number."""
    symbols = {symbol for formula in formulas for symbol in re.findall("[A-Z][a-z]?", formula)}
    return sorted(symbols, key=ATOMIC_NUMBERS.__getitem__)


@cache
def covalent_radii() -> np.ndarray:
    """Return ``[104]`` covalent radii by atomic number, Angstrom (Cordero et al., Dalton Trans. 2008, by gemmi)."""
    import numpy as np
    from gemmi import Element

    return np.array([0.0, *(Element(symbol).covalent_r for symbol in SYMBOLS[1:])])
