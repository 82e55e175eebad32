"""Reading the tables out of a small archive with matminer's layout, and the checks before it."""

import csv
import io
import os
import tarfile

import numpy as np
import pytest

from data_prep.matminer_tables import TABLES, read_table
from data_prep.poscar import format_poscar


@pytest.fixture
def make_archive(tmp_path):
    """An archive that holds one table: the citation line, a header and rows."""

    def make(file, header, rows):
        text = io.StringIO()
        text.write("# ref: Authors, A. & B. Title, with commas. Journal (2015).\n")
        csv.writer(text).writerows([header, *rows])
        data = text.getvalue().encode()
        path = tmp_path / "package.tar.gz"
        with tarfile.open(path, "w:gz") as package:
            member = tarfile.TarInfo(f"matminer-0.4.2/matminer/datasets/{file}")
            member.size = len(data)
            package.addfile(member, io.BytesIO(data))
        return path

    return make


def poscar(crystal, name):
    return format_poscar(crystal, name).replace("Direct", "direct")


def check_structure(row, crystal):
    assert row["elements"] == crystal.elements
    np.testing.assert_array_equal(row["lattice_mat"], crystal.lattice)
    np.testing.assert_array_equal(row["frac_coords"], crystal.frac_coords)


def test_table_of_poscars(make_archive, crystals):
    header = ["idx", "G_VRH", "K_VRH", "elastic_tensor", "elastic_anisotropy", "material_id", "poisson_ratio", "poscar"]
    header += ["structure", "space_group"]
    cif = "#\\#CIF1.1\n# a comment, with a comma\n" + "x" * 200_000
    archive = make_archive(
        "elastic_tensor.csv",
        header,
        [
            [0, 97.25, 194.5, "[[1, 2]]", 0.03, "mp-10003", 0.3, poscar(crystals["TiO2"], "TiO2"), cif, 136],
            [1, 10.0, "", "[[1, 2]]", 0.04, "mp-2", 0.2, poscar(crystals["NaCl"], "NaCl"), cif, 225.0],
        ],
    )
    rows = list(read_table(archive, "elastic"))
    names = ("id", "K_VRH", "G_VRH", "space_group")
    assert [[row.get(name) for name in names] for row in rows] == [
        ["mp-10003", 194.5, 97.25, 136],
        ["mp-2", None, 10.0, 225],
    ]
    assert isinstance(rows[1]["space_group"], int)
    check_structure(rows[0], crystals["TiO2"])
    check_structure(rows[1], crystals["NaCl"])


def test_table_with_an_unnamed_index(make_archive, crystals):
    """Two of the tables have one cell more than their header names."""
    header = ["idx", "band_gap", "n", "poly_electronic", "poly_total", "material_id", "space_group", "poscar"]
    row = [0, 0, 1.88, 1.86, 3.44, 6.23, "mp-441", 225, poscar(crystals["CdTe"], "CdTe")]
    [row] = read_table(make_archive("dielectric_constant.csv", header, [row]), "dielectric")
    assert (row["id"], row["band_gap"], row["n"]) == ("mp-441", 1.88, 1.86)
    check_structure(row, crystals["CdTe"])


def test_table_of_pymatgen_dicts(make_archive, crystals):
    from pymatgen.core import Structure

    crystal = crystals["SiO2"]
    structure = Structure(crystal.lattice, crystal.elements, crystal.frac_coords)
    header = ["material_id", "e_above_hull", "structure", "formation_energy_per_atom"]
    rows = [["mp-7000", 0.01, repr(structure.as_dict()), -3.25]]
    [row] = read_table(make_archive("flla_2015.csv", header, rows), "flla")
    assert (row["id"], row["e_above_hull"], row["formation_energy_per_atom"]) == ("mp-7000", 0.01, -3.25)
    check_structure(row, crystal)


def test_other_file_is_refused_before_it_is_read(run_module, make_archive, tmp_path):
    archive = make_archive("elastic_tensor.csv", ["idx"], [])
    result = run_module("matminer_tables", "--table", "elastic", "--archive", archive, "--output", tmp_path / "e.jsonl")
    assert result.returncode == 2
    assert "is not matminer's 0.4.2 source package: sha256" in result.stderr
    assert not (tmp_path / "e.jsonl").exists()


def test_missing_file_is_an_error_of_one_line(run_module, tmp_path):
    result = run_module(
        "matminer_tables", "--table", "elastic", "--archive", tmp_path / "none.tar.gz", "--output", tmp_path / "e.jsonl"
    )
    assert result.returncode == 2
    assert "none.tar.gz cannot be read" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_network_says_what_to_do(run_module, tmp_path):
    result = run_module(
        "matminer_tables", "--table", "elastic", "--output", tmp_path / "e.jsonl",
        PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 2
    assert "pip download --no-deps --no-binary :all: matminer==0.4.2" in result.stderr
    assert "--archive" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "folder"], "--property is needed for a folder"),
        (["--property", "K_VRH", "--output", "rows.jsonl"], "leave it out there"),
        (["--property", "gap", "--output", "folder"], "the table has K_VRH"),
    ],
)
def test_arguments_that_make_no_sense(run_module, arguments, message):
    result = run_module("matminer_tables", "--table", "elastic", *arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_every_table_names_its_paper():
    assert all(table.citation[-5:-1].isdigit() for table in TABLES.values())
