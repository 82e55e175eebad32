"""PDB files beside gemmi's own expansion of them."""

from collections import Counter

import gemmi
import numpy as np
import pytest

from crysmm.errors import StructureError
from crysmm.io.pdb import parse_pdb

HEAD = "CRYST1   10.000   12.000   14.000  90.00 105.00  90.00 P 1 21/c 1    4\n"
ATOMS = (
    "HETATM    1  C1  UNL A   1       1.000   2.000   3.000  1.00  0.00           C\n"
    "HETATM    2  O1  UNL A   1       2.100   2.200   3.300  1.00  0.00           O\n"
)
END = "END\n"
SCALE = (
    "SCALE2      0.000000  0.083333  0.000000        0.00000\nSCALE3      0.000000  0.000000  0.073950        0.00000\n"
)


def test_the_space_group_gives_the_whole_cell() -> None:
    crystal = parse_pdb(HEAD + ATOMS + END).crystal
    structure = gemmi.read_pdb_string(HEAD + ATOMS + END)
    expected = []
    for site in structure[0].all():
        place = structure.cell.fractionalize(site.atom.pos).tolist()
        images = [gemmi.Op(op.triplet()).apply_to_xyz(place) for op in structure.find_spacegroup().operations()]
        expected += [(site.atom.element.name, *np.mod(image, 1).round(6)) for image in images]
    found = zip(crystal.elements, crystal.frac_coords.round(6), strict=True)
    assert sorted(expected) == sorted((element, *place) for element, place in found)
    assert crystal.volume == pytest.approx(structure.cell.volume)


@pytest.mark.parametrize("group", ["P 1           1", "P 1", ""])
def test_without_symmetry(group: str) -> None:
    crystal = parse_pdb(f"{HEAD.replace('P 1 21/c 1    4', group)}MODEL     1\n{ATOMS}ENDMDL\n{END}").crystal
    assert crystal.elements == ["C", "O"]
    vector = (crystal.frac_coords[1] - crystal.frac_coords[0]) @ crystal.lattice
    np.testing.assert_allclose(vector, [1.1, 0.2, 0.3], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "residue", "element"),
    [
        (" CA ", "ALA", "C"),
        (" N  ", "ALA", "N"),
        (" HG ", "CYS", "H"),
        ("HH11", "ARG", "H"),
        (" O  ", "HOH", "O"),
        ("Zn  ", "MOL", "Zn"),
        (" O12", "UNL", "O"),
    ],
)
def test_columns_13_and_14_tell_the_element_in_biopolymers(name: str, residue: str, element: str) -> None:
    atom = f"ATOM      1 {name} {residue} A   1       1.000   2.000   3.000  1.00  0.00\n"
    assert set(parse_pdb(HEAD + atom + END).crystal.elements) == {element}


@pytest.mark.parametrize(
    ("name", "residue"),
    [
        ("CA  ", "ALA"),
        ("CD  ", "GLU"),
        (" SI1", "UNL"),
        (" CL1", "UNL"),
        (" NA ", " NA"),
        (" DU ", "UNL"),
        ("FE  ", "HEM"),
    ],
)
def test_elsewhere_the_element_must_be_written(name: str, residue: str) -> None:
    atom = f"ATOM      1 {name} {residue} A   1       1.000   2.000   3.000  1.00  0.00\n"
    with pytest.raises(StructureError, match="has no element; expected its symbol in columns 77 and 78"):
        parse_pdb(HEAD + atom + END)


@pytest.mark.parametrize("serial", ["*****", "A0000", "00001", "     ", "    2"])
@pytest.mark.parametrize("element", ["  ", " 1"])
def test_the_serial_number_does_not_matter(serial: str, element: str) -> None:
    """Calcium or carbon alpha: nothing tells, also where gemmi sorts the atoms by their chains."""
    unknown = f"HETATM{serial} CA   UNK A   2       4.000   4.000   4.000  1.00  0.00          {element}\n"
    other = ATOMS.replace("UNL A", "UNL B")
    for text in (HEAD + unknown + other, HEAD + ATOMS + other + unknown):
        with pytest.raises(StructureError, match=r"line \d \(CA of UNK\) has no element"):
            parse_pdb(text)
    crystal = parse_pdb(
        HEAD + ATOMS + other.replace("1.000 ", "6.000 ") + unknown.replace(f"{element}\n", "CA\n")
    ).crystal
    assert Counter(crystal.elements) == {"C": 8, "O": 8, "Ca": 4}


def test_a_hundred_thousand_lines() -> None:
    """Keep the flag of a guessed element with its atom where serial numbers of five digits end."""
    text = HEAD + "REMARK\n" * 100_000 + ATOMS.replace("           C", "")
    assert parse_pdb(text).crystal.elements == parse_pdb(HEAD + ATOMS).crystal.elements
    with pytest.raises(StructureError, match=r"line 100002 \(C1 of UNL\) is not fully occupied"):
        parse_pdb(text.replace("3.000  1.00", "3.000  0.50"))


@pytest.mark.parametrize("code", ["1CRN  70", "1CRN 170", "1CRN1170", "        "])
@pytest.mark.parametrize("occupancy", ["  1.00", "      "])
def test_old_files_have_an_id_code_behind_the_atoms(code: str, occupancy: str) -> None:
    atom = f"ATOM      1  CA  ALA A   1       1.000   2.000   3.000{occupancy}  0.00      {code}\n"
    text = HEAD.replace("P 1 21/c 1", "P 1       ") + atom
    assert parse_pdb(text).crystal.elements == parse_pdb(text.replace("\n", "\r")).crystal.elements == ["C"]


def test_deuterium_is_hydrogen_and_a_special_position_one_atom() -> None:
    """Neutron structures name it D; an atom on a center of inversion has two images here, not four."""
    atoms = ATOMS.replace("           C", "           D").replace("1.000   2.000   3.000", "0.000   0.000   0.000")
    assert Counter(parse_pdb(HEAD + atoms + END).crystal.elements) == {"H": 2, "O": 4}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ATOMS, "no cell: a CRYST1 line gives it"),
        (HEAD + ATOMS + END + ATOMS, "more than one structure: line 5 is behind END"),
        *((HEAD + ATOMS + end + ATOMS, "line 5 is behind END") for end in ("end\n", "End\n", "END     1\n", "END.\n")),
        (HEAD + HEAD.replace("10.000", "11.000") + ATOMS, "several CRYST1 lines"),
        (
            HEAD + ATOMS.replace("   1.000", "********"),
            r"line 2 .* has the coordinates '\*+.*'; expected three numbers",
        ),
        (HEAD + ATOMS.replace("   1.000", "   1,000"), "expected three numbers in columns 31 to 54"),
        (HEAD + ATOMS.replace("1.000   2.000   3.000", "1.0000   2.0000  3.00"), "three numbers .*, eight for each"),
        (HEAD + ATOMS.replace("HETATM", "hetatm").replace("2.000", "2,000"), "line 2 .* expected three numbers"),
        (HEAD + ATOMS.replace("HETATM    2", " HETATM   2"), "line 3 .* begins with ' HETAT'; expected 'ATOM"),
        (HEAD + ATOMS.replace("HETATM    2", "HETAT     2"), "line 3 .* begins with 'HETAT '; expected 'ATOM"),
        (HEAD + ATOMS + "HETAIRA IS A WORD\n", "line 4 .* begins with 'HETAIR'; expected 'ATOM"),
        (HEAD + ATOMS.replace("           C", "         ZN"), "has 'ZN'; expected its element in columns 77 and 78"),
        (HEAD + ATOMS.replace("           C", "           CL"), "has 'CL'; expected its element in columns 77 and 78"),
        (HEAD.replace("   10.000   12.000", " 10.000 12.000  ") + ATOMS, "has the cell '10.000 12.000 .*nine for each"),
        (HEAD + "SCALE1      0.050000  0.000000  0.000000        0.00000\n" + SCALE + ATOMS, "SCALE lines"),
        ("CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n" + ATOMS, "of no crystal"),
        (f"{HEAD}MODEL        1\n{ATOMS}", "cut off: MODEL has no ENDMDL"),
        (f"{HEAD}MODEL        1\n{ATOMS}ENDMDL\nMODEL        2\n{ATOMS}ENDMDL\n", "2 structures"),
        (HEAD + ATOMS.replace("C1  UNL", "C1 AUNL"), r"line 2 \(C1 of UNL\) is not fully occupied"),
        (HEAD + ATOMS.replace("3.300  1.00", "3.300  0.50"), r"line 3 \(O1 of UNL\) is not fully occupied"),
        (HEAD + ATOMS.replace("           C", "           X"), "line 2 .* has no element"),
        (HEAD.replace("P 1 21/c 1", "P 63/m m c") + ATOMS, "does not fit the cell"),
        (HEAD.replace("P 1 21/c 1", "P 9 9 9   ") + ATOMS, "'P 9 9 9' of CRYST1 is not known; write all atoms"),
        (HEAD.replace("10.000   12.000   14", " 0.000    0.000    0") + ATOMS, "has no cell: a CRYST1 line gives it"),
        (HEAD + END, "no atoms"),
        (
            "CRYST1   10.000   10.000   14.000  90.00  90.00  90.00 P 4/n m m     4\n" + ATOMS,
            "may be P 4/n m m:1 and P 4/n m m:2",
        ),
    ],
)
def test_what_is_no_one_crystal_is_refused(text: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        parse_pdb(text)
