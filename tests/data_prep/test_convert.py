import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

SAMPLE = Path(__file__).parents[2] / "examples" / "sample_data"


def test_folder_to_jsonl_and_back_is_the_same_folder(run_module, tmp_path):
    result = run_module("convert", "to-jsonl", "--input", SAMPLE, "--output", tmp_path / "sample.jsonl.gz")
    assert result.returncode == 0, result.stderr
    assert "200 crystals in" in result.stdout
    result = run_module(
        "convert", "to-folder", "--input", tmp_path / "sample.jsonl.gz", "--output", tmp_path / "sample"
    )
    assert result.returncode == 0, result.stderr
    names = {path.name for path in (tmp_path / "sample").iterdir()}
    assert names == {path.name for path in SAMPLE.iterdir()} - {"README.md", "descriptions.jsonl"}
    for name in names:
        assert (tmp_path / "sample" / name).read_text() == (SAMPLE / name).read_text()


def test_one_of_several_properties(run_module, tmp_path, crystals):
    rows = [
        {"id": name, "gap": 0.5 + number, "energy": -number, **structure(crystal)}
        for number, (name, crystal) in enumerate(crystals.items())
    ]
    del rows[3]["gap"]
    rows[4]["elements"][0] = "Qq"
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = run_module(
        "convert", "to-folder", "--input", tmp_path / "rows.jsonl", "--property", "gap", "--output", tmp_path / "gaps"
    )
    assert result.returncode == 0, result.stderr
    with (tmp_path / "gaps" / "id_prop.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    expected = {row["id"]: row["gap"] for number, row in enumerate(rows) if number not in (3, 4)}
    assert {row["id"]: float(row["gap"]) for row in table} == expected
    assert sum("left out" in line for line in result.stderr.splitlines()) == 2
    assert "rows.jsonl:5" in result.stderr

    result = run_module("convert", "to-folder", "--input", tmp_path / "rows.jsonl", "--output", tmp_path / "other")
    assert result.returncode == 2
    assert "gap" in result.stderr
    assert "energy" in result.stderr
    assert not (tmp_path / "other").exists()


def structure(crystal):
    return {
        "lattice_mat": crystal.lattice.tolist(),
        "elements": crystal.elements,
        "frac_coords": crystal.frac_coords.tolist(),
    }


def test_cif_folder_becomes_rows(run_module, tmp_path, crystals):
    """Structures of another format come through as the same crystals."""
    from pymatgen.core import Structure

    folder = tmp_path / "cifs"
    folder.mkdir()
    for name, crystal in crystals.items():
        Structure(crystal.lattice, crystal.elements, crystal.frac_coords).to(str(folder / f"{name}.cif"))
    (folder / "id_prop.csv").write_text("".join(f"{name},{len(name)}\n" for name in crystals))
    result = run_module("convert", "to-jsonl", "--input", folder, "--output", tmp_path / "rows.jsonl")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == list(crystals)
    for row in rows:
        crystal = crystals[row["id"]]
        assert sorted(row["elements"]) == sorted(crystal.elements)
        np.testing.assert_allclose(abs(np.linalg.det(row["lattice_mat"])), crystal.volume, rtol=1e-6)


@pytest.mark.parametrize("identifier", ["a b", "sub/a"])
def test_id_that_is_no_file_name_ends_it_with_nothing_written(run_module, tmp_path, crystals, identifier):
    row = {"id": identifier, "gap": 1.0, **structure(crystals["NaCl"])}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    result = run_module("convert", "to-folder", "--input", tmp_path / "rows.jsonl", "--output", tmp_path / "folder")
    assert result.returncode == 2
    assert "cannot be a file name" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_folder_that_is_there_is_not_replaced(run_module, tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "sample")
    result = run_module("convert", "to-folder", "--input", SAMPLE, "--output", tmp_path / "sample")
    assert result.returncode == 2
    assert "exists already" in result.stderr
