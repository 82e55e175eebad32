import io
import warnings
from pathlib import Path

import gemmi
import numpy as np
import pytest
from ase.io import read as ase_read
from ase.spacegroup import Spacegroup
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

from crysmm.crystal import Crystal
from crysmm.data.cif import parse_cif
from crysmm.data.files import read_structure
from crysmm.errors import StructureError

SAMPLE = Path(__file__).parents[2] / "examples" / "sample_data"

# Alpha-quartz as a journal deposits it (Levien, Prewitt and Weidner 1980): uncertainties, comments, tabs of spaces
QUARTZ = """#------------------
data_global
_publ_section_title
;
 Structure and elastic properties of quartz at pressure
;
_journal_year 1980

data_quartz
_chemical_name_mineral 'Quartz'
_cell_length_a 4.916(1)
_cell_length_b 4.916(1)
_cell_length_c 5.4054(4)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_symmetry_cell_setting trigonal
_symmetry_space_group_name_H-M 'P 32 2 1'
loop_
_space_group_symop_operation_xyz
  'x,y,z'
  'y,x,2/3-z'
  '-y,x-y,2/3+z'
  '-x,-x+y,1/3-z'
  '-x+y,-x,1/3+z'
  'x-y,-y,-z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 Si4+ 0.4697(1) 0.0000 0.00000 1
O1  O2-  0.4135(3) 0.2669(2) 0.1191(2) 1.0
"""
CORUNDUM = """data_corundum
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {c}
_cell_angle_alpha {angle}
_cell_angle_beta {angle}
_cell_angle_gamma {gamma}
_space_group_name_H-M_alt '{symbol}'
_space_group_IT_number 167
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{sites}
"""


def read_by_ase(text: str) -> Crystal:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = ase_read(io.StringIO(text), format="cif")
    return Crystal.from_arrays(atoms.cell.array, atoms.get_scaled_positions(), atoms.get_chemical_symbols())


def read_by_pymatgen(text: str) -> Crystal:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = CifParser.from_str(text).parse_structures(primitive=False)[0]
    return Crystal.from_arrays(structure.lattice.matrix, structure.frac_coords, [s.specie.symbol for s in structure])


def assert_same_cell(crystal: Crystal, other: Crystal) -> None:
    """Same lengths and angles, and an atom of the same element within 0.002 Angstrom of each atom."""
    np.testing.assert_allclose(crystal.lattice @ crystal.lattice.T, other.lattice @ other.lattice.T, atol=1e-6)
    assert sorted(crystal.elements) == sorted(other.elements)
    steps = crystal.frac_coords[:, None] - other.frac_coords
    distances = np.linalg.norm((steps - np.round(steps)) @ crystal.lattice, axis=2)
    distances[crystal.atomic_numbers[:, None] != other.atomic_numbers] = np.inf
    assert distances.min(axis=0).max() < 2e-3
    assert distances.min(axis=1).max() < 2e-3


def test_symmetry_gives_the_cell_that_pymatgen_and_ase_give() -> None:
    """Every crystal of the sample data, written with its symmetry: tens of space groups of all systems."""
    groups = set()
    for path in sorted(SAMPLE.glob("*.vasp"))[::2]:
        primitive = read_structure(path)
        structure = Structure(Lattice(primitive.lattice), primitive.elements, primitive.frac_coords)
        text = str(CifWriter(structure, symprec=0.01))
        groups.add(structure.get_space_group_info()[1])
        crystal = parse_cif(text)
        assert len(crystal) % len(primitive) == 0 or len(primitive) % len(crystal) == 0
        assert crystal.formula == primitive.formula
        assert_same_cell(crystal, read_by_pymatgen(text))
        assert_same_cell(crystal, read_by_ase(text))
    assert len(groups) >= 20


def test_cif_of_a_journal() -> None:
    crystal = parse_cif(QUARTZ)
    assert crystal.elements == ["Si"] * 3 + ["O"] * 6
    assert_same_cell(crystal, read_by_ase(QUARTZ))
    assert crystal.volume == pytest.approx(4.916**2 * 5.4054 * np.sqrt(3) / 2)


def test_special_position_written_with_few_digits_is_one_atom() -> None:
    """Thirds cut to 0.333 and 0.667 lie .005 Angstrom off their axis; three images must not become three atoms."""
    text = QUARTZ.replace("0.4697(1) 0.0000 0.00000", "0.333 0.667 0.0000").replace("O1  O2-", "#O1")
    hexagonal = text.replace("'x-y,-y,-z'", "'-y,x-y,z'").replace("'-y,x-y,2/3+z'", "'-x+y,-x,z'")
    kept = [line for line in hexagonal.splitlines() if "1/3" not in line and "2/3" not in line]
    crystal = parse_cif("\n".join(kept))
    assert len(crystal) == 1
    np.testing.assert_allclose(crystal.frac_coords[0], [1 / 3, 2 / 3, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("cell", "n_atoms"),
    [
        ({"a": 4.7602, "c": 12.9933, "angle": 90, "gamma": 120, "symbol": "R -3 c"}, 30),
        ({"a": 4.7602, "c": 12.9933, "angle": 90, "gamma": 120, "symbol": "R -3 c :H"}, 30),
        ({"a": 5.129, "c": 5.129, "angle": 55.28, "gamma": 55.28, "symbol": "R -3 c"}, 10),
        ({"a": 5.129, "c": 5.129, "angle": 55.28, "gamma": 55.28, "symbol": "R -3 c :R"}, 10),
        ({"a": 5.129, "c": 5.129, "angle": 55.28, "gamma": 55.28, "symbol": "?"}, 10),
    ],
)
def test_space_group_without_operations(cell: dict, n_atoms: int) -> None:
    """Corundum (Lewis et al. 1982) on hexagonal and on rhombohedral axes."""
    hexagonal = "Al1 0 0 0.35216\nO1 0.30624 0 0.25"
    rhombohedral = "Al1 0.35216 0.35216 0.35216\nO1 0.55624 0.94376 0.25"
    crystal = parse_cif(CORUNDUM.format(sites=hexagonal if n_atoms == 30 else rhombohedral, **cell))
    assert crystal.formula == "Al2O3"
    assert len(crystal) == n_atoms
    assert crystal.volume / n_atoms == pytest.approx(8.5, abs=0.02)
    steps = crystal.frac_coords[crystal.atomic_numbers == 13][:1] - crystal.frac_coords[crystal.atomic_numbers == 8]
    assert np.linalg.norm((steps - np.round(steps)) @ crystal.lattice, axis=1).min() == pytest.approx(1.855, abs=5e-3)


@pytest.mark.parametrize("named", [True, False])
def test_every_space_group_has_the_operations_of_ases_table(named: bool) -> None:
    """An atom at a general position has as many images, and those, as ASE's table has operations."""
    site = np.array([0.13, 0.41, 0.29])
    for group in map(Spacegroup, range(1, 231)):
        symbol = group.symbol if named else "?"
        text = CORUNDUM.format(a=9, c=9, angle=90, gamma=120, symbol=symbol, sites="Al1 .13 .41 .29")
        crystal = parse_cif(text.replace("IT_number 167", f"IT_number {group.no}"))
        rotations, translations = zip(*group.get_symop(), strict=True)
        steps = crystal.frac_coords[:, None] - (np.array(rotations) @ site + translations)
        found = np.abs(steps - np.round(steps)).max(axis=2) < 1e-9
        assert (found.sum(axis=0) == 1).all()
        assert (found.sum(axis=1) == 1).all()


def test_no_symmetry_at_all_is_p1() -> None:
    lines = [line for line in QUARTZ.splitlines() if "symop" not in line and "symmetry" not in line]
    text = "\n".join(line for line in lines if not line.startswith("  '"))
    assert len(parse_cif(text.replace("loop_\nloop_", "loop_"))) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("_journal_year 1980", "_journal_year 1980\n_journal_year 1981\n_journal_doi"),
        ("data_quartz", "data_global"),
        ("data_quartz", "data_SiO2 of M\u00fcller"),
        ("Quartz'", "Qu\u00e4rz'"),
        ("4.916(1)\n_cell_length_c", "'4.916(1)'\n_cell_length_c"),
        ("'y,x,2/3-z'", "' Y , X , 2 / 3 - Z ;'"),
        ("data_quartz", "data_quartz # alpha"),
    ],
)
def test_habits_that_do_no_harm(old: str, new: str) -> None:
    assert QUARTZ.count(old) == 1
    assert_same_cell(parse_cif(QUARTZ.replace(old, new)), parse_cif(QUARTZ))


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ("_space_group_name_H-M_alt 'F d -3 m Z'", "F d -3 m:2"),
        ("_space_group_name_H-M_alt 'F d -3 m S'", "F d -3 m:1"),
        ("_space_group_name_H-M_alt 'P2_1/c'", "P 1 21/c 1"),
        ("_space_group_name_H-M_alt 'P 2(1)/c'", "P 1 21/c 1"),
        ("_space_group_name_H-M_alt 'of no table'\n_space_group_IT_number 225", "F m -3 m"),
        ("_symmetry_space_group_name_Hall '-F 4 2 3'", "F m -3 m"),
    ],
)
def test_names_of_space_groups(lines: str, number: str) -> None:
    text = CORUNDUM.format(a=9, c=9, angle=90, gamma=90, symbol="?", sites="Al1 .13 .41 .29")
    kept = [line for line in text.splitlines() if not line.startswith("_space_group")]
    crystal = parse_cif("\n".join([kept[0], lines, *kept[1:]]))
    assert len(crystal) == len(list(gemmi.find_spacegroup_by_name(number).operations()))


@pytest.mark.parametrize(("word", "symbol"), [("FE", "Fe"), ("Fe3+", "Fe"), ("D", "H"), ("O2-", "O"), ("h", "H")])
def test_type_symbols(word: str, symbol: str) -> None:
    assert symbol in parse_cif(QUARTZ.replace("Si4+", word)).elements


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.1191(2) 1.0", "0.1191(2) 0.5", "partial occupancy: site O1 is occupied to 0.5"),
        ("Si4+", "Qq", "unknown element 'Qq'"),
        ("Si4+", "?", "unknown element"),
        ("0.4135(3)", "x", "a coordinate in the CIF is not a number"),
        ("0.2669(2) 0.1191(2) 1.0", "0.2669(2)", "line 27 .* Wrong number of values in loop _atom_site"),
        ("_cell_length_c 5.4054(4)\n", "", "no cell lengths"),
        ("_cell_length_c 5.4054(4)\n", "_cell_length_c ?\n", "no cell lengths"),
        ("'y,x,2/3-z'", "'y,y,2/3-z'", "symmetry operation"),
        ("_atom_site_fract_", "_atom_site_other_", "no atom sites"),
        (QUARTZ, "data_empty\n", "no atom sites"),
        (QUARTZ, QUARTZ[:400], "line 20 of the CIF cannot be read"),
        ("'y,x,2/3-z'", "'y,x'", "symmetry operation 'y,x' in the CIF cannot be read"),
        (
            "_cell_angle_beta 90",
            "_cell_length_a 5\n_cell_angle_beta 90",
            "_cell_length_a stands in the CIF more than once",
        ),
        ("_cell_angle_beta 90", "_cell_angle_beta 0", "_cell_angle_beta is 0"),
        ("_atom_site_fract_y", "_atom_site_other_y", "2 of _atom_site_fract_x, 0 of _atom_site_fract_y"),
        (
            "_symmetry_space_group_name_H-M 'P 32 2 1'\nloop_\n_space_group_symop_operation_xyz",
            "loop_\n_space_group_symop_magn_operation.xyz",
            "symop_magn_operation.xyz, which",
        ),
        ("'y,x,2/3-z'", "'y+1/5,x,2/3-z'", "multiples of 1/24"),
    ],
)
def test_bad_cif_has_a_reason(old: str, new: str, reason: str, tmp_path) -> None:
    assert old in QUARTZ
    path = tmp_path / "bad.cif"
    path.write_text(QUARTZ.replace(old, new))
    with pytest.raises(StructureError, match=reason):
        read_structure(path)


def test_unknown_space_group_without_operations_is_refused() -> None:
    text = CORUNDUM.format(a=5, c=5, angle=90, gamma=90, symbol="P 1 21/q 1", sites="Al1 0 0 0")
    with pytest.raises(StructureError, match=r"write the operations"):
        parse_cif(text)
