"""Every way an input can be bad: the row is skipped with a reason and the others are read, or the whole is refused."""

import gzip
import json
import os
import stat
import time
import zipfile
from pathlib import Path

import pytest

from crysmm.config import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.store import Store, build_store
from crysmm.errors import InputError, StructureError
from crysmm.io.id_prop import FolderTable
from crysmm.io.inputs import open_source
from crysmm.io.source import SkippedRow, UnlabeledRow
from crysmm.io.structure_file import read_structure

SILICON = """silicon
5.431
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
Si
2
Direct
0.00 0.00 0.00
0.25 0.25 0.25
"""
CIF = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Fe1 Fe 0 0 0 0.6
Ni1 Ni 0 0 0 0.4
"""


def store_of(source_path: Path, cache: Path, **options: str) -> Store:
    return build_store(open_source(source_path, **options), GraphSettings(), cache_dir=cache, jobs=1, progress=False)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.vasp", None, "no structure file"),
        ("empty.vasp", b"", "the file is empty"),
        ("blank.vasp", b" \n\n", "the file is empty"),
        ("cut.vasp", SILICON.rsplit("\n", 2)[0].encode(), "cut off: 1 of 2 lines of coordinates"),
        ("cut2.vasp", SILICON.replace("0.25 0.25 0.25", "0.25 0.2").encode(), "line 10 .*expected coordinates"),
        ("junk.vasp", bytes(range(256)) * 8, "binary, not text"),
        ("utf16.vasp", SILICON.encode("utf-16"), "UTF-16; save it as UTF-8"),
        ("utf16.cif", b"\xfe\xff" + CIF.encode("utf-16-be"), "UTF-16; save it as UTF-8"),
        ("packed.vasp", gzip.compress(SILICON.encode(), mtime=0), "compressed with gzip"),
        ("zipped.vasp", b"PK\x03\x04\x14\x00", "is a zip archive; unpack it"),
        ("junk2.vasp", bytes(range(128, 256)) * 8, "ends after"),
        ("junk.cif", bytes(range(1, 256)) * 8, "cif"),
        ("junk.xyz", bytes(range(1, 256)) * 8, "xyz"),
        ("nan.vasp", SILICON.replace("0.25 0.25 0.25", "0.25 nan 0.25").encode(), "a coordinate is not finite"),
        ("flat.vasp", SILICON.replace("0.5 0.5 0.0\n", "0.5 0.0 0.5\n").encode(), r"volume of 0 cubic Angstrom"),
        ("close.vasp", SILICON.replace("0.25 0.25 0.25", "0.01 0.0 0.0").encode(), "0.0.* Angstrom apart"),
        ("element.vasp", SILICON.replace("Si\n2", "Xy\n2").encode(), "unknown element 'Xy'"),
        ("partial.cif", CIF.encode(), "partial occupancy: site Fe1 is occupied to 0.6"),
        ("shared.cif", CIF.replace("0.6", "1").replace("0.4", "1").encode(), "0.000 Angstrom apart"),
    ],
)
def test_bad_file_is_skipped_with_a_reason(name: str, content: bytes | None, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "good.vasp").write_text(SILICON)
    (folder / "id_prop.csv").write_text(f"{name},1\ngood.vasp,2\n")
    if content is not None:
        (folder / name).write_bytes(content)
    store = store_of(folder, tmp_path / "cache")
    assert store.ids == ["good.vasp"]
    (skipped,) = store.skipped
    assert skipped.id == name
    with pytest.raises(InputError, match=reason):
        build_store(open_source(folder), GraphSettings(), cache_dir=tmp_path / "again", jobs=1, strict=True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("../secret.vasp,1", "leads out of the folder"),
        ("x/../../secret.vasp,1", "leads out of the folder"),
        ("/etc/passwd,1", "leads out of the folder"),
        (r"..\secret.vasp,1", "leads out of the folder"),
        (r"C:\secret.vasp,1", "leads out of the folder"),
        (",1", "the row has no id"),
        ("good.vasp", "no target"),
        ("good.vasp,-inf", "target is -inf"),
        ("good.vasp,metal", "'metal'; numbers are needed"),
        ("good.vasp,1,2", "3 columns; expected 2"),
        ("good.vasp,1_000", "'1_000'; numbers are needed"),
        ("1,1", "no structure file: looked for 1, 1.vasp"),  # there is a 1.0.vasp
        ("other.vasp,1", "stands in an earlier row"),
        ("other,1", "other.vasp is the structure file of an earlier row, with the id 'other.vasp'"),
        ("nobody,1", "no structure file: looked for nobody, nobody.vasp"),
    ],
)
def test_bad_row_is_skipped_with_a_reason(row: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("good.vasp", "other.vasp", "1.0.vasp"):
        (folder / name).write_text(SILICON)
    (tmp_path / "secret.vasp").write_text(SILICON)
    (folder / "id_prop.csv").write_text(f"other.vasp,3\n{row}\n")
    readable, skipped = open_source(folder).rows()
    assert readable.id == "other.vasp"
    assert isinstance(skipped, SkippedRow)
    assert not isinstance(skipped, UnlabeledRow)
    assert skipped.file == "id_prop.csv:2"
    assert reason in skipped.reason


@pytest.mark.parametrize(
    ("cell", "reason"),
    [("", "target is empty"), ("na", "target is 'na'"), ("nan", "target is 'nan'"), ("-", "target is '-'")],
)
def test_row_without_target_is_left_out_but_no_fault(cell: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "good.vasp").write_text(SILICON)
    (folder / "id_prop.csv").write_text(f"good.vasp,3\nother.vasp,{cell}\n")
    source = open_source(folder)
    _, unlabeled = source.rows()
    assert isinstance(unlabeled, UnlabeledRow)
    assert (unlabeled.id, unlabeled.file) == ("other.vasp", "id_prop.csv:2")
    assert unlabeled.reason == f"no target: {reason}"
    store = build_store(source, GraphSettings(), cache_dir=tmp_path / "cache", jobs=1, strict=True, progress=False)
    assert (store.ids, store.skipped, store.unlabeled) == (["good.vasp"], [], [unlabeled])
    assert store.gaps() == ["1 of 2 rows have no target"]


ROW = {"id": "a", "gap": 1.0, "lattice_mat": [[3, 0, 0], [0, 3, 0], [0, 0, 3]], "elements": ["Fe"]}
GOOD = {**ROW, "frac_coords": [[0, 0, 0]]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "b", "gap": ', "broken JSON"),
        ("\x00\x01", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ("[1, 2]", "expected a row of named fields, got list"),
        (json.dumps({**GOOD, "id": None}), "the row has no id"),
        (json.dumps({**GOOD, "id": "../b"}), "leads out of the folder"),
        (json.dumps({**GOOD, "id": "b\nc"}), "cannot be printed"),
        (json.dumps({**GOOD, "id": "\ud800"}), "cannot be printed"),
        (json.dumps({**GOOD, "id": "b", "gap": 10**400}), "numbers are needed"),
        (json.dumps({**GOOD, "id": "b", "gap": 1}).replace(": 1,", f": {'9' * 5000},"), "broken JSON"),
        (json.dumps({**GOOD, "id": "b"}).replace("}", ', "gap": 2}'), "an object has the key 'gap' twice"),
        (json.dumps(GOOD), "stands in an earlier row"),
        (json.dumps({"id": "b", "gap": 1}), "no structure: expected one under atoms, structure or cif"),
        (json.dumps({"id": "b", "gap": 1, "structure": None}), "no structure: structure is empty"),
        (json.dumps({"id": "b", "gap": 1, "atoms": "POSCAR"}), "the structure cannot be read"),
        (json.dumps({**GOOD, "id": "b", "elements": None}), "expected the keys lattice_mat, elements"),
        (json.dumps({**GOOD, "id": "b", "elements": "Fe"}), "element symbols"),
        (json.dumps({**GOOD, "id": "b", "elements": ["Fe", "Fe"]}), "expected a 3 x 3 lattice and 2 x 3"),
        (json.dumps({**GOOD, "id": "b", "frac_coords": [[0, float("nan"), 0]]}), "not finite"),
        (json.dumps({**GOOD, "id": "b", "frac_coords": [[0, "x", 0]]}), "not numbers"),
        (json.dumps({**GOOD, "id": "b", "gap": float("inf")}), "gap is inf"),
        (json.dumps({**GOOD, "id": "b", "gap": [1, 2]}), "2 target values; expected 1"),
        (json.dumps({**GOOD, "id": "b", "gap": {"value": 1}}), "numbers are needed"),
    ],
)
def test_bad_line_is_skipped_with_a_reason(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n{json.dumps({**GOOD, 'id': 'z'})}\n")
    store = store_of(path, tmp_path / "cache")
    assert store.ids == ["a", "z"]
    (skipped,) = store.skipped
    assert skipped.file == "d.jsonl:3"
    assert reason in skipped.reason
    assert skipped.id.isprintable() or "\n" in skipped.id  # can be written to skipped.csv


def test_long_number_in_a_list_costs_its_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    bad = json.dumps({**GOOD, "id": "b"}).replace("1.0", "9" * 5000)
    path.write_text(f"[{json.dumps(GOOD)}, {bad}, {json.dumps({**GOOD, 'id': 'z'})}]")
    first, skipped, last = open_source(path).rows()
    assert (first.id, last.id) == ("a", "z")
    assert isinstance(skipped, SkippedRow)
    assert "broken JSON" in skipped.reason


def test_a_number_is_not_cut_where_the_buffer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crysmm.io.json_stream.CHUNK", 3)
    path = tmp_path / "d.json"
    path.write_text(f"[1234567, {json.dumps(GOOD)}]")
    skipped, readable = open_source(path).rows()
    assert "expected a row of named fields, got int" in skipped.reason
    assert readable.id == "a"


def test_factor_that_makes_a_target_infinite(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(f"{json.dumps({**GOOD, 'gap': 1e300})}\n")
    (row,) = open_source(path, target_multiplication_factor=1e10).rows()
    with pytest.raises(StructureError, match="gap is inf"):
        row.read()


def test_file_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.vasp")).write_text(SILICON)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    source = open_source(folder, needs_targets=False)
    store = build_store(source, GraphSettings(), cache_dir=tmp_path / "cache", jobs=1, progress=False)
    assert store.ids == store.files == [r"\udcff.vasp"]
    (folder / "good.vasp").write_text(SILICON)
    (folder / "id_prop.csv").write_text("good,1\n")
    source = open_source(folder)
    assert isinstance(source, FolderTable)
    assert source.unnamed_files() == [r"\udcff.vasp"]


@pytest.mark.parametrize("first", ["a\0b/c", "."])
def test_first_cell_that_names_nothing(first: str, tmp_path: Path) -> None:
    (tmp_path / "good.vasp").write_text(SILICON)
    (tmp_path / ".vasp").write_text(SILICON)
    (tmp_path / "id_prop.csv").write_text(f"{first},1\ngood,2\n")
    skipped, readable = open_source(tmp_path).rows()
    assert isinstance(skipped, SkippedRow)
    assert readable.id == "good"


def test_nothing_readable_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "id_prop.csv").write_text("a,1\nb,2\n")
    with pytest.raises(InputError, match="nothing in the input can be used"):
        store_of(folder, tmp_path / "cache")
    assert list((tmp_path / "cache" / "stores").iterdir()) == []


def cut_gzip(path: Path) -> None:
    lines = "".join(json.dumps({**GOOD, "id": str(number), "gap": number**0.5}) + "\n" for number in range(2000))
    path.write_bytes(gzip.compress(lines.encode())[:-200])


def zip_of(path: Path, members: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)


def zip_of_another_kind(path: Path) -> None:
    """As Windows writes archives of more than 2 GB: deflate64, method 9."""
    zip_of(path, {"a.json": json.dumps([GOOD])})
    content = bytearray(path.read_bytes())
    content[8] = content[content.find(b"PK\1\2") + 10] = 9
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("d.jsonl.gz", cut_gzip, "cannot be read to its end"),
        ("d.jsonl.gz", lambda path: path.write_text(json.dumps(GOOD)), "cannot be read to its end"),
        ("d.json.zip", lambda path: path.write_text(""), "cannot be read to its end"),
        ("d.json.zip", lambda path: zip_of(path, {"a.json": "[]", "b.json": "[]"}), "holds 2 files"),
        ("d.json.zip", lambda path: zip_of(path, {"/a.json": "[]"}), "leads out of the archive"),
        ("d.json.zip", lambda path: zip_of(path, {"../a.json": "[]"}), "leads out of the archive"),
        ("d.json.zip", zip_of_another_kind, "compressed in a way that is not read"),
        ("d.json", lambda path: path.write_text(json.dumps(GOOD)), "holds a single structure"),
        ("d.json", lambda path: path.write_text("3"), "not a JSON list"),
        ("d.json", lambda path: path.write_text(f"[{json.dumps(GOOD)}, {'[' * 200_000}]"), "broken JSON at row 2"),
        ("d.json", lambda path: path.write_text(json.dumps([GOOD, GOOD])[:-9]), "broken JSON at row 2"),
        ("d.json", lambda path: path.write_text(f"[{json.dumps(GOOD)} 3]"), "broken JSON at row 1"),
        ("d.json", lambda path: path.write_text("[]"), "holds no readable row"),
        ("d.jsonl", lambda path: path.write_bytes(bytes(range(256))), "holds no readable row"),
        ("d.jsonl", lambda path: path.write_text(""), "holds no readable row"),
        ("d.vasp", lambda path: path.write_text(SILICON), "a single structure file is predicted with --files"),
        (
            "d.xyz",
            lambda path: path.write_text("1\nLattice=\nFe 0 0 0\nFe 1 1 1\n"),
            "line 4 of .*; expected the number",
        ),
        ("d.xyz", lambda path: path.write_text("99999999\n\n"), "line 1 of .*'99999999'; expected the number of atoms"),
        ("d.txt", lambda path: path.write_text("a,1\n"), "is not a folder and not a file of rows"),
    ],
)
def test_broken_file_is_refused_as_a_whole(name: str, make, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=reason):
        list(open_source(path).rows())


def test_archive_that_expands_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crysmm.io.json_stream.LARGEST_EXPANSION", 2)
    zip_of(tmp_path / "d.json.zip", {"a.json": " " * (3 << 20)})
    with pytest.raises(InputError, match=r"would expand from .* to 3145728 bytes"):
        open_source(tmp_path / "d.json.zip")


@pytest.mark.parametrize("text", [" " * (3 << 20), "\n" * (3 << 20), "[" + " " * (3 << 20)])
@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.json.gz"])
def test_gzip_file_that_expands_without_end_is_not_read(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crysmm.io.json_stream.LARGEST_EXPANSION", 2)
    (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    with pytest.raises(InputError, match=f"{name} expands to more than 2 times its size"):
        open_source(tmp_path / name)


def test_symbolic_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text(json.dumps([GOOD]))
    link = zipfile.ZipInfo("a.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "d.json.zip", "w") as archive:
        archive.writestr(link, str(tmp_path / "secret.json"))
    with pytest.raises(InputError, match="a link and no file"):
        open_source(tmp_path / "d.json.zip")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no id_prop\.json\.zip, id_prop.json, id_prop.csv"):
        open_source(tmp_path)
    with pytest.raises(InputError, match="has no structure files"):
        open_source(tmp_path, needs_targets=False)


def test_cell_too_large_for_the_memory(tmp_path: Path, crystals: dict[str, Crystal]) -> None:
    """A long chain of copper cells beside one: its triplets times ALIGNN's arrays exceed a memory of 1 GB."""
    from crysmm.config import ALIGNNConfig, CGCNNConfig
    from crysmm.data.estimate import oversized_rows

    copies = 400
    copper = crystals["Cu"]
    chain = {
        "lattice_mat": [[copies * x for x in copper.lattice[0]], *copper.lattice[1:].tolist()],
        "elements": ["Cu"] * copies,
        "frac_coords": [[number / copies, 0, 0] for number in range(copies)],
    }
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(GOOD)}\n{json.dumps({'id': 'chain', 'gap': 2, **chain})}\n")
    store = store_of(tmp_path / "d.jsonl", tmp_path / "cache")
    assert store.n_triplets.tolist() == [18**2, 400 * 12**2]
    (row,) = oversized_rows(store, ALIGNNConfig(), 1 << 30)
    assert store.ids[row] == "chain"
    assert "400 atoms, 4800 bonds and 57600 triplets to compute" in oversized_rows(store, ALIGNNConfig(), 1 << 30)[row]
    assert not oversized_rows(store, CGCNNConfig(), 1 << 30)
    assert not oversized_rows(store, ALIGNNConfig(), 1 << 30, merge=True)  # all of its atoms are alike


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xyz", "1\n" + "a" * 50_000 + "\nH 0 0 0\n"),
        ("a.xyz", "1\n" + "a={" * 20_000 + "\nH 0 0 0\n"),
        ("a.cif", "\n" * 50_000 + "data_a\n"),
        ("a.txt", "\n" * 50_000 + "data_a\n"),
        ("a.cif", CIF.replace("data_", "data_a\n_chemical_formula_sum 'C" + "1" * 50_000 + "!'\n_other ", 1)),
        ("a.vasp", SILICON.replace("Si", "Si" + "1" * 50_000 + "x")),
    ],
)
def test_long_rows_of_one_character_take_no_time(name: str, text: str, tmp_path: Path) -> None:
    """Patterns that try them in all ways take minutes."""
    (tmp_path / name).write_text(text)
    started = time.process_time()
    with pytest.raises(StructureError):
        read_structure(tmp_path / name)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.xyz", "rows.csv"])
def test_tables_in_utf_16_say_so(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes("2\nid,atoms\n".encode("utf-16"))
    with pytest.raises(InputError, match="is text in UTF-16; save it as UTF-8"):
        list(open_source(tmp_path / name, needs_targets=False).rows())


@pytest.mark.parametrize("name", ["crystals.db.gz", "crystals.parquet.gz", "crystals.csv.zip"])
def test_tables_that_are_not_read_from_archives_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"SQLite format 3"))
    with pytest.raises(InputError, match=f"{name} is not a folder and not a file of rows"):
        open_source(tmp_path / name, needs_targets=False)
