"""Conversion of a small archive of the layout that CrysMMNet's authors distribute: tables without reliable names."""

import csv
import io
import json
import re
import zipfile

import numpy as np
import pytest
from ase import Atoms

from crysmm.crystals.conversion import as_crystal
from crysmm.errors import InputError
from crysmm.io.inputs import open_source
from crysmm.text.descriptions import descriptions_of_input
from data_prep import crysmmnet
from data_prep.download import figshare_address
from data_prep.files import write_jsonl

TEXT = "{} is a crystal, and crystallizes in a space group."
TABLES = {  # table of the archive, folder of its structures, number of targets
    "mbj_bandgap": ("jarvis/mbj_bandgap/description.csv", "jarvis/mbj_bandgap/cif", 1),
    "mp": ("mp_2018_new/mat_text.csv", "mp_2018_new", 2),
    "mp_moduli": ("mp_2018_small/description.csv", "mp_2018_small/cif", 2),
}


def cif_of(crystal):
    file = io.BytesIO()
    Atoms(crystal.elements, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True).write(file, "cif")
    return file.getvalue()


def rows_of(crystals, n_targets):
    return [
        [f"id-{number}", name, *(number + 0.5 * target for target in range(n_targets)), TEXT.format(name), "short"]
        for number, (name, crystal) in enumerate(crystals.items())
    ]


@pytest.fixture
def pack(tmp_path, crystals):
    """Writes an archive with one table of these rows, after a header without names to rely on."""

    def pack(table, rows, top="dataset/", header=True):
        path, structures, n_targets = TABLES[table]
        text = io.StringIO()
        names = ["id", "comp", *"ab"[:n_targets], "desc", ""]
        csv.writer(text).writerows([names, *rows] if header else rows)
        archive = tmp_path / "dataset.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(top + path, text.getvalue())
            for number, crystal in enumerate(crystals.values()):
                packed.writestr(f"{top}{structures}/id-{number}.cif", cif_of(crystal))
        return archive

    return pack


def read(archive, table):
    return list(crysmmnet.read_table(archive, crysmmnet.TABLES[table]))


@pytest.mark.parametrize(
    ("table", "names", "top"),
    [
        ("mbj_bandgap", ["mbj_bandgap"], "dataset/"),
        ("mp", ["e_form", "gap pbe"], ""),
        ("mp_moduli", ["shear modulus", "bulk modulus"], "dataset/"),
    ],
)
def test_rows_are_the_authors_in_their_order(pack, tmp_path, crystals, table, names, top):
    rows = rows_of(crystals, len(names))
    made = read(pack(table, rows, top), table)
    assert [[row["id"], row["composition"], *(row[name] for name in names)] for row in made] == [r[:-2] for r in rows]
    for row, crystal in zip(made, crystals.values(), strict=True):
        assert sorted(row["elements"]) == sorted(crystal.elements)
        np.testing.assert_allclose(as_crystal(row).volume, crystal.volume, rtol=1e-4)
    write_jsonl(made, tmp_path / "rows.jsonl")
    source = open_source(tmp_path / "rows.jsonl", target_key=names[-1])
    texts = {identifier: row.text for identifier, row in descriptions_of_input(source).items()}
    assert texts == {row[0]: row[-2] for row in rows}


def test_the_command_reads_an_unpacked_archive_too(run_module, pack, tmp_path, crystals):
    with zipfile.ZipFile(pack("mbj_bandgap", rows_of(crystals, 1))) as packed:
        packed.extractall(tmp_path / "unpacked")
        made = read(tmp_path / "dataset.zip", "mbj_bandgap")
    output = tmp_path / "rows.jsonl"
    result = run_module("crysmmnet", "--table", "mbj_bandgap", "--archive", tmp_path / "unpacked", "--output", output)
    assert result.returncode == 0, result.stderr
    assert f"{len(crystals)} crystals in" in result.stdout
    assert [json.loads(line) for line in output.read_text().splitlines()] == made


def test_an_archive_that_is_not_there_is_an_error_of_one_line(run_module, tmp_path):
    result = run_module("crysmmnet", "--table", "mp", "--archive", "none.zip", "--output", tmp_path / "rows.jsonl")
    assert (result.returncode, result.stderr) == (2, "crysmm: error: --archive: none.zip does not exist\n")
    assert list(tmp_path.iterdir()) == []


def test_bad_rows_are_named_and_left_out(pack, capsys, crystals):
    rows = rows_of(crystals, 2)
    rows[0][2] = "na"  # one of two properties may be missing
    rows[1][0] = "id-0"
    rows[2][0] = "../id-2"
    rows[3][0] = "id-404"
    rows[4][3] = "high"
    rows[5] = rows[5][:3]
    made = read(pack("mp", rows), "mp")
    assert [row["id"] for row in made] == [f"id-{n}" for n in range(len(rows)) if n not in (1, 2, 3, 4, 5)]
    assert "e_form" not in made[0]
    assert made[0]["gap pbe"] == 0.5
    assert re.findall(r"left out: mp_2018_new/mat_text.csv:(\d): ", capsys.readouterr().err) == list("34567")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no header", r"expected a header and 5 columns: the id, .* \(mbj_bandgap\), .*begins with 'id-0, "),
        ("one column more", "expected a header and 5 columns"),
        ("another table", "holds no jarvis/mbj_bandgap/description.csv"),
        ("half", "is not a whole .zip file"),
        ("no zip", "is not a whole .zip file"),
    ],
)
def test_another_archive_is_refused(pack, crystals, damage, message):
    rows = rows_of(crystals, 1)
    if damage == "one column more":
        rows = [[*row, 1.0] for row in rows]
    archive = pack("mp" if damage == "another table" else "mbj_bandgap", rows, header=damage != "no header")
    if damage == "half":
        archive.write_bytes(archive.read_bytes()[:3000])
    elif damage == "no zip":
        archive.write_bytes(b"<html>busy</html>")
    with pytest.raises(InputError, match=message) as caught:
        read(archive, "mbj_bandgap")
    assert str(archive) in str(caught.value)


def test_address_is_that_of_the_only_zip(serve_json):
    files = [{"name": "dataset.zip", "download_url": "https://ndownloader.figshare.com/files/1"}, {"name": "a.txt"}]
    articles, asked = serve_json({"files": [files[0], files[1] | {"download_url": "https://x/2"}]})
    assert figshare_address(23643669, ".zip", articles) == files[0]["download_url"]
    assert asked == ["/23643669"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"files": []}, "has no files; expected one .zip file; see https://figshare.com"),
        ({"files": [{"name": f"{n}.zip", "download_url": "x"} for n in range(2)]}, r"has 0\.zip, 1\.zip; expected one"),
        ({"message": "no"}, "cannot be listed: 'files'; see"),
        (
            None,
            "cannot be listed: 404 .*; see https://figshare.com/articles/dataset/_/5, and name the file with --arch",
        ),
    ],
)
def test_what_figshare_may_answer_instead(serve_json, answer, message):
    with pytest.raises(InputError, match=message):
        figshare_address(5, ".zip", serve_json(answer)[0])
