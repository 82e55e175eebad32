"""The atom features by name.

CGCNN's 92 features (Xie and Grossman 2018, supplementary table) are nine blocks of zeros and ones, one bit a block set
for an element. The authors give each block's property, range and number of bins; the file of bits that everybody uses
departs from their table in places, and the layout here is the one its bits follow for nearly every element:

- group: 19 bits, the first for the lanthanides and actinides; period: 7; valence electrons: 12; block: s, p, d, f.
- electronegativity (Pauling), covalent radius (Pyykko's single bonds, pm) and electron affinity (eV): ten bins of equal
  width.
- first ionisation energy (eV) and atomic volume (cm3/mol): ten bins of equal width of the natural logarithm.

An element of unknown value has no bit in a block; no element has bits 69 and 71, electron affinities from -2.33 to
-1.66 and from -0.99 to -0.32 eV.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from crysmm.config.graph import AtomFeatures
from crysmm.elements import feature_table

N_BINS = 10
BASIC = (
    "atomic number",
    "group",
    "period",
    "electronegativity",
    "atomic radius",
    "s valence electrons",
    "p valence electrons",
    "d valence electrons",
    "f valence electrons",
    "first ionisation energy",
    "electron affinity",
)


@dataclass(frozen=True)
class Feature:
    """What one column of the atom features stands for.

    Args:
        group: the quantity that it says something of, as ``covalent radius``.
        name: as people read it, with the bin's range and unit.
        lower: where the bin begins, in ``unit``; None where the column is no bin.
        upper: where it ends.
        unit: of the range; empty for a number without one, as Pauling's electronegativity.
    """

    group: str
    name: str
    lower: float | None = None
    upper: float | None = None
    unit: str = ""


@cache
def feature_names(atom_features: AtomFeatures) -> tuple[Feature, ...]:
    """Every column of :func:`crysmm.elements.feature_table`, in order.

    Args:
        atom_features: which table.
    """
    if atom_features == "cgcnn":
        features = _cgcnn()
    elif atom_features == "basic":
        features = [Feature(name, name) for name in BASIC]
    elif atom_features == "atomic_number":
        features = [Feature("atomic number", "atomic number")]
    else:
        n_features = feature_table(atom_features).shape[1]
        features = [Feature(atom_features, f"{atom_features} {index}") for index in range(n_features)]
    return tuple(features)


def _cgcnn() -> list[Feature]:
    return [
        Feature("group", "no group (lanthanides, actinides)"),
        *(Feature("group", f"group {group}") for group in range(1, 19)),
        *(Feature("period", f"period {period}") for period in range(1, 8)),
        *_bins("electronegativity", np.linspace(0.5, 4.0, N_BINS + 1), "", digits=2),
        *_bins("covalent radius", np.linspace(25, 250, N_BINS + 1), "pm", digits=1),
        *(Feature("valence electrons", f"valence electrons {count}") for count in range(1, 13)),
        *_bins("first ionisation energy", np.exp(np.linspace(1.3, 3.3, N_BINS + 1)), "eV", digits=1),
        *_bins("electron affinity", np.linspace(-3, 3.7, N_BINS + 1), "eV", digits=2),
        *(Feature("block", f"{block} block") for block in "spdf"),
        *_bins("atomic volume", np.exp(np.linspace(1.5, 4.3, N_BINS + 1)), "cm3/mol", digits=1),
    ]


def _bins(quantity: str, edges: np.ndarray, unit: str, digits: int) -> list[Feature]:
    return [
        Feature(quantity, f"{quantity} {lower:.{digits}f} to {upper:.{digits}f} {unit}".rstrip(), lower, upper, unit)
        for lower, upper in pairwise(edges.round(4).tolist())
    ]
