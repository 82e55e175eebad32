"""The names of the atom features, against element data from elsewhere."""

import warnings

import numpy as np
import pytest
from pymatgen.core import Element

from crysmm.elements import ATOMIC_NUMBERS, SYMBOLS, feature_table
from crysmm.explain.feature_names import feature_names

ELEMENTS = SYMBOLS[1:101]
# Single-bond covalent radii in pm, H to Fm: Pyykko and Atsumi, Chem. Eur. J. 15, 186 (2009), table 2.
PYYKKO = """
32 46 133 102 85 75 71 63 64 67 155 139 126 116 111 103 99 96
196 171 148 136 134 122 119 116 111 110 112 118 124 121 121 116 114 117
210 185 163 154 147 138 128 125 125 120 128 136 142 140 140 136 133 131
232 196 180 163 176 174 173 172 168 169 168 167 166 165 164 170 162 152 146 137 131 129 122 123 124 133 144 144 151 145
147 142 223 201 186 175 169 170 171 172 166 166 168 168 165 167
""".split()
# Elements whose value pymatgen tabulates in another bin; the older tables CGCNN was made from had another value.
OTHERWISE = {
    "electronegativity": set("Lu W Pt Hg Pb Bi U".split()),
    "covalent radius": set(),
    "first ionization energy": set(),
    "electron affinity": set("Be N Ga In Xe Pr Nd Eu Tb Dy Tl Po".split()),
    "atomic volume": set("H He B N F Ne Cl Ar Kr Xe Tm Ra Np Am Cm".split()),
    "valence electrons": {"Pd"},
    "block": {"He"},
}


def of_property(name):
    """Index and feature of each of a property's columns."""
    return [(index, feature) for index, feature in enumerate(feature_names("cgcnn")) if feature.group == name]


def feature_of(symbol, name):
    """The feature of a property that an element has; None where its value is unknown."""
    row = feature_table("cgcnn")[ATOMIC_NUMBERS[symbol]]
    found = [feature for index, feature in of_property(name) if row[index]]
    assert len(found) <= 1
    return found[0] if found else None


def pymatgen_value(symbol, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        element = Element(symbol)
        return {
            "electronegativity": element.X,
            "covalent radius": float(PYYKKO[element.Z - 1]),
            "first ionization energy": element.ionization_energy,
            "electron affinity": element.electron_affinity,
            "atomic volume": element.molar_volume,
        }[name]


def test_92_features_in_the_order_of_the_table():
    features = feature_names("cgcnn")
    assert len(features) == feature_table("cgcnn").shape[1]
    assert len({feature.name for feature in features}) == 92
    assert len({feature.group for feature in features}) == 9


@pytest.mark.parametrize("name", ["group", "period", "covalent radius", "first ionization energy", "block"])
def test_every_element_has_one_bit(name):
    assert all(feature_of(symbol, name) for symbol in ELEMENTS)


@pytest.mark.parametrize("symbol", ELEMENTS)
def test_group_period_and_block(symbol):
    element = Element(symbol)
    f_block = element.block == "f"
    expected = "no group (lanthanides, actinides)" if f_block else f"group {element.group}"
    assert feature_of(symbol, "group").name == expected
    assert feature_of(symbol, "period").name == f"period {element.row}"
    if symbol not in OTHERWISE["block"]:
        assert feature_of(symbol, "block").name == f"{element.block} block"


@pytest.mark.parametrize("symbol", sorted(set(ELEMENTS) - OTHERWISE["valence electrons"], key=ELEMENTS.index))
def test_valence_electrons(symbol):
    """Those of the outer s and p shells, and of the d shell of a d element."""
    element = Element(symbol)
    group = element.group
    count = 2 if element.block == "f" or symbol == "He" else group if group <= 12 else group - 10
    assert feature_of(symbol, "valence electrons").name == f"valence electrons {count}"


@pytest.mark.parametrize(
    "name",
    ["electronegativity", "covalent radius", "first ionization energy", "electron affinity", "atomic volume"],
)
def test_bins_hold_the_values_of_the_elements(name):
    bins = [feature for _, feature in of_property(name)]
    slack = 0.02 * (bins[0].upper - bins[0].lower)
    outside = set()
    known = 0
    for symbol in ELEMENTS:
        value, feature = pymatgen_value(symbol, name), feature_of(symbol, name)
        if feature is None or value is None or np.isnan(value):
            continue
        known += 1
        if not feature.lower - slack <= value <= feature.upper + slack:
            outside.add(symbol)
    assert known >= 70
    assert outside == OTHERWISE[name]


def test_bins_follow_each_other():
    for name in ("electronegativity", "covalent radius", "first ionization energy", "electron affinity"):
        bins = [feature for _, feature in of_property(name)]
        assert [feature.upper for feature in bins[:-1]] == [feature.lower for feature in bins[1:]]


def test_bits_that_no_element_has():
    unused = [feature_names("cgcnn")[index].name for index in np.flatnonzero(feature_table("cgcnn").sum(0) == 0)]
    assert unused == ["electron affinity -2.33 to -1.66 eV", "electron affinity -0.99 to -0.32 eV"]


@pytest.mark.parametrize("atom_features", ["basic", "atomic_number", "cfid"])
def test_other_features_have_a_name_each(atom_features):
    names = [feature.name for feature in feature_names(atom_features)]
    assert len(set(names)) == len(names) == feature_table(atom_features).shape[1]


def test_names_of_basic_features():
    iron = dict(zip((f.name for f in feature_names("basic")), feature_table("basic")[26].tolist(), strict=True))
    element = Element("Fe")
    assert (iron["atomic number"], iron["group"], iron["period"]) == (26, 8, 4)
    assert (iron["s valence electrons"], iron["d valence electrons"]) == (2, 6)
    assert iron["electronegativity"] == pytest.approx(element.X, abs=0.01)
    assert iron["first ionization energy"] == pytest.approx(element.ionization_energy, abs=0.01)
    assert iron["electron affinity"] == pytest.approx(element.electron_affinity, abs=0.05)
