import io
import re
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import gemmi
import numpy as np
import pytest
from ase.io import read as ase_read
from ase.io import write as ase_write
from ase.spacegroup import Spacegroup
from moyopy import HallSymbolEntry
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError
from crysmm.graphs.distances import sorted_distances
from crysmm.io.cif import parse_cif
from crysmm.io.structure_file import read_structure
from crysmm.io.symmetry_operations import GroupNames

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


def parse(text: str) -> Crystal:
    return parse_cif(text).crystal


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
        crystal = parse(text)
        assert len(crystal) % len(primitive) == 0 or len(primitive) % len(crystal) == 0
        assert crystal.formula == primitive.formula
        assert_same_cell(crystal, read_by_pymatgen(text))
        assert_same_cell(crystal, read_by_ase(text))
    assert len(groups) >= 20


def test_cif_of_a_journal() -> None:
    crystal = parse(QUARTZ)
    assert crystal.elements == ["Si"] * 3 + ["O"] * 6
    assert_same_cell(crystal, read_by_ase(QUARTZ))
    assert crystal.volume == pytest.approx(4.916**2 * 5.4054 * np.sqrt(3) / 2)


def test_special_position_written_with_few_digits_is_one_atom() -> None:
    """Thirds cut to 0.333 and 0.667 lie .005 Angstrom off their axis; three images must not become three atoms."""
    text = QUARTZ.replace("0.4697(1) 0.0000 0.00000", "0.333 0.667 0.0000").replace("O1  O2-", "#O1")
    text = text.replace("'P 32 2 1'", "'P 3'")
    hexagonal = text.replace("'x-y,-y,-z'", "'-y,x-y,z'").replace("'-y,x-y,2/3+z'", "'-x+y,-x,z'")
    kept = [line for line in hexagonal.splitlines() if "1/3" not in line and "2/3" not in line]
    crystal = parse("\n".join(kept))
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
    crystal = parse(CORUNDUM.format(sites=hexagonal if n_atoms == 30 else rhombohedral, **cell))
    assert crystal.formula == "Al2O3"
    assert len(crystal) == n_atoms
    assert crystal.volume / n_atoms == pytest.approx(8.5, abs=0.02)
    steps = crystal.frac_coords[crystal.atomic_numbers == 13][:1] - crystal.frac_coords[crystal.atomic_numbers == 8]
    assert np.linalg.norm((steps - np.round(steps)) @ crystal.lattice, axis=1).min() == pytest.approx(1.855, abs=5e-3)


def cell_of(number: int) -> str:
    """A CIF with a cell that has the lattice symmetry of a space group, hexagonal axes where there are two."""
    lengths = (35, 40, 44) if number < 75 else (35, 35, 44) if number < 195 else (35, 35, 35)
    angles = (80, 85, 95) if number < 3 else (90, 95, 90) if number < 16 else (90, 90, 120)
    angles = (90, 90, 90) if 15 < number < 143 or number > 194 else angles
    lines = CORUNDUM.replace("IT_number 167", f"IT_number {number}").splitlines()
    names = [line.split()[0] for line in lines[1:7]]
    values = [f"{name} {value}" for name, value in zip(names, (*lengths, *angles), strict=True)]
    return "\n".join([lines[0], *values, *lines[7:]]) + "\n"


def settings_that_fit(number: int) -> int:
    """Return the number of moyopy's settings of a group that fit the cell of ``cell_of``."""
    entries = [entry for entry in map(HallSymbolEntry, range(1, 531)) if entry.number == number]
    return sum(entry.setting != "R" and (not 2 < number < 16 or "b" in entry.setting) for entry in entries)


@pytest.mark.parametrize("named", [True, False])
def test_every_space_group_has_the_operations_of_ases_table(named: bool) -> None:
    """An atom at a general position has as many images, and those, as ASE's table has operations."""
    site = np.array([0.13, 0.41, 0.29])
    for group in map(Spacegroup, range(1, 231)):
        two_origins = gemmi.find_spacegroup_by_number(group.no).ext == "1"
        symbol = group.symbol + " :1" * two_origins if named else "?"
        text = cell_of(group.no).format(symbol=symbol, sites="Al1 .13 .41 .29")
        if not named and settings_that_fit(group.no) > 1:  # such as P 1 21/c 1 and P 1 21/n 1
            with pytest.raises(StructureError, match=r"may be .*, and its atoms fit more than one") as told:
                parse(text)
            distinct = {68: 9}.get(group.no, settings_that_fit(group.no))  # C c c a and C c c b are one in origin 1
            assert len(re.findall(r" or (?=.* and its atoms)", str(told.value))) == distinct - 1, group.no
            continue
        crystal = parse(text)
        rotations, translations = zip(*group.get_symop(), strict=True)
        steps = crystal.frac_coords[:, None] - (np.array(rotations) @ site + translations)
        found = np.abs(steps - np.round(steps)).max(axis=2) < 1e-9
        assert (found.sum(axis=0) == 1).all()
        assert (found.sum(axis=1) == 1).all()


def test_no_symmetry_at_all_is_p1() -> None:
    lines = [line for line in QUARTZ.splitlines() if "symop" not in line and "symmetry" not in line]
    text = "\n".join(line for line in lines if not line.startswith("  '"))
    assert len(parse(text.replace("loop_\nloop_", "loop_"))) == 2


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
    assert_same_cell(parse(QUARTZ.replace(old, new)), parse(QUARTZ))


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ("_space_group_name_H-M_alt 'F d -3 m Z'", "F d -3 m:2"),
        ("_space_group_name_H-M_alt 'F__d -3 m :2__'", "F d -3 m:2"),
        ("_space_group_name_H-M_alt 'F d -3 m S'", "F d -3 m:1"),
        ("_space_group_name_H-M_alt 'P2_1/c'", "P 1 21/c 1"),
        ("_space_group_name_H-M_alt 'P 2(1)/c'", "P 1 21/c 1"),
        ("_space_group_name_H-M_alt 'of no table'\n_space_group_IT_number 225", "F m -3 m"),
        ("_symmetry_space_group_name_Hall '-F 4 2 3'", "F m -3 m"),
    ],
)
def test_names_of_space_groups(lines: str, number: str) -> None:
    cubic = gemmi.find_spacegroup_by_name(number).number > 194
    text = CORUNDUM.format(a=35, c=35 if cubic else 44, angle=90, gamma=90, symbol="?", sites="Al1 .13 .41 .29")
    kept = [line for line in text.splitlines() if not line.startswith("_space_group")]
    crystal = parse("\n".join([kept[0], lines, *kept[1:]]))
    assert len(crystal) == len(list(gemmi.find_spacegroup_by_name(number).operations()))


@pytest.mark.parametrize(("word", "symbol"), [("FE", "Fe"), ("Fe3+", "Fe"), ("D", "H"), ("O2-", "O"), ("h", "H")])
def test_type_symbols(word: str, symbol: str) -> None:
    assert symbol in parse(QUARTZ.replace("Si4+", word).replace("Si1", "M1")).elements


def test_a_label_and_a_type_are_of_one_element_unless_the_formula_decides() -> None:
    text = "\n".join(line for line in ROCK_SALT.splitlines() if "formula" not in line)
    with pytest.raises(StructureError, match="the label 'Na1' and the type symbol 'K': Na or K; correct the one"):
        parse(text.replace("Na1 Na", "Na1 K"))
    for label in ("B1", "M1", "Nax1", "K1", "X"):
        assert set(parse(text.replace("Na1 Na", f"{label} K")).elements) == {"K", "Cl"}
    with_formula = re.sub("(?m)^_chemical_formula_sum.*", "_chemical_formula_sum 'K Cl'", ROCK_SALT)
    assert set(parse(with_formula.replace("Na1 Na", "Na1 K")).elements) == {"K", "Cl"}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.1191(2) 1.0", "0.1191(2) 0.5", "partial occupancy: site O1 is occupied to 0.5"),
        ("Si4+", "Qq", "unknown element 'Qq'"),
        ("0.4135(3)", "x", "a coordinate in the CIF is not a number"),
        ("0.2669(2) 0.1191(2) 1.0", "0.2669(2)", "line 27 .* Wrong number of values in loop _atom_site"),
        ("_cell_length_c 5.4054(4)\n", "", "no cell lengths"),
        ("_cell_length_c 5.4054(4)\n", "_cell_length_c ?\n", "no cell lengths"),
        ("'y,x,2/3-z'", "'y,y,2/3-z'", "symmetry operation"),
        ("_atom_site_fract_", "_atom_site_other_", "no atom sites"),
        (QUARTZ, "data_empty\n", "no atom sites"),
        (QUARTZ, QUARTZ[:400], "line 20 of the CIF cannot be read"),
        ("'y,x,2/3-z'", "'y,x'", "symmetry operation 'y,x' cannot be read"),
        (
            "_cell_angle_beta 90",
            "_cell_length_a 5\n_cell_angle_beta 90",
            "_cell_length_a stands in the CIF more than once",
        ),
        ("_cell_angle_beta 90", "_cell_angle_beta 0", "_cell_angle_beta is 0"),
        (
            "_atom_site_fract_y",
            "_atom_site_other_y",
            "the CIF has no _atom_site_fract_y; expected as many as of _atom_site_fract_x",
        ),
        (
            "_symmetry_space_group_name_H-M 'P 32 2 1'\nloop_\n_space_group_symop_operation_xyz",
            "loop_\n_space_group_symop_ssg_operation_algebraic",
            "of a modulated structure",
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
    with pytest.raises(StructureError, match=r"is not known, and there are no symmetry operations; write them"):
        parse(text)


def test_a_label_helps_out_where_a_type_is_unknown() -> None:
    assert parse(QUARTZ.replace("Si4+", "?")).elements == ["Si"] * 3 + ["O"] * 6


# Magnesium aluminate (Peterson, Lager and Hitterman 1991): the origin at a center of inversion
SITES = "Mg1 Mg2+ 0.125 0.125 0.125\nAl1 Al3+ 0.5 0.5 0.5\nO1 O2- 0.2617 0.2617 0.2617\n"
SPINEL = f"""data_spinel
_chemical_formula_sum 'Al2 Mg O4'
_cell_length_a 8.0806
_cell_length_b 8.0806
_cell_length_c 8.0806
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_cell_formula_units_Z 8
_symmetry_space_group_name_H-M 'F d -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{SITES}"""
DIAMOND = SPINEL.replace("Al2 Mg O4", "C").replace(SITES, "C1 C 0.125 0.125 0.125\n").replace("8.0806", "3.567")
ROCK_SALT = DIAMOND.replace("'C'", "'Cl Na'").replace("C1 C 0.125 0.125 0.125", "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5")
ROCK_SALT = ROCK_SALT.replace("F d -3 m", "F m -3 m").replace("3.567", "5.64").replace("_Z 8", "_Z 4")


def nearest(crystal: Crystal, one: str, other: str) -> float:
    """Shortest distance between atoms of two elements, Angstrom."""
    elements = np.array(crystal.elements)
    steps = crystal.frac_coords[elements == one][:, None] - crystal.frac_coords[elements == other]
    distances = np.linalg.norm((steps - np.round(steps)) @ crystal.lattice, axis=2)
    return float(distances[distances > 1e-6].min())


def test_the_formula_tells_the_origin() -> None:
    read = parse_cif(SPINEL)
    assert Counter(read.crystal.elements) == {"Mg": 8, "Al": 16, "O": 32}
    assert nearest(read.crystal, "Mg", "O") == pytest.approx(1.913, abs=2e-3)
    assert nearest(read.crystal, "Al", "O") == pytest.approx(1.928, abs=5e-3)
    assert read.notes == ("F d -3 m:2: the setting that fits the atoms, as the file leaves it open",)
    moved = SPINEL.replace(SITES, "Mg1 Mg2+ 0 0 0\nAl1 Al3+ 0.625 0.625 0.625\nO1 O2- 0.3867 0.3867 0.3867\n")
    other = parse_cif(moved)
    assert other.notes[0].startswith("F d -3 m:1")
    assert nearest(other.crystal, "Al", "O") == pytest.approx(1.928, abs=5e-3)


@pytest.mark.parametrize("name", ["F d -3 m", "Fd3m", "F 41/d -3 2/m", "227"])
def test_z_tells_the_origin(name: str) -> None:
    text = DIAMOND.replace("'F d -3 m'", f"'{name}'")
    crystal = parse(text)
    assert len(crystal) == 8
    assert nearest(crystal, "C", "C") == pytest.approx(1.5446, abs=1e-3)
    with pytest.raises(StructureError, match="F d -3 m:1 or F d -3 m:2, and its atoms fit more than one"):
        parse(text.replace("_cell_formula_units_Z 8\n", ""))


@pytest.mark.parametrize(("number", "code", "symbol"), [(14, "b2", "P 1 21/n 1"), (62, "cab", "P b n m"),
                                                        (62, "abc", "P n m a"), (227, "2", "F d -3 m :2")])  # fmt: skip
def test_the_code_beside_a_number_tells_the_setting(number: int, code: str, symbol: str) -> None:
    text = cell_of(number).format(symbol="?", sites="Al1 .13 .41 .29")
    coded = parse(text.replace("loop_", f"_space_group_IT_coordinate_system_code {code}\nloop_", 1))
    named = parse(text.replace("'?'", f"'{symbol}'"))
    np.testing.assert_allclose(coded.frac_coords, named.frac_coords)


def test_settings_with_the_same_atoms_are_one() -> None:
    """Read an atom on the origin by any setting of group 64, but refuse one on a general position."""
    text = cell_of(64).format(symbol="?", sites="Al1 0 0 0")
    expected = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    assert sorted((parse(text).frac_coords % 1).tolist()) == expected
    with pytest.raises(StructureError, match="its atoms fit more than one"):
        parse(text.replace("Al1 0 0 0", "Al1 .13 .41 .29"))


def test_the_hall_symbol_tells_the_origin() -> None:
    bare = DIAMOND.replace("_cell_formula_units_Z 8\n", "")
    for hall, n_atoms in (("-F 4vw 2vw 3", 8), ("F 4d 2 3 -1d", 16)):
        assert len(parse(bare.replace("loop_", f"_space_group_name_Hall '{hall}'\nloop_", 1))) == n_atoms


@pytest.mark.parametrize("line", ["_space_group_name_Hall '-P 4 2 3'", "_space_group_IT_number 221"])
def test_names_that_contradict_each_other_are_refused(line: str) -> None:
    with pytest.raises(StructureError, match="the file names two space groups"):
        parse(SPINEL.replace("loop_", f"{line}\nloop_", 1))


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("P m -3 m", (4, 4, 6, 90, 90, 90)),
        ("P 4/m m m", (4, 5, 6, 90, 90, 90)),
        ("P 63/m m c", (4, 4, 6, 90, 90, 90)),
        ("P 21/c", (7, 8, 9, 90, 90, 105)),
        ("P 1 21/c 1", (7, 8, 9, 90, 90, 105)),
        ("P n m a", (7, 8, 9, 90, 95, 90)),
        ("R -3 m :H", (4.5, 4.5, 4.5, 57, 57, 57)),
        ("R -3 m :R", (4.5, 4.5, 12, 90, 90, 120)),
        ("R -3 m", (4.5, 4.5, 4.5, 57, 60, 57)),
    ],
)
@pytest.mark.parametrize("by_operations", [True, False])
def test_symmetry_that_does_not_fit_the_cell_is_refused(name: str, cell: tuple, by_operations: bool) -> None:
    lines = CORUNDUM.splitlines()
    values = [f"{line.split()[0]} {value}" for line, value in zip(lines[1:7], cell, strict=True)]
    text = "\n".join([lines[0], *values, *lines[9:]]).format(sites="Al1 0.1 0.2 0.3")
    symmetry = f"_space_group_name_H-M_alt '{name}'"
    if by_operations:
        operations = [op.triplet() for op in gemmi.find_spacegroup_by_name(name).operations()]
        symmetry = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(operations)
    with pytest.raises(StructureError, match=r"does not fit the cell|are no symmetry of the cell"):
        parse(text.replace("loop_", f"{symmetry}\nloop_", 1))


def test_the_cell_tells_the_axis_of_a_short_monoclinic_symbol() -> None:
    text = CORUNDUM.format(a=5, c=9, angle=90, gamma=110, symbol="P 2/m", sites="Al1 0.1 0.2 0.3").replace("167", "10")
    crystal = parse(text)
    assert_same_cell(crystal, read_by_pymatgen(text.replace("P 2/m", "P 1 1 2/m")))
    assert len(crystal) == 4


def rock_salt(*operations: str, name: str = "F m -3 m", z: int | None = None) -> str:
    """Rock salt with these operations written."""
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{text}'\n" for text in operations) + "loop_"
    text = ROCK_SALT.replace("F m -3 m", name).replace("loop_", loop, 1)
    return text.replace("_cell_formula_units_Z 4\n", "" if z is None else f"_cell_formula_units_Z {z}\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (rock_salt("x,y,z"), "gives 1 symmetry operations, and its space group F m -3 m has others"),
        (rock_salt("x,y,z", name="F 4/m -3 2/m", z=4), "gives 1 symmetry operations"),
        (rock_salt("x,y,z", "-x,-y,-z"), "gives 2 symmetry operations"),
        (rock_salt("x,y,z").replace("_length_c 5.64", "_length_c 6.64"), "gives 1 symmetry operations"),
        (rock_salt("x,y,z", "y,z,x"), r"the symmetry operations \(2\) form no group"),
        (rock_salt("x,y,z", "x+1/2,y+1/2,z", "x,y+1/2,z+1/2"), "form no group"),
        (rock_salt("x,y,z", "-x,-y,z+1/3"), "form no group"),
        (
            rock_salt(*(op.triplet() for op in gemmi.find_spacegroup_by_name("P m -3 m").operations())),
            "gives 48 symmetry operations, and its space group F m -3 m has others",
        ),
    ],
)
def test_operations_that_are_not_the_groups_are_refused(text: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        parse(text)


def test_operations_may_be_fewer_where_the_file_lists_all_atoms() -> None:
    """By Z, or as the atoms have the symmetry the name says; an operation written twice is one."""
    assert len(parse(rock_salt("x,y,z", z=1))) == 2
    centrings = ("x,y,z", "x,y+1/2,z+1/2", "x+1/2,y,z+1/2", "x+1/2,y+1/2,z", "X, Y, Z")
    assert len(parse(rock_salt(*centrings))) == 8


# as where somebody or a tool has left out the symmetry of rock salt: its two sites make cesium chloride
WITHOUT_SYMMETRY = "\n".join(
    line for line in ROCK_SALT.splitlines() if "space_group" not in line and "_units_Z" not in line
)


def with_column(text: str, column: str, values: Sequence[str]) -> str:
    """Add a column to the two sites of rock salt."""
    text = text.replace("_atom_site_fract_z", f"_atom_site_fract_z\n_atom_site_{column}")
    return text.replace("0 0 0", f"0 0 0 {values[0]}").replace("0.5 0.5 0.5", f"0.5 0.5 0.5 {values[1]}")


@pytest.mark.parametrize("symmetry", ["", "_space_group_IT_number 1", "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z"])
@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("symmetry_multiplicity", "44"),
        ("site_symmetry_multiplicity", "?4"),
        ("site_symmetry_order", ("48", "48")),
        ("Wyckoff_symbol", "ab"),
        ("Wyckoff_label", ("4a", "4b")),
        ("multiplicity", "44"),
    ],
)
def test_sites_of_several_atoms_need_symmetry(column: str, values: Sequence[str], symmetry: str) -> None:
    text = with_column(WITHOUT_SYMMETRY.replace("loop_", f"{symmetry}\nloop_", 1), column, values)
    with pytest.raises(StructureError, match=rf"_atom_site_{column.lower()} of site \w+ is \d*\w, and "):
        parse(text)
    assert len(parse(text.replace("loop_", "_cell_formula_units_Z 1\nloop_", 1))) == 2


@pytest.mark.parametrize(
    ("column", "values"),
    [("symmetry_multiplicity", "11"), ("symmetry_multiplicity", ("1.0", "?")), ("Wyckoff_symbol", ("1a", "a"))],
)
def test_sites_of_one_atom_need_no_symmetry(column: str, values: Sequence[str]) -> None:
    assert len(parse(with_column(WITHOUT_SYMMETRY, column, values))) == 2


@pytest.mark.parametrize(
    ("values", "is_right"),
    [("44", True), ("4?", True), (("48", "48"), True), ("11", True), ("42", False), (("4", "192"), False)],
)
def test_multiplicities_are_compared_with_the_atoms_of_the_sites(values: Sequence[str], is_right: bool) -> None:
    """Accept the order of the site symmetry in their place, 192 / 4 here, and 1 for all sites."""
    text = with_column(ROCK_SALT, "symmetry_multiplicity", values)
    if is_right:
        assert len(parse(text)) == 8
        return
    with pytest.raises(StructureError, match=r"of site Cl1 is \d+, and F m -3 m \(192\) gives it 4 atoms"):
        parse(text)


def test_multiplicities_tell_the_origin() -> None:
    """Read a site on 3/8 3/8 3/8: 32e by origin 1, 8b by origin 2."""
    text = DIAMOND.replace("_cell_formula_units_Z 8\n", "").replace("3.567", "9").replace("0.125 0.125 0.125", "{}")
    with pytest.raises(StructureError, match="its atoms fit more than one"):
        parse(text.format("0.375 0.375 0.375"))
    text = text.replace("_atom_site_fract_z", "_atom_site_fract_z\n_atom_site_symmetry_multiplicity")
    for multiplicity, origin in ((32, 1), (8, 2)):
        read = parse_cif(text.format(f"0.375 0.375 0.375 {multiplicity}"))
        assert len(read.crystal) == multiplicity
        assert read.notes == (f"F d -3 m:{origin}: the setting that fits the atoms, as the file leaves it open",)


@pytest.mark.parametrize("symmetry", ["x,y,z", "x,y,z;-x,-y,-z"])
def test_lost_operations_show_in_the_density(symmetry: str) -> None:
    loop = "\n".join(("loop_\n_symmetry_equiv_pos_as_xyz", *symmetry.split(";"), "loop_"))
    density = "_exptl_crystal_density_diffrn {}\n"  # of halite, 4 x 58.44 u in 5.64^3 cubic Angstrom
    with pytest.raises(StructureError, match=r"density_diffrn is 2\.164, the atoms of the cell have 0\.54 g/cm3"):
        parse(WITHOUT_SYMMETRY.replace("loop_", density.format("2.164") + loop, 1))
    assert len(parse(WITHOUT_SYMMETRY.replace("loop_", density.format("?") + loop, 1))) == 2
    assert len(parse(ROCK_SALT.replace("_Z 4", "_Z ?").replace("loop_", density.format("2.164(3)") + "loop_", 1))) == 8
    assert len(parse(ROCK_SALT.replace("loop_", density.format("1.0") + "loop_", 1))) == 8  # by Z and the formula


def test_z_alone_promises_as_many_atoms_of_an_element() -> None:
    text = "\n".join(line for line in WITHOUT_SYMMETRY.splitlines() if "_formula_" not in line)
    with pytest.raises(StructureError, match="Z is 4, and of no element the cell has more than 1 atoms"):
        parse(text.replace("loop_", "_cell_formula_units_Z 4\nloop_", 1))
    assert len(parse(text.replace("loop_", "_cell_formula_units_Z 1\nloop_", 1))) == 2


def test_a_formula_counts_as_one_of_the_cell_in_pymatgens_files_alone() -> None:
    """Give a quarter of the operations of a group without a name: Z times the formula is four times the cell."""
    centrings = "'x,y,z'\n'x,y+1/2,z+1/2'\n'x+1/2,y,z+1/2'\n'x+1/2,y+1/2,z'"
    symmetry = f"_cell_formula_units_Z 4\nloop_\n_symmetry_equiv_pos_as_xyz\n{centrings}\nloop_"
    text = WITHOUT_SYMMETRY.replace("loop_", symmetry, 1).replace("'Cl Na'", "'Cl4 Na4'")
    with pytest.raises(StructureError, match="the cell has 8 atoms besides hydrogen, Z and the formula promise 32"):
        parse(text)
    assert len(parse(text.replace("'Cl4 Na4'", "'Cl4 Na4'\n_chemical_formula_structural NaCl"))) == 8


@pytest.mark.parametrize("tag", ["_symmetry_cell_setting", "_space_group.crystal_system"])
def test_a_crystal_system_needs_symmetry(tag: str) -> None:
    text = WITHOUT_SYMMETRY.replace("loop_", f"{tag} cubic\nloop_", 1)
    for lost in (text, text.replace("loop_", "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nloop_", 1)):
        with pytest.raises(StructureError, match="says 'cubic' and gives no symmetry"):
            parse(lost)
    assert len(parse(text.replace("cubic", "triclinic"))) == 2
    assert len(parse(text.replace("loop_", "_space_group_name_H-M_alt 'P 1'\nloop_", 1))) == 2


def test_operations_have_at_least_the_axes_of_the_system() -> None:
    """Give the 48 of Fm-3m and its centrings, their half without the three-fold axes, and two alone."""
    whole = [op.triplet() for op in gemmi.find_spacegroup_by_name("F m -3 m").operations()]
    tetragonal = [op.triplet() for op in gemmi.find_spacegroup_by_name("P 4/m m m").operations()]
    for operations, system, has_axes in (
        (whole, "cubic", True),
        (tetragonal, "tetragonal", True),
        (tetragonal, "cubic", False),
        (("x,y,z", "-x,-y,-z"), "triclinic", True),
        (("x,y,z", "-x,-y,-z"), "monoclinic", False),
        (("x,y,z", "-x,-y,z"), "monoclinic", True),
        (("x,y,z", "-x,-y,z"), "isometric", True),
        (("x,y,z", "-x,-y,z"), "orthorhombic", False),
    ):
        text = rock_salt(*operations, name="?").replace("loop_", f"_space_group_crystal_system {system}\nloop_", 1)
        text = "\n".join(line for line in text.splitlines() if "_IT_number" not in line)
        if has_axes:
            assert len(parse(text)) in (2, 8)
        else:
            with pytest.raises(StructureError, match=rf"says '{system}' and has \d+ operations of a lower one"):
                parse(text)


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        ("_space_group.reference_setting '225:-F 4 2 3'", "_space_group_reference_setting"),
        ("_space_group.Laue_class m-3m", "_space_group_laue_class"),
        ("_symmetry_space_group_number 225", "_symmetry_space_group_number"),
        ("_symmetry_space_group_H-M 'F m -3 m'", "_symmetry_space_group_h-m"),
        ("_pd_phase_space_group 'F m -3 m'", "_pd_phase_space_group"),
    ],
)
def test_symmetry_under_a_tag_that_is_not_read(line: str, tag: str) -> None:
    text = WITHOUT_SYMMETRY.replace("loop_", f"_symmetry_entry_id 7\n{line}\nloop_", 1)
    with pytest.raises(StructureError, match=f"stands under {tag}, which is not read"):
        parse(text)
    assert len(parse(text.replace(line.split(maxsplit=1)[1], "'P 1'"))) == 2


def test_symmetry_in_another_block_than_the_sites() -> None:
    general = "data_general\n_space_group_name_H-M_alt 'F m -3 m'\n"
    with pytest.raises(StructureError, match="sites in the data block spinel, and symmetry in general alone"):
        parse(general + WITHOUT_SYMMETRY)
    assert len(parse(general + ROCK_SALT)) == 8
    assert len(parse(general.replace("F m -3 m", "P 1") + WITHOUT_SYMMETRY)) == 2


def test_a_number_tells_lost_centrings_of_a_setting_that_no_table_has() -> None:
    """Give the glide of I 1 m 1 without its centring, which is P 1 n 1."""
    sites = "Al1 .1 .2 .3"
    text = CORUNDUM.format(a=9, c=11, angle=90, gamma=90, symbol="?", sites=sites).replace("number 167", "number 8")
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx+1/2,-y+1/2,z+1/2\n"
    with pytest.raises(StructureError, match=r"gives 2 symmetry operations, and its space group .* has others"):
        parse(text.replace("loop_", f"{loop}loop_", 1))
    assert len(parse(text.replace("number 8", "number 7").replace("loop_", f"{loop}loop_", 1))) == 2


def test_operations_of_both_origins_are_too_few() -> None:
    """Give four of both origins of P4/ncc; the site has eight atoms by the first and four by the other."""
    operations = ("x,y,z", "-y+1/2,-x+1/2,z+1/2", "-y,-x,-z+1/2", "x+1/2,y+1/2,-z")
    groups = [group for group in gemmi.spacegroup_table_itb() if group.number == 130]
    assert all({*operations} <= {op.triplet() for op in group.operations()} for group in groups)
    text = CORUNDUM.format(a=13, c=17, angle=90, gamma=90, symbol="P 4/n c c", sites="Cl1 .75 .25 0")
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(operations)
    with pytest.raises(StructureError, match="gives 4 symmetry operations"):
        parse(text.replace("number 167", "number 130").replace("loop_", f"{loop}\nloop_", 1))


@pytest.mark.parametrize(
    ("lines", "n_atoms"),
    [
        ("_space_group_name_H-M_alt 'P n m a'\n_space_group_IT_coordinate_system_code abc", 8),
        ("_space_group_name_H-M_alt 'P n m a'\n_space_group_IT_coordinate_system_code cab", 0),
        ("_space_group_name_H-M_alt 'P 1 21/c 1'\n_space_group_IT_coordinate_system_code b1", 4),
        ("_space_group_name_H-M_alt 'P 1 21/c 1'\n_space_group_IT_coordinate_system_code b2", 0),
        ("_space_group_name_H-M_alt 'F m m m'\n_space_group_IT_coordinate_system_code 1", 32),  # it has one origin
    ],
)
def test_the_code_of_a_setting_must_be_that_of_the_symbol(lines: str, n_atoms: int) -> None:
    text = CORUNDUM.format(a=13, c=17, angle=90, gamma=90, symbol="?", sites="Al1 .13 .41 .29")
    kept = [line for line in text.splitlines() if not line.startswith("_space_group")]
    text = "\n".join([kept[0], lines, *kept[1:]])
    if n_atoms:
        assert len(parse(text)) == n_atoms
    else:
        with pytest.raises(StructureError, match=r"names the setting .* of a group, and the code .* of another"):
            parse(text)


def test_the_reference_setting_is_the_files_own_without_a_transform() -> None:
    text = CORUNDUM.format(a=13, c=17, angle=90, gamma=90, symbol="?", sites="Al1 .13 .41 .29")
    kept = [line for line in text.splitlines() if not line.startswith("_space_group")]

    def with_lines(*lines: str) -> str:
        return "\n".join([kept[0], *lines, *kept[1:]])

    reference, transform = "_space_group.name_H-M_ref 'P n m a'", "_space_group.transform_Pp_abc"
    assert len(parse(with_lines(reference))) == 8
    assert len(parse(with_lines(reference, f"{transform} 'a,b,c;0,0,0'"))) == 8
    with pytest.raises(StructureError, match=r"stands under _space_group_.*, which is not read"):
        parse(with_lines(reference, f"{transform} 'c,a,b;0,0,0'"))
    crystal = parse(with_lines("_space_group.name_H-M_alt 'P b n m'", reference, f"{transform} 'c,a,b;0,0,0'"))
    (entry,) = [group for group in gemmi.spacegroup_table() if group.hm == "P b n m"]
    images = [np.array(op.apply_to_xyz([0.13, 0.41, 0.29])) % 1 for op in entry.operations()]
    assert_same_cell(crystal, Crystal.from_arrays(crystal.lattice, np.array(images), ["Al"] * 8))


@pytest.mark.parametrize("tag", ["occupation", "occupancy_factor", "site_occupancy", "chemical_occupancy", "sof"])
def test_occupancies_under_other_tags(tag: str) -> None:
    with pytest.raises(StructureError, match=rf"site Cl1 is occupied to \.5 \(_atom_site_{tag}\)"):
        parse(with_column(ROCK_SALT, tag, ("1", ".5")))
    assert len(parse(with_column(ROCK_SALT, tag, ("1.001", "0.999")))) == 8


def test_flags_and_uncertainties_are_no_occupancies() -> None:
    assert len(parse(with_column(ROCK_SALT, "occupancy_details", ("full", ".")))) == 8
    assert len(parse(f"{ROCK_SALT}\nloop_\n_atom_site_occupancy\n")) == 8
    assert len(parse(with_column(ROCK_SALT, "refinement_flags_occupancy", ("P", ".")))) == 8
    assert len(parse(with_column(ROCK_SALT, "occupancy_su", ("0.01", ".")))) == 8


def test_an_occupancy_of_one_character_is_not_unknown() -> None:
    with pytest.raises(StructureError, match="partial occupancy: site Cl1 is occupied to ~"):
        parse(with_column(ROCK_SALT, "occupancy", ("1", "½")))


@pytest.mark.parametrize(("tag", "values"), [("label_alt_id", "AB"), ("pdbx_PDB_model_num", "12")])
def test_alternatives_of_macromolecules_are_refused(tag: str, values: str) -> None:
    with pytest.raises(StructureError, match=r"the CIF has several (alternative sites|models)"):
        parse(with_column(ROCK_SALT, tag, values))
    assert len(parse(with_column(ROCK_SALT, tag, (values[0], ".")))) == 8


@pytest.mark.parametrize(
    ("label", "is_mixed"),
    [
        *((label, True) for label in ("Na0.5K0.5", "Na,K1", "0.5Na0.5K", "(Na,K)1", "[Na,K]", "Na/K(1)", "Na+K_2")),
        *((label, True) for label in ("Na50K50", "Na;K", "Na|K1")),
        *(
            (label, False)
            for label in (
                "Na1:Ni1",
                "Na1.1K",
                "C10H12",
                "Na12K50",
                "Na-K",
                "Na_K1",
                "Na/Xx",
                "Na(1)",
                "Na/IV",
                "100%Na",
                "50%",
            )
        ),
    ],
)
def test_a_label_may_mix_elements_beside_a_type(label: str, is_mixed: bool) -> None:
    text = "\n".join(line for line in ROCK_SALT.splitlines() if "formula" not in line).replace("Na1 Na", f"{label} Na")
    if is_mixed:
        with pytest.raises(StructureError, match="puts Na and K on one site: disordered"):
            parse(text)
    else:
        assert len(parse(text)) == 8


def test_columns_of_two_loops_need_one_in_common() -> None:
    """Leave out the labels in one, so that nothing tells which type is of which site."""
    loop = "loop_\n_atom_site_label\n_atom_site_type_symbol\nNa1 Na\nCl1 Cl\n"
    assert len(parse(ROCK_SALT.replace("loop_", f"{loop}loop_", 1))) == 8
    without = ROCK_SALT.replace("_atom_site_label\n", "").replace("_atom_site_type_symbol\n", "")
    without = without.replace("Na1 Na ", "").replace("Cl1 Cl ", "")
    with pytest.raises(StructureError, match="_atom_site_label stands in another loop than _atom_site_fract_x"):
        parse(without.replace("loop_", f"{loop}loop_", 1))


def test_a_formula_on_folded_lines_is_compared() -> None:
    folded = "_chemical_formula_sum\n;\\\nK1 \\\nCl1\n;\n"
    text = "\n".join(line for line in ROCK_SALT.splitlines() if "formula_sum" not in line)
    with pytest.raises(StructureError, match="_chemical_formula_sum is 'K1 Cl1'"):
        parse(text.replace("loop_", f"{folded}loop_", 1))
    assert len(parse(text.replace("loop_", f"{folded.replace('K1', 'Na1')}loop_", 1))) == 8


def test_line_ends_and_control_characters_of_other_systems() -> None:
    for text in (ROCK_SALT.replace("\n", "\r"), ROCK_SALT.replace("\n", "\r\n") + "\x1a", ROCK_SALT + "\x0c\n"):
        assert len(parse(text)) == 8


def test_an_unknown_group_needs_operations() -> None:
    text = rock_salt("x,y,z", name="F m 3 x")
    with pytest.raises(StructureError, match="'F m 3 x' is not known, and x,y,z stands alone"):
        parse(text)


def test_two_lists_of_operations_must_agree() -> None:
    text = rock_salt("x,y,z", name="P 1")
    other = "loop_\n_space_group_symop_operation_xyz\n'x,y,z'\nloop_"
    assert len(parse(text.replace("loop_", other, 1))) == 2
    with pytest.raises(StructureError, match="two lists of symmetry operations, and they differ"):
        parse(text.replace("loop_", other.replace("\nloop_", "\n'-x,-y,-z'\nloop_"), 1))


def test_magnetic_operations_without_time_reversal() -> None:
    """The parent's name is of the paramagnetic cell, half as large."""
    symmetry = (
        "_parent_space_group.name_H-M 'F m -3 m'\n"
        "loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n-x,-y,-z,+1\n"
        "loop_\n_space_group_symop_magn_centering.xyz\nx,y,z,+1\nx+1/2,y+1/2,z,-1\nloop_"
    )
    lines = [line for line in ROCK_SALT.splitlines() if "space_group" not in line]
    text = (
        "\n".join(lines)
        .replace("loop_", symmetry, 1)
        .replace("_cell_length_c 5.64", "_cell_length_c 11.28")
        .replace("_Z 4", "_Z 2")
    )
    crystal = parse(text.replace("Cl1 Cl 0.5 0.5 0.5", "Cl1 Cl 0 0.5 0.25").replace("'Cl Na'", "'Cl2 Na'"))
    assert Counter(crystal.elements) == {"Na": 2, "Cl": 4}


@pytest.mark.parametrize(
    ("coords", "n_atoms"),
    [("0.33 0.67 0", 1), ("0.33 0.66 0", 1), ("0.333 0.667 0", 1), ("0.30 0.60 0", 3), ("0.2 0.8 0", 3)],
)
def test_thirds_of_two_digits_are_one_atom_in_a_large_cell(coords: str, n_atoms: int) -> None:
    text = CORUNDUM.format(a=12.5, c=5, angle=90, gamma=120, symbol="P 3", sites=f"Al1 {coords}").replace("167", "143")
    read = parse_cif(text)
    assert len(read.crystal) == n_atoms
    if n_atoms == 1:
        np.testing.assert_allclose(read.crystal.frac_coords[0, :2], [1 / 3, 2 / 3], atol=1e-9)
    assert bool(read.notes) == (coords in ("0.33 0.67 0", "0.33 0.66 0"))


@pytest.mark.parametrize("x", ["0.01", "0.006", "0.020"])
def test_a_site_near_its_own_image_is_refused(x: str) -> None:
    text = CORUNDUM.format(a=10, c=10, angle=90, gamma=90, symbol="P -1", sites=f"Al1 {x} 0 0").replace("167", "2")
    with pytest.raises(StructureError, match=r"sites Al1 and Al1\) are 0\..* between Al and Al"):
        parse(text)


def test_a_cell_listed_in_full_beside_its_operations() -> None:
    """Every atom is there once, whatever a file repeats; an atom of another element on its place is refused."""
    sodium = "Na2 Na 0.5 0.5 0\nNa3 Na 0.5 0 0.5\nNa4 Na 0 0.5 0.5\n"
    read = parse_cif(ROCK_SALT + sodium + "Cl2 Cl 0 0 0.5\nCl3 Cl 0 0.5 0\nCl4 Cl 0.5 0 0\n")
    assert Counter(read.crystal.elements) == {"Na": 4, "Cl": 4}
    assert read.notes == ("atoms given more than once, by Na2, Na3, Na4, Cl2, Cl3, ..., were taken once",)
    assert len(parse(ROCK_SALT + sodium)) == 8
    with pytest.raises(StructureError, match=r"sites Na2, Na3, Na4 repeat atoms .* the 5 sites are not the 8 atoms"):
        parse((ROCK_SALT + sodium).replace("_Z 4", "_Z ?"))
    with pytest.raises(StructureError, match=r"sites Na1 and K1\) are 0.000 Angstrom apart"):
        parse(ROCK_SALT.replace("'Cl Na'", "'Cl K Na'") + "K1 K 0.5 0.5 0\n")


def test_symmetry_of_another_cell_is_refused() -> None:
    """Indium in a face-centered cell, by the symbol of its body-centered one, which has half the volume."""
    text = CORUNDUM.format(a=4.583, c=4.936, angle=90, gamma=90, symbol="I 4/m m m", sites="In1 0 0 0\nIn2 .5 .5 0\n")
    with pytest.raises(StructureError, match=r"the 4 sites are not the 8 atoms of the cell"):
        parse(text.replace("167", "139") + "In3 .5 0 .5\nIn4 0 .5 .5\n")


@pytest.mark.parametrize(
    ("loop", "reason"),
    [
        ("C1 C 0.1 0.1 0.1 A 1\nO1A O 0.3 0.1 0.1 A 1\nO1B O 0.6 0.2 0.1 A 2", "disorder groups 1, 2 of assembly A"),
        ("C1 C 0.1 0.1 0.1 . .\nO1A O 0.3 0.1 0.1 . 1\nO1B O 0.6 0.2 0.1 . 2", "disorder groups 1, 2"),
        ("C1 C 0.1 0.1 0.1 . .\nO1A O 0.3 0.1 0.1 . -1", "disorder groups -1"),
        ("C1 C 0.1 0.1 0.1 . .\nO1A O 0.3 0.1 0.1 A 1", ""),
        ("C1 C 0.1 0.1 0.1 . .\nO1A O 0.3 0.1 0.1 A 1\nO1B O 0.6 0.2 0.1 B 2", ""),
    ],
)
def test_disorder_groups_of_full_occupancy(loop: str, reason: str) -> None:
    head = "\n".join(CORUNDUM.splitlines()[:7]).format(a=6, c=8, angle=90, gamma=90)
    tags = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "disorder_assembly", "disorder_group"]
    text = "\n".join([head, "loop_", *(f"_atom_site_{tag}" for tag in tags), loop, ""])
    if reason:
        with pytest.raises(StructureError, match=f"{reason}.* alternatives of each other"):
            parse(text)
    else:
        assert len(parse(text)) == len(loop.splitlines())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (QUARTZ + DIAMOND, r"holds 2 structures \(data blocks quartz, spinel\)"),
        (QUARTZ + "loop_\n_atom_site_fract_x\n0.1\n", "_atom_site_fract_x stands in the CIF more than once"),
        (QUARTZ.replace("O1  O2-  0.4135(3) 0.2669(2)", "O1 O2- . ?"), r"site O1: a coordinate .* \. \? 0.1191"),
        (
            "#\\#CIF_2.0\n" + QUARTZ.replace("'Quartz'", "'''a 'quoted'\ntext'''"),
            "lists and triple quotes of CIF 2 are not read",
        ),
        (QUARTZ.replace("data_quartz", "data_quartz\n_chemical_formula_sum 'Ge O2'"), "'Ge O2', the atoms are O2 Si1"),
    ],
)
def test_what_leaves_no_one_crystal_is_refused(text: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'Quartz'", "'Quartz, low',"),
        ("'Quartz'", "'Quartz'\u200b\u00a0"),
        ("'Quartz'", "'Quartz'\u00ae"),
        ("Si1 Si4+ 0.4697(1)", "Si1\u00a0Si4+\u20090.4697(1)"),
        ("_atom_site_", "_atom_site."),
        ("_cell_", "_cell."),
        ("_space_group_symop_operation_xyz", "_space_group_symop.operation_xyz"),
        ("data_quartz", "data_quartz\n_chemical_formula_sum 'O2 Si'"),
        ("data_quartz", "data_quartz\n_chemical_formula_sum 'SI1 O2'"),
        ("data_quartz", "data_quartz\n_chemical_formula_sum ''\n_chemical_formula_sum 'O2 Si'"),
        ("data_quartz", "data_quartz\n_chemical_formula_sum '(Si O2)'"),
    ],
)
def test_habits_that_do_not_change_a_crystal(old: str, new: str) -> None:
    assert old in QUARTZ
    read = parse_cif(QUARTZ.replace(old, new))
    assert read.notes == ()
    assert_same_cell(read.crystal, parse(QUARTZ))


def test_missing_angles_are_right_angles_and_said() -> None:
    read = parse_cif("\n".join(line for line in ROCK_SALT.splitlines() if "_angle_" not in line))
    assert len(read.crystal) == 8
    assert "_cell_angle_alpha, _cell_angle_beta, _cell_angle_gamma: missing, so 90 degrees" in read.notes[0]
    with pytest.raises(StructureError, match="are no symmetry of the cell"):
        parse("\n".join(line for line in QUARTZ.splitlines() if "_angle_" not in line))
    with pytest.raises(StructureError, match="writes right angles, but no _cell_angle_gamma"):
        parse("\n".join(line for line in ROCK_SALT.splitlines() if "_angle_gamma" not in line))


@pytest.mark.parametrize(
    ("volume", "is_read"),
    [("113.17(2)", False), ("117.3(2)", True), ("118", True), ("+117.3", True), ("1.17E+02", True), ("110", False)],
)
def test_the_volume_shows_whether_a_missing_angle_is_right(volume: str, is_read: bool) -> None:
    """Cubic Angstrom of a cell of 4 x 5 x 6 with beta 95 and gamma 101: 113.17 with an alpha of 104, 117.3 with 90."""
    text = (
        "data_a\n_cell_length_a 4.000\n_cell_length_b 5.000(1)\n_cell_length_c 6.000\n_cell_angle_beta 95\n"
        f"_cell_angle_gamma 101\n_cell_volume {volume}\nloop_\n_atom_site_label\n_atom_site_fract_x\n"
        "_atom_site_fract_y\n_atom_site_fract_z\nCu1 0 0 0\n"
    )
    if is_read:
        assert parse(text).volume == pytest.approx(gemmi.UnitCell(4, 5, 6, 90, 95, 101).volume)
    else:
        with pytest.raises(StructureError, match=r"give 117\.3, with 90 degrees for _cell_angle_alpha; correct"):
            parse(text)


def test_few_digits_are_no_other_angle() -> None:
    """Read a cubic cell of 3.897 Angstrom without angles, whose length is rounded."""
    text = CORUNDUM.format(a="3.90", c="3.90", angle=90, gamma=90, symbol="P m -3 m", sites="Cu1 0 0 0")
    lines = [line for line in text.splitlines() if "_angle_" not in line and "IT_number" not in line]
    assert len(parse("\n".join(lines).replace("loop_", "_cell_volume 59.18\nloop_", 1))) == 1


def test_dummy_sites_are_no_atoms() -> None:
    text = QUARTZ.replace("_atom_site_occupancy", "_atom_site_occupancy\n_atom_site_calc_flag")
    text = text.replace("0.00000 1", "0.00000 1 d").replace("0.1191(2) 1.0", "0.1191(2) 1.0 d\nCg1 X 0 0 0 1 dum")
    read = parse_cif(text)
    assert_same_cell(read.crystal, parse(QUARTZ))
    assert read.notes == ("dummy sites (_atom_site_calc_flag dum) are no atoms: 1 left out",)


def test_sites_of_occupancy_zero_are_no_atoms() -> None:
    read = parse_cif(QUARTZ + "Cg1 C 0 0 0 0.00\n")
    assert_same_cell(read.crystal, parse(QUARTZ))
    assert read.notes == ("sites of occupancy 0 are no atoms: 1 left out",)


def test_hydrogen_without_positions_is_said() -> None:
    read = parse_cif(QUARTZ.replace("data_quartz", "data_quartz\n_chemical_formula_sum 'Si O2 H'"))
    assert read.has_formula
    assert read.notes == ("100% of the hydrogen in the formula 'Si O2 H' has no positions",)
    assert not parse_cif(QUARTZ).has_formula
    attached = QUARTZ.replace("_atom_site_occupancy", "_atom_site_occupancy\n_atom_site_attached_hydrogens")
    attached = attached.replace("0.00000 1", "0.00000 1 0").replace("0.1191(2) 1.0", "0.1191(2) 1.0 2")
    assert parse_cif(attached).notes == ("2 hydrogen atoms (_atom_site_attached_hydrogens) have no positions",)
    assert parse_cif(attached.replace(" 1.0 2", " 1.0 ?")).notes == ()


MONOCLINIC = CORUNDUM.format(a=5, c=9, angle=90, gamma=90, symbol="?", sites="Al1 .1 .2 .3")
MONOCLINIC = MONOCLINIC.replace("167", "14").replace("beta 90", "beta 105")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (rock_salt("x,y,z", name="P 1", z=4), "has 2 atoms besides hydrogen, Z and the formula promise 8"),
        (rock_salt("x,y,z", name="?", z=4), "has 2 atoms besides hydrogen, Z and the formula promise 8"),
        (rock_salt("x,y,z", "-x,-y,-z", name="P -1").replace("0.5 0.5 0.5", ".1 .2 .3").replace("Cl Na", "Cl2 Na")
         + "_cell_formula_units_Z 2\n", "has 3 atoms besides hydrogen, Z and the formula promise 6"),
        (rock_salt(*(op.triplet() for op in gemmi.find_spacegroup_by_name("F d -3 m:2").operations())), "has others"),
        (rock_salt("x,y,z", name="P n m a").replace("loop_", "_space_group_IT_number 1\nloop_", 1), "two space groups"),
        (
            rock_salt("x,y,z").replace("loop_\n_sym", "_space_group_name_H-M_alt 'P m -3 m'\nloop_\n_sym", 1),
            r"names two space groups, P m -3 m \(221\) and F m -3 m \(225\)",
        ),
        (ROCK_SALT.replace("F m -3 m", "P 1").replace("loop_", "_space_group_name_H-M_alt 'F m -3 m'\nloop_", 1),
         "names two space groups"),
        (CORUNDUM.format(a=5, c=9, angle=90, gamma=90, symbol="P 1 21/n 1", sites="Al1 .1 .2 .3")
         .replace("_IT_number 167", "_name_Hall '-P 2ybc'"), "names two settings of a group"),
        (CORUNDUM.format(a=5, c=9, angle=90, gamma=105, symbol="P 1 2/m 1", sites="Al1 .1 .2 .3").replace("167", "10"),
         "P 1 2/m 1 does not fit the cell"),
        (MONOCLINIC, "may be P 1 21/c 1 or P 1 21/n 1 or P 1 21/a 1, and its atoms fit more than one"),
        (QUARTZ.replace("data_quartz", "data_quartz\n_cell_volume 300"), "is 300, lengths and angles give 113"),
        (QUARTZ.replace("data_quartz", "data_quartz\n_cell_volume 116.4"), "is 116.4, lengths and angles give 113"),
        (QUARTZ.replace("0.4135(3)", "1/3"), "is not a number: 1/3 .*; write it with decimals, such as 0.33333"),
        (QUARTZ.replace("data_quartz", "data_quartz\n_cell_modulation_dimension 1"), "of a modulated structure"),
        (QUARTZ.replace("_cell_angle_alpha 90", "_cell_angle_alpha 170"), "no cell has the angles 170 90 120"),
        (QUARTZ.replace("0.00000 1", "0 0").replace("0.1191(2) 1.0", "0.1191 0.0"), "all its sites are dummies"),
    ],
)  # fmt: skip
def test_statements_that_contradict_each_other_are_refused(text: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("text", "n_atoms", "note"),
    [
        (rock_salt("x,y,z", name="P 1", z=1), 2, ""),
        (rock_salt("x,y,z", name="P 1", z=2).replace("'Cl Na'", "'Cl2 Na2'\n_chemical_formula_structural NaCl")
         + "Na2 Na .5 .5 0\nCl2 Cl 0 0 .5\n", 4, ""),  # pymatgen writes the formula of the cell
        (rock_salt("x,y,z", z=1), 2, "which were taken, are not those of F m -3 m"),
        (ROCK_SALT.replace("'Cl Na'", "'Cl Na 1-'"), 8, "the formula 'Cl Na 1-' is not"),
        (DIAMOND.replace("_Z 8", "_Z ?").replace("loop_", "_space_group_IT_coordinate_system_code 2\nloop_", 1), 8, ""),
    ],
)  # fmt: skip
def test_statements_that_agree_or_get_a_note(text: str, n_atoms: int, note: str) -> None:
    read = parse_cif(text)
    assert len(read.crystal) == n_atoms
    assert bool(read.notes) == bool(note)
    assert note in "; ".join(read.notes)


def test_cifs_that_jarvis_and_others_write(crystals, tmp_path) -> None:
    """JARVIS names itself before the first block; pymatgen and ASE write what they read."""
    for crystal in crystals.values():
        crystal.to_jarvis().write_cif(str(tmp_path / "jarvis.cif"), with_spg_info=False)
        structure = Structure(Lattice(crystal.lattice), crystal.elements, crystal.frac_coords)
        ase_write(tmp_path / "ase.cif", structure.to_ase_atoms(), format="cif")
        CifWriter(structure).write_file(tmp_path / "pymatgen.cif")
        for path in tmp_path.glob("*.cif"):
            read = read_structure(path)
            assert (len(read), read.formula) == (len(crystal), crystal.formula)
            assert sorted_distances(read).difference(sorted_distances(crystal)) < 2e-3


@pytest.mark.parametrize(("symbol", "n_atoms"), [("N", 5), ("O", 7), ("F", 6), ("Ar", 5)])
def test_pymatgen_takes_molecules_of_two_as_units(symbol: str, n_atoms: int) -> None:
    """Read cells of an odd number of atoms, of which pymatgen's Z counts one less."""
    sites = [[0.1, 0.2, (number + 0.3) / n_atoms] for number in range(n_atoms)]
    structure = Structure(Lattice.orthorhombic(9, 8, 3.1 * n_atoms), [symbol] * n_atoms, sites)
    assert parse(str(CifWriter(structure))).elements == [symbol] * n_atoms


@pytest.mark.parametrize("label", ["Na/Vac", "Na,Va", "50%Na", "Na,K,Rb"])
def test_a_label_may_mix_an_element_with_others_or_with_nothing(label: str) -> None:
    text = "\n".join(line for line in ROCK_SALT.splitlines() if "formula" not in line).replace("Na1 Na", f"{label} Na")
    with pytest.raises(StructureError, match=r"puts Na.* on one site: disordered"):
        parse(text)


@pytest.mark.parametrize("blanks", [" ", "   ", "\t", " \t "])
def test_tags_may_stand_behind_the_name_of_the_block(blanks: str) -> None:
    lines = ROCK_SALT.splitlines()
    (name,) = (line for line in lines if line.startswith("_") and "space_group" in line)
    block = next(line for line in lines if line.startswith("data_"))
    assert len(parse("\n".join(lines).replace(name, "").replace(block, f"{block}{blanks}{name}"))) == 8


SITE = [0.1, 0.32, 0.04]
ONE_SITE = CORUNDUM.format(
    a=20, c=20, angle=90, gamma="{gamma}", symbol="{symbol}", sites=" ".join(["Fe1", *map(str, SITE)])
).replace("_space_group_IT_number 167\n", "")


def cell_of_one_site(symbol: str, gamma: int) -> Crystal:
    """The atoms by the operations of gemmi's table."""
    found = parse(ONE_SITE.format(symbol="P 1", gamma=gamma))
    images = [op.apply_to_xyz(SITE) for op in gemmi.find_spacegroup_by_name(symbol).operations()]
    return Crystal.from_arrays(found.lattice, images, ["Fe"] * len(images))


@pytest.mark.parametrize(
    "symbol",
    ["P 1 21", "P1 21", "P 31 2", "P3(2)1", "P4(2)2", "P4_2 2", "P 62 2", "P6(2)2"],
)
def test_a_screw_in_a_symbol_is_not_read_as_two_axes(symbol: str) -> None:
    """gemmi passes over blanks and brackets: of P 1 21 it makes P 1 2 1."""
    with pytest.raises(StructureError, match=f"the space group {re.escape(repr(symbol))} may have a screw axis"):
        parse(ONE_SITE.format(symbol=symbol, gamma=90))
    with pytest.raises(StructureError, match="'P 2 1' is not known"):
        parse(ONE_SITE.format(symbol="P 2 1", gamma=90))


@pytest.mark.parametrize(
    ("symbol", "operations"),
    [
        ("F_-4_3_m", "F 2 2 2"),
        ("P 32 21", "P 32"),
        ("C_1_2_1", "P 1 2 1"),
        ("P 42 2", "P 1 1 2"),
        ("P_1_2_1", "P 1 21 1"),
    ],
)
def test_operations_are_compared_with_unusual_spellings(symbol: str, operations: str) -> None:
    ops = gemmi.find_spacegroup_by_name(operations).operations()
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{op.triplet()}'\n" for op in ops) + "loop_"
    gamma = 120 if "32" in symbol else 90
    with pytest.raises(StructureError, match="symmetry operations, and its space group"):
        parse(ONE_SITE.format(symbol=symbol, gamma=gamma).replace("loop_", loop, 1))


@pytest.mark.parametrize(
    ("symbol", "other", "gamma"),
    [
        ("P 2 1 /c", "P 1 21/c 1", 90),
        ("P2 1 /m", "P 1 21/m 1", 90),
        ("P 1 2 1", "P 1 2 1", 90),
        ("P 21/n 21/m 21/a", "P n m a", 90),
        ("R 32", "R 3 2:H", 120),
        ("P 31 m", "P 3 1 m", 120),
        ("P 4 32", "P 4 3 2", 90),
        ("P 32 21", "P 32 2 1", 120),
        ("P 3 21", "P 3 2 1", 120),
        ("P_1_2_1", "P 1 2 1", 90),
        ("F_-4_3_m", "F -4 3 m", 90),
        ("F-4_3m", "F -4 3 m", 90),
    ],
)
def test_screws_and_pairs_of_axes_are_told_apart(symbol: str, other: str, gamma: int) -> None:
    assert_same_cell(parse(ONE_SITE.format(symbol=symbol, gamma=gamma)), cell_of_one_site(other, gamma))


@pytest.mark.parametrize("spelled", [str, lambda name: name.replace(" ", ""), lambda name: name.replace(" ", "_")])
def test_the_name_of_every_space_group_gives_its_operations(spelled: Callable[[str], str]) -> None:
    """Names alone; where they leave the origin or the cell open, the truth is among the settings."""
    cells = {
        "triclinic": (7, 8, 11, 80, 95, 104), "monoclinic": (7, 8, 11, 90, 104, 90),
        "orthorhombic": (7, 8, 11, 90, 90, 90), "tetragonal": (7, 7, 11, 90, 90, 90),
        "trigonal": (7, 7, 11, 90, 90, 120), "hexagonal": (7, 7, 11, 90, 90, 120), "cubic": (9, 9, 9, 90, 90, 90),
    }  # fmt: skip
    groups = [gemmi.find_spacegroup_by_number(number) for number in range(1, 231)]
    for group in groups:
        lattice = np.array(gemmi.UnitCell(*cells[group.crystal_system_str()]).orth.mat.tolist()).T
        settings = GroupNames((spelled(group.hm),)).settings(lattice)
        truth = {op.wrap().triplet() for op in group.operations()}
        assert [setting.triplets == truth for setting in settings].count(True) == 1, group.hm
        assert len(settings) == 1 or group.ext in ("1", "2", "H"), group.hm


@pytest.mark.parametrize(("symbol", "number"), [("C2h-5", "14"), ("P 21 c", "14"), ("D2h^16", "62"), ("", "No. 62")])
def test_lost_operations_show_beside_a_name_that_is_not_known(symbol: str, number: str) -> None:
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y,-z'\nloop_"
    text = ONE_SITE.replace("_space_group_name_H-M_alt '{symbol}'", f"_symmetry_Int_Tables_number '{number}'")
    text = text.replace("loop_", operations, 1).format(gamma=90)
    if symbol:
        text = text.replace("loop_", f"_space_group_name_H-M_alt '{symbol}'\nloop_", 1)
    with pytest.raises(StructureError, match=r"2 symmetry operations|gives 2 symmetry operations|has others"):
        parse(text)


@pytest.mark.parametrize(
    ("old", "new", "tag"),
    [
        ("_cell_length_a 5.64\n", "loop_\n_cell_length_a\n5.64\n5.66\n", "_cell_length_a"),
        ("_cell_formula_units_Z 4\n", "loop_\n_cell_formula_units_Z\n4\n8\n", "_cell_formula_units_z"),
    ],
)
def test_a_loop_of_several_crystals_is_refused(old: str, new: str, tag: str) -> None:
    assert old in ROCK_SALT
    with pytest.raises(StructureError, match=f"several values of {tag}"):
        parse(ROCK_SALT.replace(old, new))


def test_a_full_list_of_atoms_beside_its_operations_takes_little_memory() -> None:
    """Each of the 192 sites stands for all of them; a peak of memory, in bytes."""
    operations = list(gemmi.find_spacegroup_by_name("F m -3 m").operations())
    images = np.array([op.apply_to_xyz([0.2, 0.12, 0.05]) for op in operations])
    sites = "\n".join(f"Cu{n} {x:.6f} {y:.6f} {z:.6f}" for n, (x, y, z) in enumerate(images))
    text = CORUNDUM.format(a=20, c=20, angle=90, gamma=90, symbol="F m -3 m", sites=sites).replace("167", "225")
    tracemalloc.start()
    crystal = parse(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(crystal) == 192
    assert_same_cell(crystal, Crystal.from_arrays(20 * np.eye(3), images, ["Cu"] * 192))
    assert peak < 50 << 20


def test_more_atoms_than_a_cell_holds_are_refused_at_once() -> None:
    generator = np.random.default_rng(0)
    sites = "\n".join(f"Cu{n} {x:.4f} {y:.4f} {z:.4f}" for n, (x, y, z) in enumerate(generator.random((500, 3))))
    text = CORUNDUM.format(a=5, c=5, angle=90, gamma=90, symbol="F m -3 m", sites=sites).replace("167", "225")
    with pytest.raises(StructureError, match="more atoms than a cell of this volume holds"):
        parse(text)


@pytest.mark.parametrize(
    "lines",
    [
        "_cell_wave_vector_x 0.3",
        "_cell_subsystems_number 2",
        "_space_group_ssg_name_WJJ 'P:Pnma:-1'",
        "loop_\n_atom_site_displace_Fourier_atom_site_label\nNa1",
        "_cell_modulation_dimension 1",
    ],
)
def test_modulated_structures_are_refused(lines: str) -> None:
    with pytest.raises(StructureError, match="is of a modulated structure"):
        parse(ROCK_SALT.replace("loop_", f"{lines}\nloop_", 1))
    assert len(parse(ROCK_SALT.replace("loop_", "_cell_modulation_dimension 0\nloop_", 1))) == 8


def test_operations_of_another_origin_than_the_symbols_are_refused() -> None:
    """By the operations, silicon at 1/8 makes 16 atoms, by the name 8; Z and the formula show which is right."""
    first, second = (gemmi.find_spacegroup_by_name(f"F d -3 m:{origin}") for origin in (1, 2))
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{op.triplet()}'\n" for op in first.operations()) + "loop_"
    sites = "Si1 0.125 0.125 0.125"
    text = CORUNDUM.format(a=5.431, c=5.431, angle=90, gamma=90, symbol=second.xhm(), sites=sites)
    text = text.replace("167", "227").replace("loop_", loop, 1)
    with pytest.raises(StructureError, match="F d -3 m:2, and the atoms allow both: 16 by the operations, 8 by"):
        parse(text)
    z = "_chemical_formula_sum Si\n_cell_formula_units_Z {}\nloop_"
    read = parse_cif(text.replace("loop_", z.format(16), 1))
    assert len(read.crystal) == 16
    assert read.notes == ("the symmetry operations, which were taken, are not those of F d -3 m:2",)
    with pytest.raises(StructureError, match="the atoms allow both"):
        parse(text.replace("loop_", z.format(8), 1))
    close = text.replace(sites, "Si1 0 0 0")  # where the name would put two atoms at each site
    assert len(parse(close.replace("5.431", "2.6"))) == 8


def test_a_formula_that_shares_sites_needs_all_its_elements() -> None:
    text = ROCK_SALT.replace("'Cl Na'", "'(Na,K) Cl'")
    assert text != ROCK_SALT
    with pytest.raises(StructureError, match=r"'\(Na,K\) Cl' shares sites, and no site is K: disordered"):
        parse(text)


def test_a_formula_of_huge_numbers_is_none() -> None:
    read = parse_cif(ROCK_SALT.replace("'Cl Na'", f"'Cl{'9' * 400} Na{'9' * 400}'"))
    assert not read.has_formula
    assert "was not compared" in read.notes[0]


def test_an_inversion_of_the_point_group_is_symmetry() -> None:
    with pytest.raises(StructureError, match="_space_group_point_group_h-m, which is not read"):
        parse(WITHOUT_SYMMETRY.replace("loop_", "_space_group_point_group_H-M '-1'\nloop_", 1))
    assert len(parse(WITHOUT_SYMMETRY.replace("loop_", "_space_group_point_group_H-M '1'\nloop_", 1))) == 2


@pytest.mark.parametrize(
    "second",
    ["data_b\nloop_\n_atom_site_label\n_atom_site_Cartn_x\nNa1 0.5\n", f"save_b\n{CORUNDUM[14:]}\nsave_\n"],
)
def test_a_second_structure_in_another_form_is_seen(second: str) -> None:
    second = second.format(a=5, c=9, angle=90, gamma=90, symbol="P 1", sites="Al1 0 0 0")
    with pytest.raises(StructureError, match="the file holds 2 structures"):
        parse(f"{ROCK_SALT}\n{second}")
