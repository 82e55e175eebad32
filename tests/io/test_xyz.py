import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read as ase_read
from ase.io import write as ase_write

from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, StructureError
from crysmm.io.inputs import open_source
from crysmm.io.row import read_row
from crysmm.io.source import Record, SkippedRow
from crysmm.io.xyz import parse_xyz, xyz_rows

CELL = 'Lattice="4 0 0 0 5 0 1 0 6"'


def salt(header: str = CELL, sodium: str = "Na 0 0 0", chlorine: str = "Cl 2 2.5 3", rest: str = "") -> str:
    return f"2\n{header}\n{sodium}\n{chlorine}\n{rest}"


def assert_salt(text: str) -> None:
    crystal = parse_xyz(text)
    assert crystal.elements == ["Na", "Cl"]
    np.testing.assert_allclose(crystal.lattice, [[4, 0, 0], [0, 5, 0], [1, 0, 6]])
    np.testing.assert_allclose(crystal.frac_coords @ crystal.lattice, [[0, 0, 0], [2, 2.5, 3]], atol=1e-12)


def ase_atoms(crystal: Crystal) -> Atoms:
    return Atoms(crystal.elements, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)


@pytest.mark.parametrize(
    "text",
    [
        salt(),
        salt().replace("\n", "\r\n"),
        salt(rest="\n \n"),
        salt(f'{CELL} pbc="T T T"'),
        salt(f"{CELL} pbc=T"),
        salt(f'{CELL} pbc="[ True  True  True]" unit=Å coord_units=Ang length_unit=\u212b'),
        salt(f"{CELL} dipole_unit=bohr lattice_energy_unit=hartree unit_cell=bohr composition_unit=at"),
        salt(f"{CELL} PBC=[1, 1, 1]"),
        salt(f'{CELL} units="Angstrom eV"'),
        salt(f"{CELL} units=metal coordinates=cartesian"),
        salt("energy=-1.5 lattice={4 0 0, 0 5 0, 1 0 6}"),
        salt("Lattice = '4 0 0 0 5 0 1D0 0 6.0d0'"),
        salt(f'{CELL} Origin="1 2 3" comment="Lattice=3 \\" pbc=F"'),  # an origin moves the cell, which has none
        salt(f"comment= {CELL} it's 0.5 hash=ab== d(Na-Cl)=3 y=x=1 virial=[[1, 2], [3, 4]] title="),
        salt(CELL, "Na 0 0 0 0.1 -0.1 0.2", "Cl 2 2.5 3 0 0 0"),
        salt(CELL, "na 0 0 0", "cl 2 2.5 3"),
        salt(f"{CELL} Properties=pos:R:3:forces:R:3:species:S:1", "0 0 0 1 1 1 Na", "2 2.5 3 1 1 1 Cl"),
        salt(f"{CELL} Properties=Z:I:1:pos:R:3", "11 0 0 0", "17 2 2.5 3"),
        salt(f"{CELL} Properties=numbers:I:1:positions:R:3:symbols:S:1", "11 0 0 0 Na", "17 2 2.5 3 Cl"),
        salt(f"{CELL} Properties=species:S:1:frac:R:3:pos:R:3", "Na .1 .1 .1 0 0 0", "Cl .1 .1 .1 2 2.5 3"),
        salt(f"{CELL} Properties=species:S:1:pos:R:3:occupancy:R:1", "Na 0 0 0 1.0", "Cl 2 2.5 3 0.9999"),
        salt(f"{CELL} Properties=species:S:1:pos:R:3:element:S:1:d_occupation:R:1", "Na 0 0 0 Na 5", "Cl 2 2.5 3 Cl 0"),
        salt(
            f"{CELL} Properties=species:S:1:pos:R:3:element:I:1:position:R:3", "Na 0 0 0 1 1 1 1", "Cl 2 2.5 3 2 1 1 1"
        ),
        salt(f"{CELL} cell=primitive periodic=XYZ"),
        salt(f'{CELL} cell="4. 0 0 0 5. 0 1.0 0 6"'),
        salt(f'{CELL} cell="_JSON [[4.0, 0, 0], [0, 5.0, 0], [1, 0, 6]]"'),
        salt("salt", rest="VEC1 4 0 0\nVEC2 0 5 0\nVEC3 1 0 6\n"),
        salt("Properties=pos:R:3:species:S:1", "0 0 0 Na", "2 2.5 3 Cl", rest="VEC1 4 0 0\nVEC2 0 5 0\nVEC3 1 0 6\n\n"),
    ],
)
def test_forms_of_one_structure(text: str) -> None:
    assert_salt(text)


@pytest.mark.parametrize("options", [{}, {"vec_cell": True}, {"columns": ["symbols", "positions", "numbers"]}])
def test_what_ase_writes_is_read_as_ase_reads_it(options: dict, crystal: Crystal) -> None:
    atoms = ase_atoms(crystal)
    atoms.set_constraint(FixAtoms([0]))
    atoms.set_initial_charges(np.arange(len(atoms)))
    atoms.info |= {"name": 'a "b" c', "numbers": [1, 2], "matrix": np.eye(3), "d": {"Lattice": 1}}
    file = io.StringIO()
    ase_write(file, atoms, format="extxyz", **options)
    found = parse_xyz(file.getvalue())
    file.seek(0)
    expected = ase_read(file, format="extxyz")
    assert found.elements == expected.get_chemical_symbols() == crystal.elements
    np.testing.assert_allclose(found.lattice, expected.cell.array, atol=1e-12)
    np.testing.assert_allclose(found.frac_coords @ found.lattice, expected.positions, atol=1e-9)


def test_deuterium_is_hydrogen() -> None:
    assert parse_xyz(salt(CELL, "D 0 0 0", "O 2 2.5 3")).elements == ["H", "O"]
    columns = f"{CELL} Properties=species:S:1:Z:I:1:pos:R:3"
    assert parse_xyz(salt(columns, "D 1 0 0 0", "O 8 2 2.5 3")).elements == ["H", "O"]


@pytest.mark.parametrize("word", ["55", "1", "X", "Xx", "CL", "CO", "CA", "Fe1", "Na+", "d", "*"])
def test_what_is_no_element_symbol_is_refused(word: str) -> None:
    with pytest.raises(
        StructureError, match=r"atom 2 \(line 4\) of the xyz file is .*; expected an element symbol"
    ) as error:
        parse_xyz(salt(CELL, chlorine=f"{word} 2 2.5 3"))
    assert repr(word) in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (salt("salt"), 'no cell; extended xyz has Lattice="..."'),
        (salt('cell="4 0 0 0 5 0 1 0 6"'), "no cell"),
        (salt('Lattice="4 5 6"'), "Lattice holds '4 5 6'; expected nine numbers"),
        (salt('Lattice="4 0 0 0 5 0 1 0 c"'), "expected nine numbers"),
        (salt('Lattice="[[4,0,0],[0,5,0],[1,0,6]]"'), "expected nine numbers"),
        (salt('Lattice="4 0 0 0 5 0 4 5 0"'), "cartesian coordinates cannot be turned"),
        (salt(f'{CELL} Lattice="4 0 0 0 5 0 1 0 7"'), "has lattice twice"),
        (salt(f'{CELL} lattice="4 0 0 0 5 0 1 0 7"'), "has lattice twice"),
        (salt(f"{CELL} unit=Angstrom units=bohr"), "the unit is 'bohr' .units.; expected Angstrom"),
        *(
            (salt(f"{CELL} {key}=Bohr"), rf"the unit is 'Bohr' \({key}\); expected Angstrom")
            for key in [
                "unit",
                "coordinates_unit",
                "coord_unit",
                "coords_units",
                "atomic_positions_units",
                "box-unit",
                "lengthunit",
                "lattice_vectors_unit",
                "cell_parameter_units",
            ]
        ),
        (salt(f"{CELL} units=bohr units=Angstrom"), "has units twice"),
        (salt(f"{CELL} coordinates=fractional"), r"the coordinates are fractional \(coordinates\); expected Cartesian"),
        (salt(f'{CELL} coord_type="Direct"'), r"the coordinates are Direct \(coord_type\); expected Cartesian"),
        (
            salt(
                f"{CELL} Properties=species:S:1:pos:R:3:scaled_positions:R:3", "Na 0 0 0 0 0 0", "Cl 2 2.5 3 .3 .3 .3"
            ),
            "its two lists of coordinates are up to",
        ),
        ("9" * 5000 + "\nsalt\n", "the xyz file is cut off: 1e\\+20 atoms in 3 lines"),
        (salt(f"{CELL} energy_unit=eV Lattice_Unit=nm"), "the unit is 'nm' .lattice_unit.; expected Angstrom"),
        (salt(f'{CELL} pbc="T T F"'), "not periodic in three directions"),
        (salt(f'{CELL} PBC="F F F"'), "not periodic in three directions"),
        (salt(f"{CELL} pbc=0"), "not periodic in three directions"),
        (salt(f"{CELL} pbc=xyz"), "pbc is 'xyz'; expected T T T"),
        (salt(f'{CELL} pbc="T T"'), "pbc is 'T T'; expected T T T"),
        (salt(f'{CELL} pbc="T T F'), "line 2 of the xyz file cannot be read at 'pbc=\"': is a quote missing"),
        (salt(f"{CELL} pbc=[T, T, F"), "cannot be read at 'pbc=\\['"),
        (salt(f"{CELL} pbc=[[1, 1, 0]]"), "not periodic in three directions"),
        (salt(f'{CELL} pbc="[ True  True False]"'), "not periodic in three directions"),
        (salt(f"{CELL} pbc="), "cannot be read at 'pbc='"),
        (salt(f"pbc = T T F {CELL}"), "cannot be read at 'pbc = T T'"),
        (salt(f"PBC=T, T, F {CELL}"), "cannot be read at 'PBC=T, T'"),
        (salt(f'comment= pbc="T T F" {CELL}'), "not periodic"),
        (salt(f'energy="1.5 pbc="T T F" {CELL}'), "cannot be read at 'energy=\"'"),
        (salt(f'{CELL} unit="bohr'), "cannot be read at 'unit=\"'"),
        (salt(f'{CELL} "units=bohr'), "cannot be read at"),
        (salt(f'Properties="species:S:1:pos:R:3 {CELL}'), "cannot be read at 'Properties=\"'"),
        (salt('Lattice="4 0 0 0 5 0 1 0 6'), "cannot be read at 'Lattice=\"'"),
        (salt(f'{CELL} occupancy="_JSON {{}}'), "cannot be read at 'occupancy=\"'"),
        (salt(f"{CELL} Properties=pos:R:3", "0 0 0", "2 2.5 3"), r"expected species \(or Z\) and pos"),
        (salt(f"{CELL} Properties=type:I:1:pos:R:3", "1 0 0 0", "2 2 2.5 3"), r"expected species \(or Z\) and pos"),
        (salt(f"{CELL} Properties=species:S:1", "Na", "Cl"), r"expected species \(or Z\) and pos"),
        (salt(f"{CELL} Properties=species:S:1:frac:R:3"), r"expected species \(or Z\) and pos"),
        (salt(f"{CELL} Properties=species:S:1:pos:R:2"), "has 2 columns of pos; expected 3"),
        (salt(f"{CELL} Properties=species:S:1:pos:R"), "expected names, types and widths"),
        (salt(f"{CELL} Properties=species:S:one:pos:R:3"), "expected names, types and widths"),
        (salt(f"{CELL} Properties=species:S:1:pos:R:3:positions:R:3"), "names pos twice"),
        (
            salt(f"{CELL} Properties=species:S:1:pos:R:3:Z:I:1", "Na 0 0 0 17", "Cl 0 0 0 17"),
            "atom 1 .* is Na and has Z 17",
        ),
        (
            salt(f"{CELL} Properties=Z:I:1:pos:R:3", "0 0 0 0", "17 0 0 0"),
            "atom 1 .* has Z '0'; expected an atomic number",
        ),
        (salt(f"{CELL} Properties=Z:R:1:pos:R:3", "11 0 0 0", "17.5 0 0 0"), "atom 2 .* has Z '17.5'"),
        (salt(f"{CELL} Properties=Z:I:1:pos:R:3", "11 0 0 0", "170 0 0 0"), "atom 2 .* has Z '170'"),
        (
            salt(f"{CELL} Properties=species:S:1:pos:R:3", "Na 0 0 0 7"),
            "line 3 .* has 5 columns; expected 4 by Properties",
        ),
        (salt(CELL, "Na 0 0"), "line 3 .*'Na 0 0', has 3 columns; expected 4"),
        (salt(CELL, "Na 0 0 O"), "line 3 of the xyz file has '0 0 O'; expected numbers"),
        (salt(CELL, "Na 0 0 1_0"), "line 3 of the xyz file has '0 0 1_0'; expected numbers"),
        (salt(rest="K 1 1 1\n"), "line 5 of the xyz file is 'K 1 1 1'; expected nothing behind its 2 atoms"),
        (salt(rest="\nK 1 1 1\n"), "line 6 .*expected nothing behind its 2 atoms"),
        (salt() * 2, "2 structures; expected one a file"),
        (salt() + "\n" + salt(), "2 structures; expected one a file"),
        (salt().replace("2\n", "3\n", 1), "cut off: 2 of 3 lines of atoms"),
        (salt().replace("2\n", "two\n", 1), "line 1 of the xyz file is 'two'; expected the number of atoms"),
        (salt(rest="VEC1 4 0 0\nVEC2 0 5 0\nVEC3 1 0 6\n"), "two cells, Lattice and lines VEC"),
        (
            salt("salt", rest="VEC1 4 0 0\nVEC2 0 5 0\n"),
            "not periodic in three directions.*: lines VEC1, VEC2 and VEC3",
        ),
        (salt("salt", rest="VEC1 4 0 0\nVEC3 0 5 0\nVEC2 0 0 6\n"), "lines VEC1, VEC2 and VEC3"),
        (salt("salt", rest="VEC1 4\nVEC2 5\nVEC3 6\n"), "VEC1 to VEC3 hold '4, 5, 6'; expected nine numbers"),
        (
            salt("salt", rest="VEC1 4 0 0 0\nVEC2 5 0\nVEC3 1 0 6\n"),
            "VEC1 to VEC3 hold '4 0 0 0, 5 0, 1 0 6'; expected",
        ),
        (salt("salt pbc=F", rest="VEC1 4 0 0\nVEC2 0 5 0\nVEC3 1 0 6\n"), "not periodic"),
        *(
            (
                salt(f"{CELL} Properties=species:S:1:pos:R:3:{name}:R:1", "Na 0 0 0 1", "Cl 2 2 3 0.5"),
                "partial occupancy: atom 2 is occupied to 0.5",
            )
            for name in ("occupation", "Occupations", "site_occupancy", "occu", "site-occ", "sof", "occupancy_factor")
        ),
        (
            salt(f"{CELL} Properties=species:S:1:pos:R:3:occupancy:R:1", "Na 0 0 0 1", "Cl 2 2 3 0.5"),
            "atom 2 is occupied to 0.5",
        ),
        *((salt(f"{CELL} {key}=Bohr"), f"the unit is 'Bohr' .{key}.") for key in ("unit_length", "units", "pos_unit")),
        (salt(f'{CELL} periodic="F F F"'), "not periodic"),
        (salt(f'{CELL} cell="5 0 0 0 5 0 0 0 5"'), "two cells, Lattice and cell, '5 0 0 0 5 0 0 0 5'; keep one"),
        (
            salt(f"{CELL} Properties=species:S:1:atomic_numbers:I:1:pos:R:3", "Na 19 0 0 0", "Cl 17 2 2 3"),
            "atom 1 of the xyz file is Na, and K by atomic_numbers; keep one",
        ),
        (
            salt(f"{CELL} Properties=species:S:1:element:S:1:pos:R:3", "Na K 0 0 0", "Cl Cl 2 2 3"),
            "atom 1 of the xyz file is Na, and K by element; keep one",
        ),
        ("0\n" + CELL + "\n", "no atoms"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(StructureError, match=reason):
        parse_xyz(text)


def test_disordered_atoms_that_ase_has_written_are_refused(crystals: dict[str, Crystal]) -> None:
    atoms = ase_atoms(crystals["CsCl"])
    atoms.set_array("spacegroup_kinds", np.array([0, 1]))
    for shares, refused in (({"Cs": 1.0}, False), ({"Cs": 0.6, "Rb": 0.4}, True), ({"Cs": 0.6}, True)):
        atoms.info["occupancy"] = {"0": shares, "1": {"Cl": 1.0}}
        file = io.StringIO()
        ase_write(file, atoms, format="extxyz")
        if refused:
            for text in (file.getvalue(), file.getvalue().replace("spacegroup_kinds", "kinds")):
                with pytest.raises(StructureError, match=r"partial occupancy: .* holds Cs 0\.6"):
                    parse_xyz(text)
        else:
            assert parse_xyz(file.getvalue()).elements == ["Cs", "Cl"]


def frame(header: str, cell: str = CELL, **atoms: str) -> str:
    return salt(f"{cell} {header}", **atoms)


def read_rows(path: Path, **options: Any) -> tuple[list[Record], list[SkippedRow]]:
    records, skipped = [], []
    for row in open_source(path, **options).rows():
        try:
            records.append(row.read())
        except StructureError as error:
            skipped.append(SkippedRow(row.id, row.file, str(error)))
    return records, skipped


@pytest.mark.parametrize("name", ["train.extxyz", "train.xyz", "train.xyz.gz"])
def test_many_frames_are_rows_with_the_properties_in_their_headers(name: str, crystals, tmp_path: Path) -> None:
    """Written by ASE, with what MACE's training files hold: energy, forces, stress, a text, true or false."""
    images = []
    for number, crystal in enumerate(crystals.values()):
        atoms = ase_atoms(crystal)
        atoms.info = {"config_type": "bulk", "is_metal": number % 2 == 0, "material_id": f"mp-{number}"}
        atoms.info |= {"dielectric": [number, 1.5, -2e-3]}
        forces, stress = np.full((len(crystal), 3), 0.1), np.arange(6) / 7
        atoms.calc = SinglePointCalculator(atoms, energy=-number / 3, forces=forces, stress=stress)
        images.append(atoms)
    ase_write(tmp_path / name, images, format="extxyz")
    source = open_source(tmp_path / name, target_key="energy,dielectric,is_metal")
    assert source.target_names == ("energy", "dielectric_0", "dielectric_1", "dielectric_2", "is_metal")
    assert source.n_rows == len(crystals)
    records, skipped = read_rows(tmp_path / name, target_key="energy,dielectric,is_metal")
    assert skipped == []
    for number, (record, crystal) in enumerate(zip(records, crystals.values(), strict=True)):
        assert (record.id, record.file) == (f"mp-{number}", f"{name}:frame {number + 1}")
        np.testing.assert_allclose(record.targets, [-number / 3, number, 1.5, -2e-3, number % 2 == 0], atol=1e-8)
        assert record.crystal.elements == crystal.elements
        np.testing.assert_allclose(record.crystal.lattice, crystal.lattice, atol=1e-7)
        steps = record.crystal.frac_coords - crystal.frac_coords
        np.testing.assert_allclose(steps - np.round(steps), 0, atol=1e-7)
    with pytest.raises(InputError, match="choose with target_key: is_metal, dielectric, energy, stress"):
        open_source(tmp_path / name)
    with pytest.raises(InputError, match=r"has a number for Energy .*there are is_metal"):
        open_source(tmp_path / name, target_key="Energy")


def test_frames_without_an_id_are_numbered(tmp_path: Path) -> None:
    """The only number is the target; ids are read where there are some, blank lines and lines VEC passed over."""
    vectors = "VEC1 4 0 0\nVEC2 0 5 0\nVEC3 1 0 6\n"
    text = frame("REF_gap=1.5") + frame("id=x REF_gap=-2") + "\n" + frame("REF_gap=3", cell="", rest=vectors)
    (tmp_path / "a.xyz").write_text(text)
    source = open_source(tmp_path / "a.xyz")
    assert source.target_names == ("REF_gap",)
    records, _ = read_rows(tmp_path / "a.xyz")
    assert [(record.id, record.targets) for record in records] == [("a.xyz#1", (1.5,)), ("x", (-2,)), ("a.xyz#3", (3,))]
    for record in records:
        np.testing.assert_allclose(record.crystal.lattice, [[4, 0, 0], [0, 5, 0], [1, 0, 6]])
    before = source.fingerprint()
    (tmp_path / "a.xyz").write_text(text.replace("x REF_gap=-2", "y REF_gap=-2"))
    assert open_source(tmp_path / "a.xyz").fingerprint() != before


def test_a_bad_frame_costs_itself_alone(tmp_path: Path) -> None:
    frames = [
        frame("gap=1"),
        frame("gap=2", cell=""),
        frame('gap=3 pbc="T T F"'),
        frame("gap=4", sodium="Xy 0 0 0"),
        frame("structure=rocksalt elements=2"),
        frame("gap=6 atoms=2 structure=rocksalt"),
        frame("gap=7 gap=8"),
        frame("gap=8").rsplit("\n", 2)[0],
    ]
    (tmp_path / "a.xyz").write_text("".join(frames))
    records, skipped = read_rows(tmp_path / "a.xyz")
    assert [record.id for record in records] == ["a.xyz#1", "a.xyz#6"]
    reasons = dict(zip([2, 3, 4, 5, 7, 8], [row.reason for row in skipped], strict=True))
    assert "no cell" in reasons[2]
    assert "not periodic in three directions" in reasons[3]
    assert "'Xy'; expected an element" in reasons[4]
    assert reasons[5] == "no target: gap is empty"
    assert "gap is '7 and 8'; numbers are needed" in reasons[7]
    assert "cut off: 2 atoms in 3 lines" in reasons[8]


@pytest.mark.parametrize("said", ['"_JSON [1"', "0.5", '"{0: {Na: 0.5}}"', '"1 0.5"'])
def test_a_statement_of_occupancies_is_read_or_refused(said: str) -> None:
    with pytest.raises(StructureError, match=r"expected the occupancies of 2 sites|partial occupancy"):
        parse_xyz(salt(f"{CELL} occupancy={said}"))
    assert len(parse_xyz(salt(f'{CELL} occupancy="1 1.0"'))) == 2


def test_frames_with_the_record_of_full_sites_are_read(tmp_path: Path) -> None:
    """Frames that ASE writes of what it has read from an ordered CIF with occupancies."""
    atoms = Atoms("NaCl", [[0, 0, 0], [2, 2.5, 3]], cell=[4, 5, 6], pbc=True)
    atoms.info["occupancy"] = {"0": {"Na": 1.0}, "1": {"Cl": 1.0}}
    ase_write(tmp_path / "two.xyz", [atoms, atoms], format="extxyz")
    assert [len(read_row(fields).crystal) for _, fields in xyz_rows(tmp_path / "two.xyz")] == [2, 2]
