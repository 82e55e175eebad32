import numpy as np
import pytest
from ase.io import read as ase_read
from pymatgen.io.vasp import Poscar

from crysmm.data.files import read_structure
from crysmm.data.poscar import parse_poscar
from crysmm.errors import StructureError

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
        RUTILE + "\n0.0 0.0 0.0\n" * 6,  # velocities
        edited(6, "Ti_pv O_s"),
        edited(6, "Ti_sv/0123abcd O/4f56"),
        edited(7, "2 4 ! counts"),
        edited(8, "Selective dynamics|Direct").replace("0.500 0.500 0.5", "0.500 0.500 0.5 T F T"),
        RUTILE.replace("0.305 0.305 0.0", "0.305 0.305 0.0 O"),
        edited(6, "").replace("TiO2 rutile", "Ti O"),
        edited(6, "").replace("TiO2 rutile", "Ti2 O4"),
    ],
    ids=["plain", "windows", "velocities", "potcar", "hash", "comment", "selective", "labels", "vasp4", "formula"],
)
def test_forms_of_one_structure(text: str) -> None:
    assert_rutile(text)


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
        (edited(4, "0.0 4.594"), "line 4 .*expected lattice vectors"),
        (edited(4, "9.188 0.0 0.0"), "volume of 0 cubic Angstrom"),
        (edited(2, "-60").replace("0.0 4.594 0.0", "4.594 0.0 0.0"), "span no volume"),
        (edited(2, "one"), "line 2 .*'one'; expected the scale"),
        (edited(2, "1.0 -1.0 1.0"), "three scales must be positive"),
        (edited(2, "0.0"), "volume of 0 cubic Angstrom"),
        (edited(6, "Ti"), r"names 1 elements \(Ti\) but has 2 counts"),
        (edited(6, "Ti Qq"), "unknown element 'Qq'"),
        (edited(7, "2 four"), "line 7 .*expected counts"),
        (edited(7, "2 -4"), "line 7 .*expected counts"),
        (edited(7, "2 4000000000"), "cut off: 4000000002 atoms in 14 lines"),
        (edited(7, "0 0"), "the structure has no atoms"),
        (edited(6, ""), "no element symbols: line 6 .*'TiO2 rutile'"),
        (edited(6, "").replace("TiO2 rutile", "Ti4 O2"), "no element symbols"),
        (edited(8, ""), "line 8 .*expected 'Direct' or 'Cartesian'"),
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
