"""The set of untagged structures, from two small archives of the layout that figshare has."""

import gzip
import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from crysmm.crystals.conversion import as_crystal
from crysmm.crystals.crystal import Crystal
from crysmm.data.space_groups import find_space_group
from crysmm.errors import InputError
from crysmm.io.inputs import open_source
from data_prep import deduplicate as module
from data_prep.deduplicate import deduplicate
from data_prep.structure_index import StructureIndex

CHECKOUT = Path(__file__).parents[2]


def row(identifier, crystal):
    return {"id": identifier, "formula": crystal.formula, "energy": -1.5, "atoms": crystal.to_jarvis().to_dict()}


def pack(path, rows):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(path.stem, json.dumps(rows))
    return path


def scaled(crystal, factor):
    return Crystal(crystal.lattice * factor, crystal.frac_coords, crystal.atomic_numbers)


def doubled(crystal):
    coords = np.concatenate([crystal.frac_coords, crystal.frac_coords + np.array([0, 0, 1])]) / [1, 1, 2]
    return Crystal(np.diag([1, 1, 2]) @ crystal.lattice, coords, np.tile(crystal.atomic_numbers, 2))


@pytest.fixture
def archives(tmp_path, crystals):
    """MP has every crystal and copies of two; OQMD has supercells of all, strained ones, and two bad rows."""
    folder = tmp_path / "archives"
    folder.mkdir()
    first = [row(f"mp-{name}", crystal) for name, crystal in crystals.items()]
    first += [row(f"mp-again-{name}", scaled(crystals[name], 1.0001)) for name in ("Si", "NaCl")]
    second = [row(f"oqmd-{name}", doubled(crystal)) for name, crystal in crystals.items()]
    second += [row(f"oqmd-strained-{name}", scaled(crystals[name], 1.03)) for name in ("Si", "NaCl", "ZrO2")]
    second[3]["atoms"]["elements"][0] = "Qq"
    second.insert(5, {"id": "oqmd-empty"})
    return {"mp": pack(folder / "all_mp.json.zip", first), "oqmd": pack(folder / "all_oqmd.json.zip", second)}


def read(path):
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def run_small(archives, output, **changes):
    """Parts of four rows, in this process."""
    options = {"left_out": StructureIndex(), "settings": {}, "symprec": 0.01, "jobs": 1, "rows_a_part": 4, **changes}
    return deduplicate(archives, output, **options)


def test_one_row_a_structure(run_module, archives, tmp_path, crystals):
    output = tmp_path / "made" / "untagged.jsonl.gz"
    result = run_module("untagged", "--mp", archives["mp"], "--oqmd", archives["oqmd"], "--output", output, "--jobs", 2)
    assert result.returncode == 0, result.stderr
    rows = read(output)
    strained = ["Si", "NaCl", "ZrO2"]
    assert [row["id"] for row in rows] == [f"mp-{name}" for name in crystals] + [f"oqmd-strained-{n}" for n in strained]
    assert all(set(row) == {"id", "source", "space_group", "lattice_mat", "elements", "frac_coords"} for row in rows)
    assert [row["source"] for row in rows] == ["mp_3d_2020"] * len(crystals) + ["oqmd_3d_no_cfid"] * 3
    for row, crystal in zip(rows, crystals.values(), strict=False):
        np.testing.assert_allclose(as_crystal(row).lattice, crystal.lattice, atol=1e-5)
        assert row["space_group"] == find_space_group(crystal, 0.01)
    assert "mp_3d_2020: 14 rows: 12 kept, 2 duplicate, 0 left out, 0 not readable" in result.stdout
    assert "oqmd_3d_no_cfid: 16 rows: 3 kept, 11 duplicate, 0 left out, 2 not readable" in result.stdout
    assert "cubic 60.0%" in result.stdout  # Cu Fe Si CdTe CsCl NaCl SrTiO3 and strained Si NaCl, of 15
    assert "not found for 0 of 15" in result.stdout
    assert "'Qq'" in result.stderr
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_the_result_is_an_input(archives, tmp_path):
    run_small(archives, tmp_path / "untagged.jsonl.gz")
    source = open_source(tmp_path / "untagged.jsonl.gz", needs_targets=False)
    assert sum(len(row.read().crystal) > 0 for row in source.rows()) == 15


def test_test_sets_are_left_out(run_module, archives, tmp_path, crystals):
    """A whole folder of files, and one id of a table; each matches in whatever cell it comes."""
    from crysmm.io.table import crystal_row
    from data_prep.files import write_folder, write_jsonl

    write_folder([("a", doubled(crystals["Cu"]), [1.0])], ["value"], tmp_path / "folder")
    table = [crystal_row(name, {}, scaled(crystals[name], 0.9999)) for name in ("Si", "Mg", "ZrO2")]
    write_jsonl(table, tmp_path / "table.jsonl")
    ids = tmp_path / "ids_train_val_test.json"
    ids.write_text(json.dumps({"id_train": ["Si"], "id_val": ["Mg"], "id_test": ["ZrO2"]}))
    arguments = ["--mp", archives["mp"], "--oqmd", archives["oqmd"], "--output", tmp_path / "untagged.jsonl.gz"]
    arguments += ["--jobs", 1, "--leave_out", tmp_path / "folder", "--leave_out", tmp_path / "table.jsonl", ids]
    result = run_module("untagged", *arguments)
    assert result.returncode == 0, result.stderr
    kept = {row["id"] for row in read(tmp_path / "untagged.jsonl.gz")}
    assert kept == {f"mp-{name}" for name in crystals if name not in ("Cu", "ZrO2")} | {
        f"oqmd-strained-{name}" for name in ("Si", "NaCl", "ZrO2")
    }
    assert "mp_3d_2020: 14 rows: 10 kept, 2 duplicate, 2 left out" in result.stdout
    assert "oqmd_3d_no_cfid: 16 rows: 3 kept, 9 duplicate, 2 left out" in result.stdout

    ids.write_text(json.dumps({"id_train": [], "id_val": [], "id_test": ["ZrO2", "elsewhere"]}))
    arguments[5] = tmp_path / "another.jsonl.gz"
    result = run_module("untagged", *arguments)
    assert result.returncode == 2
    assert "elsewhere" in result.stderr
    assert "Traceback" not in result.stderr


class Stopped(BaseException):
    """As abrupt as being killed, for code that catches errors."""


@pytest.mark.parametrize("n_calls", range(0, 31, 3))
def test_stopped_anywhere_a_second_run_ends_the_same(archives, tmp_path, monkeypatch, n_calls):
    report = run_small(archives, tmp_path / "whole.jsonl.gz")
    expected = (tmp_path / "whole.jsonl.gz").read_bytes()
    output, examine_one, calls = tmp_path / "broken.jsonl.gz", module._examine_one, []

    def stop(text, symprec):
        calls.append(text)
        if len(calls) > n_calls:
            raise Stopped
        return examine_one(text, symprec)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_examine_one", stop)
        patch.setattr("crysmm.data.building.ROWS_PER_TASK", 1)
        if n_calls < 30:
            with pytest.raises(Stopped):
                run_small(archives, output)
            assert not output.exists()
            patch.setattr(module, "_examine_one", examine_one)
        again = run_small(archives, output)
    assert output.read_bytes() == expected
    assert again.counts.tolist() == report.counts.tolist()
    assert again.space_groups.tolist() == report.space_groups.tolist()
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["broken.jsonl.gz", "whole.jsonl.gz"]


@pytest.mark.parametrize("moment", ["write_jsonl", "shutil.copyfileobj"])
def test_stopped_while_writing_a_second_run_ends_the_same(archives, tmp_path, monkeypatch, moment):
    run_small(archives, tmp_path / "whole.jsonl.gz")
    output = tmp_path / "broken.jsonl.gz"

    def stop(*arguments, **options):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(f"data_prep.deduplicate.{moment}", stop)
        with pytest.raises(Stopped):
            run_small(archives, output)
    assert not output.exists()
    run_small(archives, output)
    assert output.read_bytes() == (tmp_path / "whole.jsonl.gz").read_bytes()


SLOW_RUN = """
import sys, time
from pathlib import Path
from data_prep import deduplicate as module
from data_prep.structure_index import StructureIndex
examine = module._examine_one
def slow(row, symprec):
    time.sleep(0.1)
    return examine(row, symprec)
module._examine_one = slow
import crysmm.data.building
crysmm.data.building.ROWS_PER_TASK = 1
archives = {"mp": Path(sys.argv[1]), "oqmd": Path(sys.argv[2])}
output, index = Path(sys.argv[3]), StructureIndex()
module.deduplicate(archives, output, left_out=index, settings={}, symprec=0.01, jobs=1, rows_a_part=4)
"""


def test_killed_it_goes_on(archives, tmp_path):
    run_small(archives, tmp_path / "whole.jsonl.gz")
    output = tmp_path / "killed.jsonl.gz"
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, *archives.values(), output], cwd=CHECKOUT)
    second_part = tmp_path / ".killed.jsonl.gz.parts" / "00001.jsonl.gz"
    limit = time.monotonic() + 60
    while not second_part.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert second_part.exists()
    assert not output.exists()
    run_small(archives, output)
    assert output.read_bytes() == (tmp_path / "whole.jsonl.gz").read_bytes()


def test_parts_of_another_run_are_refused(archives, tmp_path, monkeypatch):
    output = tmp_path / "untagged.jsonl.gz"

    def stop(*arguments):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(module, "_examine_one", stop)
        with pytest.raises(Stopped):
            run_small(archives, output, settings={"archives": "first"})
    with pytest.raises(InputError, match=r"other settings \(archives\)"):
        run_small(archives, output, settings={"archives": "second"})
    with pytest.raises(InputError, match=r"other settings \(symprec\)"):
        run_small(archives, output, settings={"archives": "first"}, symprec=0.1)
    run_small(archives, output, settings={"archives": "first"})
    with pytest.raises(InputError, match="exists already"):
        run_small(archives, output)


def test_a_broken_archive_is_found_before_the_work(run_module, archives, tmp_path):
    whole = archives["oqmd"].read_bytes()
    archives["oqmd"].write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "untagged.jsonl.gz"
    result = run_module("untagged", "--mp", archives["mp"], "--oqmd", archives["oqmd"], "--output", output)
    assert result.returncode == 2
    assert f"error: {archives['oqmd']}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "rows.json"], "ending in .jsonl.gz"),
        (["--output", "archives/all_mp.json.zip/a.jsonl.gz"], "all_mp.json.zip is a file"),
        (["--output", "a.jsonl.gz", "--symprec", "3"], "--symprec is 3.0"),
        (["--output", "a.jsonl.gz", "--jobs", "0"], "expected a whole number, 1 or more, got '0'"),
        (["--output", "a.jsonl.gz", "--leave_out", "a", "b", "c"], "at most one file of ids"),
        (["--output", "a.jsonl.gz", "--leave_out", "missing"], "missing does not exist"),
        (["--output", "a.jsonl.gz", "--mp", "missing.json.zip"], "missing.json.zip cannot be read"),
    ],
)
def test_bad_arguments_are_one_line(run_module, archives, tmp_path, arguments, words):
    arguments[1] = tmp_path / arguments[1]
    result = run_module("untagged", "--mp", archives["mp"], "--oqmd", archives["oqmd"], *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["archives"]


def test_the_output_is_looked_at_before_anything_is_downloaded(run_module, tmp_path):
    result = run_module("untagged", "--output", tmp_path / "rows.json")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "ending in .jsonl.gz" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_archives(tmp_path, crystals):
    import tracemalloc

    long = {**row("x", crystals["Cu"]), "padding": "x" * 60_000}
    path = tmp_path / "all_mp.json.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr("all_mp.json", json.dumps([long] * 500))  # 30 MB
    tracemalloc.start()
    report = run_small({"mp": path}, tmp_path / "untagged.jsonl.gz", rows_a_part=20)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert report.counts.tolist() == [[1, 499, 0, 0]]


def test_the_data_sets_are_jarvis_own():
    from jarvis.db.figshare import get_db_info

    from data_prep.untagged import MP, OQMD

    assert [get_db_info()[name][1] for name in (MP, OQMD)] == ["all_mp.json", "all_oqmd.json"]
