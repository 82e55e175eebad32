import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write as ase_write

from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputWarning, StructureError
from crysmm.io.inputs import open_source
from crysmm.io.structure_file import format_from_name, format_from_text, parse_structure, read_structure

FORMATS = {"vasp": "vasp", "cif": "cif", "extxyz": "xyz", "proteindatabank": "pdb"}  # ASE's name, suffix


def to_ase(crystal: Crystal) -> Atoms:
    return Atoms(crystal.elements, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)


def distances(crystal: Crystal) -> np.ndarray:
    """Sorted distances between nearest images: what no choice of axes changes."""
    steps = crystal.frac_coords[:, None] - crystal.frac_coords
    return np.sort(np.linalg.norm((steps - np.round(steps)) @ crystal.lattice, axis=2), axis=None)


@pytest.mark.parametrize("ase_format", FORMATS)
@pytest.mark.parametrize("renamed", [False, True])
def test_every_format_gives_the_structure(ase_format: str, renamed: bool, crystals, tmp_path: Path) -> None:
    """Found by the name, and where the name says nothing, by the content."""
    for name in ("TiO2", "SiO2", "NaCl", "Mg"):
        path = tmp_path / f"{name}.{FORMATS[ase_format]}"
        ase_write(path, to_ase(crystals[name]), format=ase_format)
        if renamed:
            path = path.rename(tmp_path / f"{name}.structure")
        crystal = read_structure(path)
        assert crystal.elements == crystals[name].elements
        assert crystal.volume == pytest.approx(crystals[name].volume, rel=1e-3)
        np.testing.assert_allclose(distances(crystal), distances(crystals[name]), atol=3e-3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.vasp", "poscar"),
        ("POSCAR", "poscar"),
        ("POSCAR-JVASP-10.vasp", "poscar"),
        ("POSCAR_3", "poscar"),
        ("CONTCAR", "poscar"),
        ("a.POSCAR", "poscar"),
        ("POSCAR-3.cif", "cif"),
        ("a.CIF", "cif"),
        ("a.extxyz", "xyz"),
        ("a.pdb", "pdb"),
        ("README.md", None),
        ("id_prop.csv", None),
    ],
)
def test_format_from_name(name: str, expected: str | None) -> None:
    assert format_from_name(name) == expected


def test_format_from_text_knows_what_it_does_not_know() -> None:
    assert format_from_text("Dear reader,\nthis is a letter.\n") is None


@pytest.mark.parametrize("title", ["data_mp-1 ", "1.5 ", "-2 3 4 ", "ATOM  ", "CRYST1 ", ""])
@pytest.mark.parametrize("form", ["Lattice", "numbers", "VEC"])
def test_a_title_of_xyz_like_the_beginning_of_another_format(form: str, title: str) -> None:
    """Also where the atoms are numbers alone, and with the cell behind the atoms."""
    cell = 'Lattice="3.615 0 0 0 3.615 0 0 0 3.615"'
    header, end = (title, "VEC1 3.615 0 0\nVEC2 0 3.615 0\nVEC3 0 0 3.615\n") if form == "VEC" else (title + cell, "")
    columns, copper = (" Properties=Z:I:1:pos:R:3", "29") if form == "numbers" else ("", "Cu")
    sites = ["0 0 0", "0 1.8075 1.8075", "1.8075 0 1.8075", "1.8075 1.8075 0"]
    crystal = parse_structure("\n".join(["4", header + columns, *(f"{copper} {site}" for site in sites), end])).crystal
    assert (crystal.elements, crystal.lattice.tolist()) == (["Cu"] * 4, (3.615 * np.eye(3)).tolist())
    np.testing.assert_allclose(crystal.frac_coords, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def test_a_title_of_poscar_and_cif_like_the_beginning_of_another_format(crystals, tmp_path: Path) -> None:
    for ase_format in ("vasp", "cif"):
        ase_write(tmp_path / "a", to_ase(crystals["NaCl"]), format=ase_format)
        text = (tmp_path / "a").read_text()
        for title in ("8", "data_1", "ATOM  1", "CRYST1"):
            titled = title + text[text.index("\n") :] if ase_format == "vasp" else f"{title}\n{text}"
            assert parse_structure(titled).crystal.formula == "ClNa"


def test_file_format_overrides_the_name(crystals, tmp_path: Path) -> None:
    path = tmp_path / "NaCl.vasp"
    ase_write(path, to_ase(crystals["NaCl"]), format="cif")
    assert read_structure(path, "cif").formula == "ClNa"
    with pytest.raises(StructureError):
        read_structure(path)


def test_no_warnings_reach_the_screen(crystals, tmp_path: Path, recwarn) -> None:
    for ase_format, suffix in FORMATS.items():
        path = tmp_path / f"a.{suffix}"
        ase_write(path, to_ase(crystals["SiO2"]), format=ase_format)
        recwarn.clear()
        read_structure(path)
        assert not recwarn.list


WATER = "3\n\nO 0.0 0.0 0.119\nH 0.0 0.763 -0.477\nH 0.0 -0.763 -0.477\n"
LATTICE = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3'


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.xyz", WATER, 'no cell; extended xyz has Lattice="..."'),
        ("a.xyz", WATER.replace("\n\n", f'\n{LATTICE} pbc="T T F"\n'), "not periodic in three directions"),
        ("a.xyz", WATER.replace("\n\n", f"\n{LATTICE}\n") * 2, "2 structures; expected one a file"),
        ("a.xyz", WATER.replace("\n\n", f"\n{LATTICE}\n").replace("O 0.0", "O nan"), "not finite"),
        ("a.xyz", WATER.replace("3\n\n", f"4\n{LATTICE}\n"), "cut off: 3 of 4 lines of atoms"),
        ("a.xyz", WATER.replace("3\n\n", f"9223372036854775808\n{LATTICE}\n"), "cut off: 9.22.*e.18 atoms in 6 lines"),
        ("a.xyz", WATER.replace("\n\n", f"\n{LATTICE}\n") + "4294967296\n", "cut off: 4294967296 atoms in 2 lines"),
        ("a.pdb", "ATOM      1  O   HOH A   1       0.000   0.000   0.119  1.00  0.00           O\n", "CRYST1"),
        ("a.dat", "Dear reader,\nthis is a letter.\n", "format is not recognized"),
    ],
)
def test_bad_files_have_a_reason(name: str, text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StructureError, match=reason):
        read_structure(tmp_path / name)


def test_partial_occupancy_in_pdb(tmp_path: Path) -> None:
    cell = "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 1\n"
    atom = "ATOM      1  O   HOH A   1       0.000   0.000   0.119  0.50  0.00           O\n"
    (tmp_path / "a.pdb").write_text(cell + atom)
    with pytest.raises(StructureError, match="partial occupancy"):
        read_structure(tmp_path / "a.pdb")


def test_json_files_of_a_folder_are_read_or_named(crystals, tmp_path: Path) -> None:
    """Structures of any form are; of a long file whose beginning tells nothing, a warning is given."""
    crystal = crystals["NaCl"]
    content = {"lattice_mat": crystal.lattice.tolist(), "frac_coords": crystal.frac_coords.tolist()}
    content["elements"] = crystal.elements
    texts = {
        "utf.json": "\ufeff" + json.dumps(content),
        "printed.json": repr(content),
        "row.json": json.dumps({"structure": json.dumps(content)}),
        "cif.json": json.dumps({"cif": "data_x\n"}),
        "properties.json": json.dumps({"structure": {"prototype": "rock salt"}, "atoms": {"n": 8}, "gap": 5.0}),
        "long.json": json.dumps({"comment": "x" * (1 << 17), **content}),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.warns(InputWarning, match=r"has 1 file that may hold structures and are not read: long.json"):
        source = open_source(tmp_path, needs_targets=False)
    assert [row.file for row in source.rows()] == ["cif.json", "printed.json", "row.json", "utf.json"]


def test_long_printed_dicts_and_impossible_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text("{'a': '" + "x" * (6 << 20) + "'}")
    with pytest.raises(StructureError, match="a printed dict of 6 MB is not read"):
        read_structure(tmp_path / "long.json")
    with pytest.raises(StructureError, match="cannot be the name of a file: embedded null"):
        read_structure("a\0b")
