import csv
import gzip
import json

import pytest

from crysmm.errors import InputError
from crysmm.io.table import crystal_row
from data_prep.files import run_command, write_folder, write_jsonl


def test_jsonl_holds_every_digit(tmp_path, crystals):
    rows = [crystal_row(name, {"value": 1 / 3}, crystal) for name, crystal in crystals.items()]
    assert write_jsonl(rows, tmp_path / "new" / "rows.jsonl") == len(crystals)
    read = [json.loads(line) for line in (tmp_path / "new" / "rows.jsonl").read_text().splitlines()]
    assert [row["id"] for row in read] == list(crystals)
    assert all(row["value"] == 1 / 3 for row in read)
    assert all(row["frac_coords"] == crystals[row["id"]].frac_coords.tolist() for row in read)
    assert all(row["lattice_mat"] == crystals[row["id"]].lattice.tolist() for row in read)


def test_same_rows_give_the_same_gzip_file(tmp_path, crystals):
    rows = [crystal_row(name, {}, crystal) for name, crystal in crystals.items()]
    write_jsonl(rows, tmp_path / "one.jsonl.gz")
    write_jsonl(rows, tmp_path / "two.jsonl.gz")
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()
    with gzip.open(tmp_path / "one.jsonl.gz", "rt") as file:
        assert len(file.readlines()) == len(crystals)


def test_error_on_the_way_leaves_nothing(tmp_path, crystals):
    def rows():
        yield crystal_row("NaCl", {}, crystals["NaCl"])
        raise InputError("the input is broken")

    def entries():
        yield "NaCl", crystals["NaCl"], [1.0]
        raise InputError("the input is broken")

    with pytest.raises(InputError, match="broken"):
        write_jsonl(rows(), tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="broken"):
        write_folder(entries(), ["value"], tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(tmp_path, crystals):
    (tmp_path / "rows.jsonl").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"rows\.jsonl exists already"):
        write_jsonl([], tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="folder exists already"):
        write_folder([], ["value"], tmp_path / "folder")
    assert (tmp_path / "rows.jsonl").read_text() == "mine"


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.jsonl or \.jsonl\.gz"):
        write_jsonl([], tmp_path / "rows.json")


def test_folder_has_header_and_full_precision(tmp_path, crystals):
    entries = [("a-1", crystals["NaCl"], [0.1 + 0.2, 1e-9]), ("b,2", crystals["Si"], [2, -3.5])]
    assert write_folder(entries, ["gap", "energy"], tmp_path / "folder") == 2
    with (tmp_path / "folder" / "id_prop.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["id", "gap", "energy"]
    assert [float(cell) for cell in table[1][1:]] == [0.1 + 0.2, 1e-9]
    assert table[2][0] == "b,2"
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["a-1.vasp", "b,2.vasp", "id_prop.csv"]


@pytest.mark.parametrize(
    "identifier", ["../x", "a/b", "a\\b", "", ".", "..", ".hidden", "a b\n", "a\0b", "x" * 300, "ä"]
)
def test_ids_that_are_no_file_names_are_refused(tmp_path, crystals, identifier):
    with pytest.raises(InputError, match="cannot be a file name"):
        write_folder([(identifier, crystals["NaCl"], [1.0])], ["value"], tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_an_id_that_is_a_file_name_keeps_it(tmp_path, crystals):
    write_folder([("POSCAR-JVASP-10.vasp", crystals["NaCl"], [1.0])], ["value"], tmp_path / "folder")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["POSCAR-JVASP-10.vasp", "id_prop.csv"]


@pytest.mark.parametrize("second", ["a", "a.vasp"])
def test_two_ids_with_one_file_are_refused(tmp_path, crystals, second):
    entries = [("a", crystals["NaCl"], [1.0]), (second, crystals["Si"], [2.0])]
    with pytest.raises(InputError, match=r"two ids have the file a\.vasp"):
        write_folder(entries, ["value"], tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no rows"), 2, "crysmm: error: no rows\n"),
        (OSError(28, "No space left on device"), 2, "crysmm: error: No space left on device\n"),
        (KeyboardInterrupt(), 130, "crysmm: stopped by Ctrl-C\n"),
    ],
)
def test_what_ends_a_command_is_said_in_a_line(capsys, error, code, line):
    def main():
        raise error

    with pytest.raises(SystemExit) as left:
        run_command(main)
    assert left.value.code == code
    assert capsys.readouterr().err == line
