import re

import numpy as np
import pytest
from ase import Atoms
from ase.io import read as ase_read
from ase.io import write as ase_write
from pymatgen.io.vasp import Poscar

from crysmm.errors import StructureError
from crysmm.io.poscar import parse_poscar
from crysmm.io.structure_file import read_structure

# Rutile TiO2 (Abrahams and Bernstein 1971), in the form VASP writes
RUTILE = """TiO2 rutile
1.0
4.594 0.0 0.0
0.0 4.594 0.0
0.0 0.0 2.959
Ti O
2 4
Direct
0.000 0.000 0.0
0.500 0.500 0.5
0.305 0.305 0.0
0.695 0.695 0.0
0.195 0.805 0.5
0.805 0.195 0.5
"""


def edited(line: int, text: str) -> str:
    """Rutile with one line (counted from 1) replaced; an empty text takes the line away."""
    lines = RUTILE.splitlines()
    lines[line - 1 : line] = text.split("|") if text else []
    return "\n".join(lines) + "\n"


def assert_rutile(text: str) -> None:
    crystal = parse_poscar(text)
    np.testing.assert_allclose(crystal.lattice, np.diag([4.594, 4.594, 2.959]), atol=1e-9)
    assert crystal.elements == ["Ti", "Ti", "O", "O", "O", "O"]
    np.testing.assert_allclose(crystal.frac_coords[2], [0.305, 0.305, 0], atol=1e-9)
    np.testing.assert_allclose(crystal.frac_coords[5], [0.805, 0.195, 0.5], atol=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        RUTILE,
        RUTILE.replace("\n", "\r\n"),
        RUTILE + "\n" + "0.0 0.0 0.0\n" * 6 + "\n",  # velocities
        edited(6, "Ti_pv O_s"),
        edited(6, "Ti_sv/0123abcd O/4f56"),
        edited(7, "2 4 ! counts"),
        edited(7, "2 4 atoms"),
        edited(8, "Direct coordinates, Au in Angstrom; Pm-3m, no nm"),
        edited(8, "Selective dynamics|Direct").replace("0.500 0.500 0.5", "0.500 0.500 0.5 T F T"),
        RUTILE.replace("0.305 0.305 0.0", "0.305 0.305 0.0 O"),
        edited(6, "").replace("TiO2 rutile", "Ti O"),
        edited(6, "").replace("TiO2 rutile", "Ti2 O4"),
        edited(2, "1.0D0").replace("0.305 0.305", "3.05d-1 0.305D+00").replace("2.959", "0.2959D01"),
        edited(2, "1.0 scaling of 3 vectors"),
        edited(2, "1.0 ! 2 3, not in bohr"),
        edited(6, "Ti1 O2"),
        edited(6, "Ti|O"),
        edited(7, "2|4"),
        edited(6, "Ti|O").replace("\n2 4\n", "\n2\n4\n"),
        RUTILE + "\n\n  \n",
    ],
    ids=[
        "plain",
        "windows",
        "velocities",
        "potcar",
        "hash",
        "comment",
        "noun",
        "words behind direct",
        "selective",
        "labels",
        "vasp4",
        "formula",
        "fortran",
        "words",
        "remark",
        "numbered",
        "two lines of symbols",
        "two lines of counts",
        "two lines of both",
        "empty lines",
    ],
)
def test_forms_of_one_structure(text: str) -> None:
    assert_rutile(text)


def behind(text: str, *words: str, flags: str = "") -> str:
    """A text of rutile with a word behind each row of coordinates; flags come before it, and make it selective."""
    lines = text.splitlines()
    lines[-6:] = [f"{line} {flags} {word}" for line, word in zip(lines[-6:], words, strict=True)]
    if flags:
        lines.insert(len(lines) - 7, "Selective dynamics")
    return "\n".join(lines) + "\n"


VASP4 = edited(6, "")
VELOCITIES = "  0.10000000E-01  0.00000000E+00 -0.10000000E-01\n" * 6
LABELS = ("Ti", "Ti", "O", "O", "O", "O")


@pytest.mark.parametrize("flags", ["", "T T F", ".TRUE. .FALSE. f", "F F F"])
@pytest.mark.parametrize("labels", [LABELS, ("Ti1", "Ti2", "O1", "O2", "O3", "O4"), ("Ti4+",) * 2 + ("O2-",) * 4])
def test_elements_behind_the_coordinates(flags: str, labels: tuple[str, ...]) -> None:
    assert_rutile(behind(VASP4, *labels, flags=flags))
    assert_rutile(behind(RUTILE, *labels, flags=flags))
    assert_rutile(behind(VASP4.replace("TiO2 rutile", "Ti O"), *labels, flags=flags))
    assert_rutile(behind(VASP4, *(f"! {label}" for label in labels), flags=flags))


@pytest.mark.parametrize(
    "words",
    [
        ("A", "A", "B1", "Xx", "o", "site"),
        ("Ti", "TI", "O", "", "o", ""),
        ("o", "o", "f", "f", "f", "f"),
        ("! 1",) * 6,
        ("# 0.30 A off",) * 6,
        ("T F",) * 6,
    ],
)
def test_words_that_are_no_elements_are_ignored(words: tuple[str, ...]) -> None:
    assert_rutile(behind(RUTILE, *words))
    with pytest.raises(StructureError, match="no element symbols"):
        parse_poscar(behind(VASP4, *words))


def test_fluorine_and_the_flag_f() -> None:
    fluoride = edited(6, "").replace("TiO2 rutile", "Mg F")
    labels = ("Mg",) * 2 + ("F",) * 4
    for text in (fluoride, VASP4):
        for flags in ("", "T F T", "F F F"):
            assert parse_poscar(behind(text, *labels, flags=flags)).formula == "F2Mg"
    assert_rutile(behind(RUTILE, *[""] * 6, flags="F F F"))
    assert_rutile(behind(RUTILE, *[""] * 6, flags="F"))  # two flags are missing
    with pytest.raises(StructureError, match="no element symbols"):
        parse_poscar(behind(VASP4, *[""] * 6, flags="F F F"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            behind(RUTILE, *LABELS[:-1], "S"),
            r"line of symbols \(Ti, O\) atom 6 is O, and behind its coordinates stands S \(Ti, O, S\)",
        ),
        (
            behind(RUTILE, "Zr", "Zr", *LABELS[2:], flags="T T T"),
            r"line of symbols \(Ti, O\) atom 1 is Ti, .*stands Zr",
        ),
        (behind(VASP4.replace("TiO2 rutile", "O Ti"), *LABELS), r"first line \(O, Ti\) atom 1 is O, .*stands Ti"),
        (behind(VASP4, *LABELS[:-1], "S"), r"counts \(Ti, O\) atom 6 is O, .*stands S"),
        (behind(VASP4, *LABELS[::-1]), "counts .* atom 5 is O, .*stands Ti"),
        (behind(RUTILE, "Ti", *LABELS[2:], ""), r"line of symbols \(Ti, O\) atom 2 is Ti, .*stands O"),
        (behind(RUTILE, "", "", "! TI", "", "", ""), "line of symbols .* atom 3 is O, .*stands Ti"),
    ],
)
def test_two_elements_for_one_atom_are_refused(text: str, reason: str) -> None:
    with pytest.raises(StructureError, match=f"contradicts itself: by the {reason}"):
        parse_poscar(text)


def test_elements_as_pymatgen_writes_them(crystals) -> None:
    from pymatgen.core import Lattice, Structure

    for crystal in crystals.values():
        structure = Structure(Lattice(crystal.lattice), crystal.elements, crystal.frac_coords)
        structure.add_oxidation_state_by_guess()
        for vasp4 in (False, True):
            text = Poscar(structure).get_str(vasp4_compatible=vasp4)
            assert parse_poscar(text).elements == crystal.elements


def test_hydrogen_of_fractional_charge_and_its_isotopes() -> None:
    for symbol in ("H1.33", "H.66", "H.5", "H0.75", "H_s", "D", "T"):
        assert parse_poscar(edited(6, f"Ti {symbol}")).formula == "H2Ti"
        assert parse_poscar(edited(6, "").replace("TiO2 rutile", f"Ti {symbol}")).formula == "H2Ti"
        assert parse_poscar(behind(VASP4, "Ti", "Ti", *[symbol] * 4)).formula == "H2Ti"


def test_many_species_go_on_in_further_lines_as_pymatgen_reads_them() -> None:
    symbols, counts = ["Ni", "Fe"] * 23, [1, 2] * 23
    text = RUTILE.splitlines()[:5]
    for words in (symbols, counts):
        text += ["   " + "   ".join(map(str, words[start : start + 20])) for start in range(0, 46, 20)]
    text = "\n".join([*text, "Direct", *(f"0 0 {number / 69:.6f}" for number in range(69))])
    crystal, structure = parse_poscar(text), Poscar.from_str(text).structure
    assert crystal.elements == [site.specie.symbol for site in structure] == (["Ni", "Fe", "Fe"] * 23)
    np.testing.assert_allclose(crystal.frac_coords, structure.frac_coords, atol=1e-12)
    vasp4 = text.replace("TiO2 rutile", " ".join(symbols)).splitlines()
    assert parse_poscar("\n".join(vasp4[:5] + vasp4[8:])).elements == crystal.elements


@pytest.mark.parametrize(
    "rest",
    [
        "\n" + VELOCITIES,
        "Cartesian\n" + VELOCITIES,
        "Cart velocities\n" + VELOCITIES.replace("\n", " ! of an atom\n"),
        "Direct\n" + VELOCITIES,
        "\n" + VELOCITIES + "\n   1\n  0.15E+01\n  0.1E+01 0.1E-01 0.0E+00 0.2E+01\n" + VELOCITIES * 3,
        "Lattice velocities and vectors\n  1\n"
        + "0.1E-02 0.0E+00 0.0E+00\n" * 3
        + "4 0 0\n0 4 0\n0 0 3\n\n"
        + VELOCITIES,
        "written by hand\n",
    ],
)
def test_what_may_follow_the_atoms(rest: str) -> None:
    assert_rutile(RUTILE + rest)


@pytest.mark.parametrize(
    "rest", ["0.1 0.2 0.3\n", "0.1 0.2 0.3 Ti\n\n", "1D-1 .2 .3\n", "0 0 0\nDirect\n" + VELOCITIES, VELOCITIES]
)
def test_more_atoms_than_counted_are_refused(rest: str) -> None:
    with pytest.raises(StructureError, match=r"say 6 atoms, and line 15, .*, is one more; correct the counts"):
        parse_poscar(RUTILE + rest)


@pytest.mark.parametrize(
    "rest",
    [
        RUTILE,
        "\n" + RUTILE,
        "\n" + VELOCITIES + "\n" + RUTILE,
        RUTILE[: RUTILE.index("0.805")],
        "\n" + VASP4,
        edited(8, "Selective dynamics|Direct"),
        edited(6, "Ti|O"),
        "Direct configuration=     2\n" + VELOCITIES,
        edited(8, "Direct configuration=     2"),
    ],
)
def test_several_structures_are_refused(rest: str) -> None:
    for first in (RUTILE, edited(8, "Direct configuration=     1")):
        assert_rutile(first)
        with pytest.raises(
            StructureError, match=r"more than one structure: another one begins before line .*; expected one"
        ):
            parse_poscar(first + rest)


def test_trajectory_as_ase_writes_it(crystals, tmp_path) -> None:
    crystal = crystals["TiO2"]
    atoms = Atoms(crystal.elements, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
    for frames, refused in (([atoms], False), ([atoms, atoms], True)):
        ase_write(tmp_path / "XDATCAR", frames, format="vasp-xdatcar")
        if refused:
            with pytest.raises(StructureError, match="more than one structure"):
                read_structure(tmp_path / "XDATCAR")
        else:
            assert read_structure(tmp_path / "XDATCAR").elements == crystal.elements


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (edited(6, "Ti_O O"), "names? .*Ti_O|unknown element 'Ti_O'"),
        (edited(6, "Ti/V O"), "unknown element 'Ti/V'"),
        (edited(6, "Ti,V O"), "unknown element 'Ti,V'"),
        *(
            (edited(6, f"{word} O"), f"unknown element '{re.escape(word)}'")
            for word in ("Ti-V", "Ti+/V+", "Ti0.5-V0.5", "Ti/V3+", "Ti,V0.5", "Ti_V0.5", "Ti_0.5_V0.5", "Ti-OH")
        ),
        *(
            (
                behind(RUTILE, words, *LABELS[1:]),
                f"partial occupancy: line 9 of the POSCAR has {re.escape(repr(words))}",
            )
            for words in (
                "Ti 0.5",
                "Ti0.5V0.5",
                "Ti:0.5,V:0.5",
                "Ti 0.5 V 0.5",
                "Ti occ=0.5",
                "Ti(0.5)",
                "Ti=0.5",
                "Ti 50%",
                "Ti0,5",
                "Ti/V",
                "Ti,V",
                "NA 0.5",
                "sof: 0.5",
                "Ti:V",
            )
        ),
        (behind(RUTILE, *"123456"), "line 9 of the POSCAR has '1' behind three numbers; expected no other"),
        *((edited(8, word), "expected 'Direct' or 'Cartesian'") for word in ("Crystal", "Cell", "crystal coordinates")),
        *((edited(2, f"1.0 {unit}"), "line 2 .*expected a scale, of vectors in Angstrom") for unit in ("bohr", "nm")),
        *(
            (edited(8, f"Cartesian {unit}"), "line 8 .*; expected coordinates in Angstrom")
            for unit in ("(Bohr)", "[bohr]", "nm", "(pm)", "au", "(a.u.)", "a0")
        ),
        *(
            (edited(4, f"0.0 4.6 0.0 {word}"), "line 4 .*; expected a lattice vector, three numbers in Angstrom")
            for word in ("7", "Bohr", "-1e0")
        ),
        (edited(8, "Angstrom"), "'Angstrom'; expected 'Direct' or 'Cartesian'"),
        (RUTILE + "\n0.1 0.2 0.3\n", "1 rows of numbers follow the coordinates .*; of a CHGCAR give"),
        *(
            (RUTILE + rest, "rows of numbers follow the coordinates")
            for rest in (
                "O\n" + VELOCITIES,
                "# more atoms\n.1 .2 .3\n",
                "\n\n.1 .2 .3\n",
                "\n" + VELOCITIES.replace("\n", " T T T\n"),
                "\n" + VELOCITIES.replace("\n", " Br\n"),
                "Lattice velocities and vectors\n 1\n" + "0 0 0\n" * 6 + "\n" + VELOCITIES * 2,
            )
        ),
    ],
)
def test_what_vasp_or_others_would_pass_over_is_refused(text: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        parse_poscar(text)


def test_an_element_may_come_twice() -> None:
    crystal = parse_poscar(edited(6, "Ti O Ti").replace("\n2 4\n", "\n1 4 1\n"))
    assert crystal.elements == ["Ti", "O", "O", "O", "O", "Ti"]
    np.testing.assert_allclose(crystal.frac_coords[5], [0.805, 0.195, 0.5])


@pytest.mark.parametrize("scale", ["2.0", "-62.449", "1.0 2.0 0.5"])
@pytest.mark.parametrize("mode", ["Direct", "Cartesian", "kartesisch"])
def test_scales_and_modes_agree_with_ase(scale: str, mode: str, tmp_path) -> None:
    path = tmp_path / "POSCAR"
    path.write_text(edited(2, scale).replace("Direct", mode))
    crystal, atoms = read_structure(path), ase_read(path, format="vasp")
    np.testing.assert_allclose(crystal.lattice, atoms.cell.array, atol=1e-9)
    np.testing.assert_allclose(crystal.frac_coords @ crystal.lattice, atoms.get_positions(), atol=1e-9)
    assert crystal.elements == atoms.get_chemical_symbols()
    assert scale != "-62.449" or crystal.volume == pytest.approx(62.449)


def test_written_by_pymatgen_reads_back(crystals) -> None:
    from pymatgen.core import Lattice, Structure

    for crystal in crystals.values():
        structure = Structure(Lattice(crystal.lattice), crystal.elements, crystal.frac_coords)
        for direct in (True, False):
            text = Poscar(structure, sort_structure=False).get_str(direct=direct, significant_figures=12)
            again = parse_poscar(text)
            np.testing.assert_allclose(again.lattice, crystal.lattice, atol=1e-9)
            np.testing.assert_allclose(again.frac_coords, crystal.frac_coords, atol=1e-9)
            assert again.elements == crystal.elements


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (edited(14, ""), "cut off: 5 of 6 lines of coordinates"),
        (edited(14, "0.805 0.195"), "line 14 .*'0.805 0.195'; expected coordinates"),
        (edited(14, "0.805 0.195 half"), "line 14 .*expected coordinates"),
        (edited(14, "nan 0.195 0.5"), "a coordinate is not finite"),
        (edited(14, "0.805 0.195 0_5"), "line 14 .*expected coordinates"),
        (edited(4, "0.0 4.594"), "line 4 .*expected lattice vectors"),
        (edited(4, "9.188 0.0 0.0"), "volume of 0 cubic Angstrom"),
        (edited(2, "-60").replace("0.0 4.594 0.0", "4.594 0.0 0.0"), "span no volume"),
        (edited(2, "one"), "line 2 .*'one'; expected the scale"),
        (edited(2, "1.0 2.0"), "line 2 .*'1.0 2.0', 2 numbers; expected the scale: one number or three"),
        (edited(2, "1.0 1.0 1.0 2.0"), "line 2 .* 4 numbers; expected the scale"),
        (edited(2, "1_0"), "line 2 .*expected the scale"),
        (edited(2, "1.0 -1.0 1.0"), "three scales must be positive"),
        (edited(2, "0.0"), "volume of 0 cubic Angstrom"),
        (edited(6, "Ti"), r"names 1 elements \(Ti\) but has 2 counts"),
        (edited(6, "Ti Qq"), "unknown element 'Qq'"),
        (edited(6, "Ti0.5 O"), "unknown element 'Ti0.5'"),
        (edited(6, "Ti|O|Qq"), "line 8 .*'Qq'; expected counts"),
        (edited(6, "Ti O O"), r"names 3 elements \(Ti, O, O\) but has 2 counts"),
        (edited(7, "2 four"), "line 7 .*expected counts"),
        (edited(7, "2 -4"), "line 7 .*expected counts"),
        (edited(7, "2 4000000000"), "cut off: 4000000002 atoms in 14 lines"),
        ("\n".join(edited(7, "0 0").splitlines()[:8]), "the structure has no atoms"),
        (edited(6, ""), "no element symbols: line 6 .*'TiO2 rutile'"),
        (edited(6, "").replace("TiO2 rutile", "Ti4 O2"), "no element symbols"),
        (edited(8, ""), "line 8 .*expected 'Direct' or 'Cartesian'"),
        (edited(7, "2 4\n"), "line 8 of the POSCAR is empty; expected 'Direct' or 'Cartesian'"),
        ("\n".join(RUTILE.splitlines()[:5]), "ends after 5 lines"),
        ("\n".join(RUTILE.splitlines()[:8]), "cut off: 0 of 6"),
    ],
)
def test_bad_poscar_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        parse_poscar(text)


def test_foreign_files_in_the_folder_are_not_asked_for_symbols(tmp_path) -> None:
    (tmp_path / "POTCAR").write_text("TITEL = PAW Ti 08Apr2002\nTITEL = PAW O 08Apr2002\n")
    (tmp_path / "POSCAR").write_text(edited(6, ""))
    with pytest.raises(StructureError, match="no element symbols"):
        read_structure(tmp_path / "POSCAR")
