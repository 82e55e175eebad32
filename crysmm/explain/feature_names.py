"""Names of the atom features.

CGCNN's 92 features (Xie and Grossman 2018, supplementary table) are nine blocks of zeros and ones with one bit per
block set for an element. The authors list the property, range and number of bins of each block. The published file of
features deviates from this list in places; the layout here is the one that its bits follow for nearly every element:

- group: 19 bits, the first for the lanthanides and actinides; period: 7; valence electrons: 12; block: s, p, d, f.
- electronegativity (Pauling), covalent radius (single bonds, Pyykko and Atsumi 2009, pm) and electron affinity (eV):
  ten bins of equal width.
- first ionization energy (eV) and atomic volume (cm3/mol): ten bins of equal width of the natural logarithm.

An element without a known value has no bit in a block. No element has bits 69 and 71, electron affinities from -2.33 to
-1.66 eV and from -0.99 to -0.32 eV.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from crysmm.config.graph import AtomFeatureSet
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
    "first ionization energy",
    "electron affinity",
)


@dataclass(frozen=True)
class Feature:
    """One column of the atom features.

    Args:
        group: Property that the column encodes, such as ``covalent radius``.
        name: Name with the range and unit of the bin.
        lower: Lower end of the bin in ``unit``; None if the column is not a bin.
        upper: Upper end of the bin.
        unit: Unit of the range; empty for dimensionless properties such as the electronegativity.
    """

    group: str
    name: str
    lower: float | None = None
    upper: float | None = None
    unit: str = ""


@cache
def feature_names(atom_features: AtomFeatureSet) -> tuple[Feature, ...]:
    """Name the columns of :func:`crysmm.elements.feature_table`, in order.

    Args:
        atom_features: Name of the feature table.
    """
    if atom_features == "basic":
        return tuple(Feature(name, name) for name in BASIC)
    if atom_features == "atomic_number":
        return (Feature("atomic number", "atomic number"),)
    if atom_features != "cgcnn":  # columns without published names
        n_features = feature_table(atom_features).shape[1]
        return tuple(Feature(atom_features, f"{atom_features} {index}") for index in range(n_features))

    def bins(quantity: str, edges: np.ndarray, unit: str, digits: int) -> list[Feature]:
        features = []
        # Rounded, so that tables and JSON show 0.85 rather than 0.8500000000000001.
        for lower, upper in pairwise(edges.round(4).tolist()):
            name = f"{quantity} {lower:.{digits}f} to {upper:.{digits}f} {unit}".rstrip()
            features.append(Feature(quantity, name, lower, upper, unit))
        return features

    return (
        Feature("group", "no group (lanthanides, actinides)"),
        *(Feature("group", f"group {group}") for group in range(1, 19)),
        *(Feature("period", f"period {period}") for period in range(1, 8)),
        *bins("electronegativity", np.linspace(0.5, 4.0, N_BINS + 1), "", digits=2),
        *bins("covalent radius", np.linspace(25, 250, N_BINS + 1), "pm", digits=1),
        *(Feature("valence electrons", f"valence electrons {count}") for count in range(1, 13)),
        *bins("first ionization energy", np.exp(np.linspace(1.3, 3.3, N_BINS + 1)), "eV", digits=1),
        *bins("electron affinity", np.linspace(-3, 3.7, N_BINS + 1), "eV", digits=2),
        *(Feature("block", f"{block} block") for block in "spdf"),
        *bins("atomic volume", np.exp(np.linspace(1.5, 4.3, N_BINS + 1)), "cm3/mol", digits=1),
    )
