"""Structure files beside another library: each verdict, archives, and readers that find no end."""

import csv
import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks import structures

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
CELL = """{header}
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma {gamma}
_symmetry_space_group_name_H-M '{group}'
loop_
_symmetry_equiv_pos_as_xyz
{operations}
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{site}
"""
CUBIC = {"header": "data_po", "a": 3.35, "c": 3.35, "gamma": 90, "group": "P 1", "operations": "x,y,z"}
LONG = {"c": 3000.0}  # pymatgen takes 0.33331 for 1/3, which is 0.07 Angstrom away
FRAME = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 pbc="T T T"\nPo 0 0 0\n'


@pytest.fixture
def folder(tmp_path):
    """A file for each verdict, by pymatgen, under its name; and some that are no structures."""
    folder = tmp_path / "files" / "deep"
    folder.mkdir(parents=True)
    shutil.copy(SAMPLE_DATA / "mp-10003.vasp", folder / "same.vasp")
    (folder / "same.mcif").write_text(CELL.format(**CUBIC, site="Po1 0 0 0 1"))
    (folder / "different.cif").write_text(CELL.format(**CUBIC | LONG, site="Po1 0 0 0.33331 1\nPo2 0 0 0.3341 1"))
    (folder / "refused.xyz").write_text(2 * FRAME)
    (folder / "disordered.cif").write_text(CELL.format(**CUBIC, site="Po1 0 0 0 0.5"))
    (folder / "neither.cif").write_text("data_empty\n_cell_length_a 3\n")
    (folder / "program.py").write_text("\ndata_path = 3\n")
    (folder / "link.vasp").symlink_to(folder / "same.vasp")
    return folder.parent


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The script on a command line; the rows it has written."""

    def run(*options):
        path = tmp_path / "rows.csv"
        monkeypatch.setattr(sys, "argv", ["script", *map(str, options), "--csv", str(path)])
        assert structures.main() == 0
        with path.open() as file:
            return {row["path"]: row for row in csv.DictReader(file)}

    return run


def test_every_verdict_is_given(folder, run, capsys):
    rows = run(folder)
    assert {path: row["verdict"] for path, row in rows.items()} == {
        f"deep/{name}": name.partition(".")[0]
        for name in ("same.vasp", "same.mcif", "different.cif", "refused.xyz", "disordered.cif", "neither.cif")
    }
    assert rows["deep/same.mcif"]["format"] == "cif"
    found = rows["deep/different.cif"]
    assert (found["formula"], found["reference_formula"]) == ("Po", "Po")
    assert float(found["difference"]) == pytest.approx(0.07, abs=1e-3)
    assert "2 structures" in rows["deep/refused.xyz"]["reason"]
    assert rows["deep/neither.cif"]["reference_error"]
    printed = capsys.readouterr().out
    assert "1 files of no known format are left out" in printed
    assert "| cif | 4 | 1 | 1 | 0 | 1 | 0 | 1 |" in printed
    assert "| all | 6 | 2 | 1 | 1 | 1 | 0 | 1 |" in printed


def test_archives_are_read_without_their_links(folder, tmp_path, run):
    header = {"header": "data_blanks in its name"}  # gemmi takes none
    (folder / "only.cif").write_text(CELL.format(**CUBIC | header, site="Po1 0 0 0 1"))
    archive = tmp_path / "package-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "package")
        outside = tarfile.TarInfo("../outside.cif")
        outside.size = 4
        tar.addfile(outside, io.BytesIO(b"data"))
    rows = run("--sdist", archive, "--reference", "gemmi")
    verdicts = {Path(path).name: row["verdict"] for path, row in rows.items()}
    assert verdicts["only.cif"] == "reference cannot"
    assert verdicts["different.cif"] == "same"
    assert not {"link.vasp", "outside.cif"} & set(verdicts)
    assert set(rows) >= {"package-1.0.tar.gz/package/deep/same.vasp"}


def test_readers_that_find_no_end_are_a_row_and_not_the_end(folder, tmp_path):
    os.mkfifo(tmp_path / "endless.vasp")
    worker = structures.Worker("gemmi", timeout=2)  # which starts faster than pymatgen
    rows = [worker.compare(path, "poscar", "a") for path in (tmp_path / "endless.vasp", folder / "deep/same.vasp")]
    worker.close()
    assert [row.verdict for row in rows] == ["neither", "same"]
    assert (rows[0].reason, rows[0].reference_error) == ("no end in 2 s", "no end in 2 s")
