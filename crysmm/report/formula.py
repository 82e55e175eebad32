"""Formulas as chemists write them."""

from __future__ import annotations

import re
from itertools import chain

from crysmm.elements import ATOMIC_NUMBERS
from crysmm.graphs.features import feature_table

ELECTRONEGATIVITY = 3  # its column among the atom features "basic"


def formula_parts(formula: str) -> list[tuple[str, str]]:
    """Element symbols, the most electronegative last, each with its number, which is empty for 1.

    Args:
        formula: reduced, elements in any order; what is none is one part.
    """
    counts = dict(re.findall(r"([A-Z][a-z]?)(\d*)", formula))
    if "".join(chain(*counts.items())) != formula or not counts.keys() <= ATOMIC_NUMBERS.keys():
        return [(formula, "")]
    table = feature_table("basic")
    return sorted(counts.items(), key=lambda part: (table[ATOMIC_NUMBERS[part[0]], ELECTRONEGATIVITY], part[0]))
