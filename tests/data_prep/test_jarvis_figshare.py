"""Conversion of a small archive of the layout that figshare has; the downloading is tested in test_download.py."""

import json
import zipfile

import numpy as np
import pytest

from crysmm.crystals.conversion import as_crystal


def rows_as_jarvis_has_them(crystals):
    rows = []
    for number, (name, crystal) in enumerate(crystals.items()):
        atoms = crystal.to_jarvis().to_dict()
        rows.append(
            {
                "jid": f"JVASP-{number}",
                "formula": name,
                "spg_number": "225",
                "atoms": atoms,
                "formation_energy_peratom": -0.5 * number,
                "mbj_bandgap": "na" if number % 3 else 0.25 * number,
                "epsx": float("nan"),
                "efg": [[1.0, 2.0]],
                "nat": len(crystal),
                "icsd": [],
                "digits": 10**400,
            }
        )
    return rows


@pytest.fixture
def archive(tmp_path, crystals):
    path = tmp_path / "jdft_3d-8-18-2021.json.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("jdft_3d-8-18-2021.json", json.dumps(rows_as_jarvis_has_them(crystals)))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_numbers_are_kept_and_na_is_dropped(run_module, archive, tmp_path, crystals):
    output = tmp_path / "all.jsonl"
    result = run_module("jarvis_figshare", "--dataset", "dft_3d_2021", "--archive", archive, "--output", output)
    assert result.returncode == 0, result.stderr
    assert f"{len(crystals)} crystals in" in result.stdout
    rows = read(output)
    assert [row["id"] for row in rows] == [f"JVASP-{number}" for number in range(len(crystals))]
    structure = {"lattice_mat", "elements", "frac_coords"}
    assert set(rows[0]) == structure | {"id", "formation_energy_peratom", "mbj_bandgap", "nat"}
    assert set(rows[1]) == structure | {"id", "formation_energy_peratom", "nat"}
    for row, crystal in zip(rows, crystals.values(), strict=True):
        assert row["elements"] == crystal.elements
        np.testing.assert_allclose(as_crystal(row).lattice, crystal.lattice, atol=1e-5)


def test_one_property_keeps_the_crystals_that_have_it(run_module, archive, tmp_path, crystals):
    output = tmp_path / "mbj.jsonl"
    result = run_module(
        "jarvis_figshare",
        "--dataset",
        "dft_3d_2021",
        "--archive",
        archive,
        "--property",
        "mbj_bandgap",
        "--output",
        output,
    )
    assert result.returncode == 0, result.stderr
    assert {row["id"]: row["mbj_bandgap"] for row in read(output)} == {
        f"JVASP-{number}": 0.25 * number for number in range(0, len(crystals), 3)
    }
    assert all("nat" not in row for row in read(output))


def test_cartesian_coordinates_become_fractional(run_module, tmp_path, crystals):
    crystal = crystals["SiO2"]
    atoms = {
        "lattice_mat": crystal.lattice.tolist(),
        "coords": (crystal.frac_coords @ crystal.lattice).tolist(),
        "elements": crystal.elements,
        "cartesian": True,
        "props": [""] * len(crystal),
    }
    with zipfile.ZipFile(tmp_path / "megnet.json.zip", "w") as packed:
        packed.writestr("megnet.json", json.dumps([{"id": "mp-7000", "gap pbe": 5.7, "atoms": atoms}]))
    result = run_module(
        "jarvis_figshare", "--dataset", "megnet", "--archive", tmp_path / "megnet.json.zip",
        "--property", "gap pbe", "--output", tmp_path / "gap.jsonl",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    [row] = read(tmp_path / "gap.jsonl")
    assert (row["id"], row["gap pbe"]) == ("mp-7000", 5.7)
    np.testing.assert_allclose(row["frac_coords"], crystal.frac_coords, atol=1e-12)


def test_bad_rows_are_named_and_left_out(run_module, tmp_path, crystals):
    rows = rows_as_jarvis_has_them(crystals)
    rows[1]["atoms"]["elements"][0] = "Qq"
    del rows[2]["jid"]
    del rows[3]["atoms"]
    rows[4] = "no row"
    rows[5]["jid"] = "JVASP-0"
    path = tmp_path / "plain.json"
    path.write_text(json.dumps(rows))
    output = tmp_path / "all.jsonl"
    result = run_module("jarvis_figshare", "--dataset", "dft_3d_2021", "--archive", path, "--output", output)
    assert result.returncode == 0, result.stderr
    assert [row["id"] for row in read(output)] == [f"JVASP-{n}" for n in range(len(rows)) if n not in (1, 2, 3, 4, 5)]
    left_out = [line for line in result.stderr.splitlines() if "left out" in line]
    assert len(left_out) == 5
    assert "'Qq'" in left_out[0]


def test_unknown_property_lists_what_there_is(run_module, archive, tmp_path):
    result = run_module(
        "jarvis_figshare", "--dataset", "dft_3d_2021", "--archive", archive, "--property", "gap", "--output",
        tmp_path / "gap.jsonl",
    )  # fmt: skip
    assert result.returncode == 2
    assert "has gap; there are formation_energy_peratom, mbj_bandgap, nat" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


@pytest.mark.parametrize("damage", ["half", "empty", "no zip"])
def test_damaged_archive_is_an_error_of_one_line(run_module, archive, tmp_path, damage):
    whole = archive.read_bytes()
    archive.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "no zip": b"<html>busy</html>"}[damage])
    output = tmp_path / "all.jsonl"
    result = run_module("jarvis_figshare", "--dataset", "dft_3d_2021", "--archive", archive, "--output", output)
    assert result.returncode == 2
    assert "error: " in result.stderr
    assert str(archive) in result.stderr
    assert "Traceback" not in result.stderr
    assert not output.exists()


def test_memory_does_not_grow_with_the_archive(tmp_path, crystals):
    import tracemalloc

    from data_prep.files import write_jsonl
    from data_prep.jarvis_figshare import read_archive

    row = rows_as_jarvis_has_them(crystals)[-1]
    row["padding"] = "x" * 10_000
    path = tmp_path / "large.json.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr("large.json", json.dumps([row | {"jid": f"JVASP-{n}"} for n in range(3000)]))  # 35 MB
    tracemalloc.start()
    assert write_jsonl(read_archive(path, None), tmp_path / "rows.jsonl") == 3000
    assert tracemalloc.get_traced_memory()[1] < 12e6
    tracemalloc.stop()


def test_addresses_are_jarvis_own():
    """The two names exist in JARVIS' table, with an archive of the layout expected."""
    from jarvis.db.figshare import get_db_info

    from data_prep.jarvis_figshare import DATASETS

    for dataset in DATASETS:
        address, member = get_db_info()[dataset][:2]
        assert address.startswith("https://ndownloader.figshare.com/files/")
        assert member.endswith(".json")


def test_archive_that_lies_beside_the_output_is_used(run_module, archive, tmp_path, crystals):
    """It has the name that the download would give it, so no network is asked."""
    result = run_module("jarvis_figshare", "--dataset", "dft_3d_2021", "--output", tmp_path / "all.jsonl")
    assert result.returncode == 0, result.stderr
    assert len(read(tmp_path / "all.jsonl")) == len(crystals)
