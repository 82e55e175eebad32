from collections import Counter

import pytest
from pymatgen.core import Composition

from crysmm.errors import StructureError
from crysmm.io.formula import Formula
from crysmm.io.site_species import choose_elements, compare_formula, read_label, read_type


def elements(labels: list[str], formula: str | None, counts: list[int] | None = None) -> list[str]:
    readings = [read_label(label) for label in labels]
    return choose_elements(readings, counts or [1] * len(labels), Formula.parse(formula))


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        *((text, text) for text in ("Fe2 O3", "Fe2O3", "C12 H10 N2", "Nb0.8 Zr0.2", "Ca1.5 O", "Si", "CO2", "C1 H4")),
        ("FE2 O3", "Fe2O3"),
        ("SI1 O2", "SiO2"),
        ("CO1 O1", "CoO"),
        ("Ca CO3", "CaCO3"),
    ],
)
def test_formulas_are_read_as_pymatgen_reads_them(text: str, usual: str) -> None:
    formula = Formula.parse(text)
    assert formula is not None
    expected = Composition(usual).get_el_amt_dict()
    assert dict(formula.counts) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", [None, "?", "", "C2 H6, 2(H2 O)", "(C2 H4)n", "Qq2 O", "M O2", "Fe2 O-", "(Si O2)3", "Si O2 1-"]
)
def test_what_is_no_formula_decides_nothing(text: str | None) -> None:
    assert Formula.parse(text) is None
    assert compare_formula(["Fe"], Formula.parse(text)) == ()


@pytest.mark.parametrize(
    ("text", "atoms", "missing"),
    [
        ("Ca S O6 H4", {"Ca": 4, "S": 4, "O": 24}, 1.0),
        ("Ca S O6 H4", {"Ca": 4, "S": 4, "O": 24, "H": 4}, 0.75),
        ("Ca S O6 D4", {"Ca": 1, "S": 1, "O": 6, "H": 4}, 0.0),
        ("Ca S O6 H4", {"Ca": 1, "S": 1, "O": 6, "H": 5}, None),
        ("Ca S O4", {"Ca": 1, "S": 1, "O": 4, "H": 1}, None),
        ("Ca S O4", {"Ca": 1, "S": 1, "O": 5}, None),
        ("Ca S O4", {"Ca": 1, "O": 4}, None),
        ("Ca S", {"Ca": 1, "S": 1, "O": 4}, None),
        ("C432 H288", {"C": 431, "H": 288}, None),
        ("Fe0.667 O", {"Fe": 2, "O": 3}, 0.0),
        ("Fe0.667 O", {"Fe": 3, "O": 4}, None),
        ("Si1. O2.", {"Si": 1, "O": 1}, None),
        ("Fe1.00 O1.50", {"Fe": 2, "O": 3}, 0.0),
        ("H2", {"H": 4}, 0.0),
    ],
)
def test_proportions(text: str, atoms: dict[str, int], missing: float | None) -> None:
    formula = Formula.parse(text)
    assert formula is not None
    assert formula.missing_hydrogen(atoms) == (None if missing is None else pytest.approx(missing))


@pytest.mark.parametrize(
    ("word", "symbol"),
    [
        ("Fe", "Fe"), ("FE", "Fe"), ("fe", "Fe"), ("Fe3+", "Fe"), ("Fe+3", "Fe"), ("Fe0+", "Fe"), ("Fe2.5+", "Fe"),
        ("Fe1", "Fe"), ("SI", "Si"), ("NI2+", "Ni"),
        ("H1.33", "H"), ("D", "H"), ("O2-", "O"), ("O-2", "O"), ("CL1-", "Cl"), ("h", "H"),
    ],
)  # fmt: skip
def test_type_symbols(word: str, symbol: str) -> None:
    reading = read_type(word)
    assert reading.certain
    assert reading.elements == (symbol,)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((word, "disordered") for word in ("Fe,Ni", "Fe/Ni", "Fe0.5Ni0.5", "0.6Cu + 0.4Al", "Na+/K+", "Si;Al")),
        *((word, "several atoms on one site") for word in ("H2O", "NH4", "OH", "CN", "SO4", "NH4+")),
        *((word, "unknown element") for word in ("Fe0.9", "Va", "Vac", "X", "Q1", "T", "Wat", "M2+", "12", "-", "Qq")),
    ],
)
def test_types_that_are_no_atom(word: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        read_type(word)


@pytest.mark.parametrize("word", ["CO", "NO", "HO", "CS", "CF", "PO"])
def test_capitals_that_may_be_a_group_need_a_formula(word: str) -> None:
    reading = read_type(word)
    with pytest.raises(StructureError, match=f"{word!r} may be {word.capitalize()} or the group"):
        choose_elements([reading], [1], None)
    assert choose_elements([reading], [1], Formula.parse(word.capitalize())) == [word.capitalize()]
    with pytest.raises(StructureError, match="no reading agrees"):
        choose_elements([reading], [1], Formula.parse(" ".join(word)))


@pytest.mark.parametrize(
    ("labels", "formula", "expected"),
    [
        (["Na1", "Cl1"], None, ["Na", "Cl"]),
        (["Na(1)", "O_2", "O1A", "C12B", "U"], None, ["Na", "O", "O", "C", "U"]),
        (["ZN1", "AL2", "MG"], None, ["Zn", "Al", "Mg"]),
        (["BeA", "SiT1"], None, ["Be", "Si"]),
        (["NI1", "BR2", "SC"], "Br Ni Sc", ["Ni", "Br", "Sc"]),
        (["CA1", "C1", "O1"], "C Ca O", ["Ca", "C", "O"]),
        (["CA1", "CB1", "NA1"], "C2 N", ["C", "C", "N"]),
        (["CU", "OW1", "OW2", "SE"], "Cu O2 Se H4", ["Cu", "O", "O", "Se"]),
        (["Co1", "C1", "O1"], "Co C O", ["Co", "C", "O"]),
        (["Mg", "Oh"], "Mg O H", ["Mg", "O"]),
        (["Ca", "Wat1", "Wat2"], "Ca O2 H4", ["Ca", "O", "O"]),
        (["W", "O1"], "W O", ["W", "O"]),
        (["SiT1", "AlT2", "OBO"], "Al Si O", ["Si", "Al", "O"]),
        (["D1", "D2", "O"], "D2 O", ["H", "H", "O"]),
        (["Mg1", "O1", "Ho1"], "Mg O H", ["Mg", "O", "H"]),
        (["HO1", "HA2", "Hw3", "O1"], "H3 O", ["H", "H", "H", "O"]),
        (["V1", "VA2", "O1"], "V2 O", ["V", "V", "O"]),
        (["Al", "Ala", "Sia", "Oa", "Hwa"], "Al2 Si O H", ["Al", "Al", "Si", "O", "H"]),
    ],
)
def test_labels(labels: list[str], formula: str | None, expected: list[str]) -> None:
    assert elements(labels, formula) == expected


@pytest.mark.parametrize(
    "label",
    [
        "Wat",
        "Vac1",
        "Va",
        "Dum1",
        "Dis1",
        "Tet",
        "T1",
        "D1",
        "M1",
        "X",
        "1",
        "OH1",
        "H2O",
        "CO1",
        "NA1",
        "CL2",
        "FeO1",
        "Fe-Ni",
        "Fe_Ni",
        "Na_K",
        "Ca-Y",
        "O-H",
        "Fe0.5",
        "Fe0.5Ni0.5",
        "Fe1Ni1",
        "RE1",
        "No1",
        "Du1",
        "Hal1",
    ],
)
def test_labels_that_tell_no_element_alone(label: str) -> None:
    with pytest.raises(StructureError, match="label"):
        elements([label, "O1"], None)


@pytest.mark.parametrize("label", ["Sr/La1", "Nb,Zr", "Fe:Ni", "Al|Si2", "Mg+Fe"])
def test_labels_of_mixed_sites(label: str) -> None:
    with pytest.raises(StructureError, match="on one site: disordered"):
        read_label(label)


@pytest.mark.parametrize(
    ("labels", "formula", "reason"),
    [
        (["T1", "O1"], "Si O", "'T1' names a kind of site, not an element, and no reading agrees"),
        (["Vac", "Ti1", "O1"], "Ti O", "'Vac' names a kind of site"),
        (["V1", "Vac1", "O1"], "V2 O", "'Vac1' names a kind of site"),
        (["C1", "O1", "Dum1"], "C H O", "'Dum1' names a kind of site"),
        (["C1", "Hal1"], "C H", "'Hal1' names a kind of site"),
        (["Na1", "Cl1", "Tet1"], "Na Cl H", "'Tet1' names a kind of site"),
        (["CA1", "CA2", "C1", "O1"], "C Ca O2", "no reading agrees"),
        (["Co1", "CO2"], "C Co", "'CO2' alone does not give its element, and several readings agree"),
    ],
)
def test_labels_the_formula_does_not_decide(labels: list[str], formula: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        elements(labels, formula)


def test_a_contradiction_shows_both_formulas() -> None:
    with pytest.raises(StructureError, match="_chemical_formula_sum is 'K Cl', the atoms are Cl1 Na1"):
        compare_formula(["Na"] * 4 + ["Cl"] * 4, Formula.parse("K Cl"))
    notes = compare_formula(["Ca", "O", "O"], Formula.parse("Ca O2 H2"))
    assert notes == ("100% of the hydrogen in the formula 'Ca O2 H2' has no positions",)
    assert compare_formula(list(Counter({"Fe": 2, "O": 3}).elements()), Formula.parse("Fe4 O6")) == ()
