import gzip
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.io import write
from pymatgen.core import Structure

from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, InputWarning, StructureError
from crysmm.io import structure_file
from crysmm.io.cells import read_csv
from crysmm.io.inputs import StructuresSource, open_source, source_from_files
from crysmm.io.source import ReadingOptions, Record, SkippedRow, Source, UnlabeledRow
from crysmm.io.table import RecordsTable


def poscar_of(crystal: Crystal) -> str:
    """VASP 5 text with an element line for every atom."""
    rows = ["crystal", "1.0", *(" ".join(map(repr, row)) for row in crystal.lattice.tolist())]
    rows += [" ".join(crystal.elements), " ".join("1" * len(crystal)), "Direct"]
    return "\n".join(rows + [" ".join(map(repr, row)) for row in crystal.frac_coords.tolist()]) + "\n"


def jarvis_of(crystal: Crystal) -> dict[str, Any]:
    return crystal.to_jarvis().to_dict()


def flat_of(crystal: Crystal) -> dict[str, Any]:
    return {
        "lattice_mat": crystal.lattice.tolist(),
        "elements": crystal.elements,
        "frac_coords": crystal.frac_coords.tolist(),
    }


def as_pymatgen(crystal: Crystal) -> Structure:
    return Structure(crystal.lattice, crystal.elements, crystal.frac_coords)


def read_all(source: Source) -> tuple[list[Record], list[SkippedRow]]:
    """Records and skipped rows, each row sent through pickle as to a worker process."""
    records, skipped = [], []
    for row in source.rows():
        if isinstance(row, SkippedRow):
            skipped.append(row)
            continue
        try:
            records.append(pickle.loads(pickle.dumps(row)).read())  # noqa: S301
        except StructureError as error:
            skipped.append(SkippedRow(row.id, row.file, str(error)))
    return records, skipped


@pytest.fixture
def folder(tmp_path: Path, crystals) -> Path:
    """Files a.vasp (NaCl), b.vasp (Si), POSCAR-c.vasp (Cu); no table yet."""
    for name, formula in {"a.vasp": "NaCl", "b.vasp": "Si", "POSCAR-c.vasp": "Cu"}.items():
        (tmp_path / name).write_text(poscar_of(crystals[formula]))
    return tmp_path


def with_table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "id_prop.csv").write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a.vasp,1.5\nb.vasp,2\nPOSCAR-c.vasp,-3e-1\n", ["a.vasp", "b.vasp", "POSCAR-c.vasp"]),  # ALIGNN's layout
        ("a,1.5\nb,2\nc,-0.3", ["a", "b", "c"]),
        ("\n\na , 1.5\r\n\r\n b,2\r\nc,-0.3\r\n\r\n", ["a", "b", "c"]),
        ("id,target\na,1.5\nb,2\nc,-0.3\n", ["a", "b", "c"]),
        ("\ufefffile,band gap\na.vasp,1.5\nb,2\nc,-0.3\n", ["a.vasp", "b", "c"]),
        ("\ufeffa,1.5\nb,2\nc,-0.3\n", ["a", "b", "c"]),
        ('target,id\n"1.5",a\n2,b\n-0.3,c\n', ["a", "b", "c"]),
    ],
    ids=["alignn", "bare", "blanks", "header", "bom_header", "bom", "id_last"],
)
def test_tables_of_every_kind(text: str, ids: list[str], folder: Path) -> None:
    source = open_source(with_table(folder, text))
    records, skipped = read_all(source)
    assert not skipped
    assert [record.id for record in records] == ids
    assert [record.targets for record in records] == [(1.5,), (2.0,), (-0.3,)]
    assert [record.crystal.formula for record in records] == ["ClNa", "Si", "Cu"]
    assert [record.file for record in records] == ["a.vasp", "b.vasp", "POSCAR-c.vasp"]
    assert source.n_rows == 3
    assert source.target_names == ("band gap" if "band gap" in text else "target",)


def test_cgcnn_layout(tmp_path: Path, crystals) -> None:
    """``ID.cif`` with ids alone in the table, and the file of atom vectors beside it."""
    from ase import Atoms

    for identifier, name in (("1000041", "NaCl"), ("1000050", "SiO2")):
        crystal = crystals[name]
        atoms = Atoms(crystal.elements, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
        atoms.write(tmp_path / f"{identifier}.cif")
    (tmp_path / "atom_init.json").write_text('{"1": [0, 1]}')
    source = open_source(with_table(tmp_path, "1000041,5.2\n1000050,1\n"))
    records, skipped = read_all(source)
    assert not skipped
    assert [(record.id, record.file) for record in records] == [("1000041", "1000041.cif"), ("1000050", "1000050.cif")]
    assert [record.crystal.formula for record in records] == ["ClNa", "O2Si"]
    assert source.unnamed_files() == []


def test_mixed_formats_and_subfolders(tmp_path: Path, crystals) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "si.vasp").write_text(poscar_of(crystals["Si"]))
    lattice = " ".join(map(str, crystals["Cu"].lattice.ravel()))
    (tmp_path / "cu.xyz").write_text(f'1\nLattice="{lattice}" Properties=species:S:1:pos:R:3\nCu 0 0 0\n')
    records, skipped = read_all(open_source(with_table(tmp_path, "more/si,1\ncu,2\n")))
    assert not skipped
    assert [(record.file, record.crystal.formula) for record in records] == [("more/si.vasp", "Si"), ("cu.xyz", "Cu")]


def test_several_columns(folder: Path) -> None:
    with_table(folder, "id,gap,formula,modulus\na,1,NaCl,10\nb,2,Si,20\n")
    source = open_source(folder, target_key="modulus, gap")
    assert source.target_names == ("modulus", "gap")
    assert [record.targets for record in read_all(source)[0]] == [(10.0, 1.0), (20.0, 2.0)]
    with_table(folder, "a,1.0,10\nb,2\nc,3,30\n")
    source = open_source(folder)
    records, skipped = read_all(source)
    assert source.target_names == ("target_0", "target_1")
    assert [record.targets for record in records] == [(1.0, 10.0), (3.0, 30.0)]
    assert [(row.id, row.file, row.reason) for row in skipped] == [
        ("b", "id_prop.csv:2", "the row has 2 columns; expected 3")
    ]
    assert open_source(folder, target_key="gap,modulus").target_names == ("gap", "modulus")


def test_an_id_behind_other_cells_is_that_of_its_row(folder: Path) -> None:
    """A cell too many moves it: the row would be that of another crystal."""
    with_table(folder, "gap,id\n1.5,a\n2,b,a\n2.5,POSCAR-c\n")
    for needs_targets in (True, False):
        records, skipped = read_all(open_source(folder, needs_targets=needs_targets))
        assert [record.id for record in records] == ["a", "POSCAR-c"]
        assert [row.reason for row in skipped] == ["the row has 3 columns; expected 2"]


def test_alignns_placeholder_names_no_column(folder: Path) -> None:
    with_table(folder, "id,gap\na,1\n")
    assert open_source(folder, target_key="target", id_key="jid").target_names == ("gap",)


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("", {}, "is empty"),
        ("\n \n", {}, "is empty"),
        ("a\nb\n", {}, "has one column"),
        ("id,gap\na,1\n", {"target_key": "modulus"}, "no column of numbers 'modulus' .*it has gap"),
        ("id,gap\na,1\n", {"id_key": "name"}, "no column 'name' .*it has id, gap"),
        ("a,1\nb,2\n", {"id_key": "name"}, "no header"),
        ("a,1,2\nb,2,3\n", {"target_key": "gap"}, "2 target columns; target_key names 1"),
        ("a,1\nb,\u00e9\n", {}, "cannot be read"),
        ("id,formula\na,NaCl\n", {}, "texts in formula and numbers in no column"),
        ("id,gap,gap\na,1,2\n", {}, r"id_prop.csv has 2 columns 'gap', number 2 and 3; keep one"),
        ("id,K,gap,id\na,1,2,b\n", {"target_key": "gap"}, "has 2 columns 'id', number 1 and 4"),
        ('id,gap,name\na,1,x\nb,2,"y\nc,3,z\n', {}, "unexpected end of data in the row that begins in line 3"),
        ("a,1,500\nb,2,050\n", {}, "050 may be a target, or the end of a number with a comma"),
        ("a,1,15\nb,-2,25\nc,3\n", {}, "15 may be a target, or the end of a number with a comma"),
        ('id,target\na,"1,5"\nb,"2,25"\n', {}, "numbers in no column; expected id,target; write 1.5 for 1,5"),
        ("id,metal\na,True\nb,False\n", {}, "numbers in no column; expected id,target; write 1 for true and 0 for"),
        ("id,\na,1\n", {}, "numbers in no column"),
        ("name,gap,name\na,1,b\n", {"id_key": "name"}, "has 2 columns 'name', number 1 and 3"),
    ],
)
def test_tables_that_cannot_be_used(text: str, options: dict, reason: str, folder: Path) -> None:
    with_table(folder, text, encoding="latin-1")
    with pytest.raises(InputError, match=reason):
        open_source(folder, **options)


@pytest.mark.parametrize("names", [{"index": True}, {"index": True, "index_label": "Unnamed: 0"}])
def test_the_index_of_a_table_is_no_target(names: dict[str, Any], folder: Path) -> None:
    """pandas writes it unless told not to, and reads it as Unnamed: 0; spreadsheets leave an empty column behind."""
    pd.DataFrame({"id": ["a", "b"], "gap": [1.5, 2.5], "": [np.nan] * 2}).to_csv(folder / "id_prop.csv", **names)
    source = open_source(folder)
    assert source.target_names == ("gap",)
    assert [(record.id, record.targets) for record in read_all(source)[0]] == [("a", (1.5,)), ("b", (2.5,))]


def test_an_index_that_was_reset_is_no_target(folder: Path) -> None:
    """Leave out an ``index`` that counts from 0; a property of that name has other numbers, or is requested."""
    frame = pd.DataFrame({"id": ["a", "b", "POSCAR-c"], "gap": [1.5, 2.5, 3.5]})
    frame.reset_index().to_csv(folder / "id_prop.csv", index=False)
    assert open_source(folder).target_names == ("gap",)
    assert open_source(folder, limit=2).target_names == ("gap",)
    assert open_source(folder, target_key="index").target_names == ("index",)
    frame.assign(index=[0, 2, 1]).to_csv(folder / "id_prop.csv", index=False)
    assert open_source(folder).target_names == ("gap", "index")


def test_columns_of_one_name_that_are_not_read(folder: Path) -> None:
    source = open_source(with_table(folder, "id,K,gap,K,name,name\na,1,1.5,2,x,y\n"), target_key="gap")
    assert [record.targets for record in read_all(source)[0]] == [(1.5,)]


def test_search_order_is_alignns(folder: Path, crystals) -> None:
    with_table(folder, "a,1\n")
    rows = [{"jid": "JVASP-1", "atoms": jarvis_of(crystals["Si"]), "target": 2.0}]
    (folder / "id_prop.json").write_text(json.dumps(rows))
    assert read_all(open_source(folder))[0][0].targets == (2.0,)
    rows[0]["target"] = 3.0
    with zipfile.ZipFile(folder / "id_prop.json.zip", "w") as archive:
        archive.writestr("id_prop.json", json.dumps(rows))
    record = read_all(open_source(folder))[0][0]
    assert (record.targets, record.id, record.file) == ((3.0,), "JVASP-1", "id_prop.json.zip:row 1")


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = "\n".join(json.dumps(row) for row in rows) + "\n"
    if path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.json", json.dumps(rows, indent=1))
    else:
        path.write_text(json.dumps(rows) if path.suffix == ".json" else lines)
    return path


@pytest.mark.parametrize("name", ["d.json", "d.json.zip", "d.jsonl", "d.jsonl.gz"])
@pytest.mark.parametrize("form", [jarvis_of, flat_of])
def test_tables_of_rows(name: str, form: Any, tmp_path: Path, crystals) -> None:
    rows = [{"id": number, "gap": number / 2, **({"atoms": form(c)} if form is jarvis_of else form(c))}
            for number, c in enumerate(crystals.values())]  # fmt: skip
    source = open_source(write_table(tmp_path / name, rows))
    records, skipped = read_all(source)
    assert not skipped
    assert source.target_names == ("gap",)
    assert [record.id for record in records] == [str(number) for number in range(len(crystals))]
    for number, (record, crystal) in enumerate(zip(records, crystals.values(), strict=True)):
        assert record.targets == (number / 2,)
        np.testing.assert_allclose(record.crystal.frac_coords, crystal.frac_coords, atol=1e-9)
        np.testing.assert_allclose(record.crystal.lattice, crystal.lattice, atol=1e-9)
        assert record.crystal.elements == crystal.elements
    assert records[2].file == (f"{name}:3" if "jsonl" in name else f"{name}:row 3")


def test_lines_are_counted_for_the_time_left(tmp_path: Path, crystals) -> None:
    path = write_table(tmp_path / "d.jsonl.gz", [{"id": n, "gap": n, **flat_of(crystals["Si"])} for n in range(7)])
    assert open_source(path).n_rows == 7
    assert open_source(path, limit=3).n_rows == 3
    assert open_source(path, limit=9).n_rows == 7


def test_a_list_longer_than_the_buffer_is_read_whole(tmp_path: Path, crystals) -> None:
    rows = [{"id": f"x{n}", "gap": n, "note": "]" * 5000, **flat_of(crystals["Si"])} for n in range(700)]
    text = json.dumps(rows)
    assert len(text) > 3 << 20
    (tmp_path / "d.json").write_text(text)
    assert [record.targets[0] for record in read_all(open_source(tmp_path / "d.json"))[0]] == list(range(700))


def test_choosing_the_target(crystals) -> None:
    atoms = jarvis_of(crystals["Si"])
    rows = [{"jid": "a", "atoms": atoms, "formula": "Si", "gap": "na", "k": 1, "list": [1, [2, "3"]]}]
    rows += [{**rows[0], "jid": "b", "gap": "0.5"}]
    with pytest.raises(InputError, match="choose with target_key: k, list, gap"):
        RecordsTable(rows, ReadingOptions())
    with pytest.raises(InputError, match=r"has a number for Gap .*there are k, list, gap"):
        RecordsTable(rows, ReadingOptions(target_key="Gap"))
    source = RecordsTable(rows, ReadingOptions(target_key="gap,list"))
    assert source.target_names == ("gap", "list_0", "list_1", "list_2")
    records, skipped = read_all(source)
    np.testing.assert_equal([record.targets for record in records], [(np.nan, 1, 2, 3), (0.5, 1, 2, 3)])
    assert not skipped
    assert RecordsTable([{**row, "target": 4} for row in rows], ReadingOptions()).target_names == ("target",)
    assert RecordsTable(rows, ReadingOptions(target_key="target", needs_targets=False)).target_names == ()
    with pytest.raises(InputError, match="no numeric property"):
        RecordsTable([{"jid": "a", "atoms": atoms, "formula": "Si"}], ReadingOptions())


def test_rows_that_lack_some_targets_are_read_and_rows_that_lack_all_are_not(crystals) -> None:
    """A list that is missing as a whole lacks each of its values; names come from rows that have them."""
    row = flat_of(crystals["Si"])
    rows = [
        {**row, "id": 0, "dos": None},
        {**row, "id": 1, "gap": 0.5, "dos": []},
        {**row, "id": 2, "dos": [1, "na", 3]},
    ]
    source = RecordsTable(rows, ReadingOptions(target_key="gap,dos,gap"))
    assert source.target_names == ("gap", "dos_0", "dos_1", "dos_2")
    records, skipped = read_all(source)
    expected = [(0.5, np.nan, np.nan, np.nan), (np.nan, 1, np.nan, 3)]
    np.testing.assert_equal([record.targets for record in records], expected)
    assert [(row.id, row.reason) for row in skipped] == [("0", "no target: gap, dos_0, dos_1, dos_2 are all missing")]
    with pytest.raises(InputError, match="no row of the list of records has a number for K "):
        RecordsTable(rows, ReadingOptions(target_key="gap,K"))


def test_columns_with_gaps(folder: Path) -> None:
    source = open_source(with_table(folder, "id,gap,K\na,1.5,\nb,,na\nc,NaN,3\n"))
    records, unlabeled = read_all(source)
    np.testing.assert_equal([record.targets for record in records], [(1.5, np.nan), (np.nan, 3)])
    assert [(type(row), row.id) for row in unlabeled] == [(UnlabeledRow, "b")]


def test_ids_of_rows(crystals) -> None:
    row = {**flat_of(crystals["Si"]), "gap": 1.0}
    both = [{**row, "jid": "j", "id": "i", "name": "n"}]
    assert read_all(RecordsTable(both, ReadingOptions()))[0][0].id == "j"
    assert read_all(RecordsTable(both, ReadingOptions(id_key="id")))[0][0].id == "i"
    assert read_all(RecordsTable(both, ReadingOptions(id_key="name")))[0][0].id == "n"
    assert read_all(RecordsTable([{**row, "id": 7}], ReadingOptions(id_key="jid")))[0][0].id == "7"
    with pytest.raises(InputError, match="no jid, id, material_id; name the id with id_key"):
        RecordsTable([row], ReadingOptions())
    with pytest.raises(InputError, match="no mpid"):
        RecordsTable(both, ReadingOptions(id_key="mpid"))


def test_a_data_frame_is_a_list_of_rows(crystals) -> None:
    """Matbench's layout: ids in the index, pymatgen structures in the column structure; a spectrum as an array."""
    structures = [as_pymatgen(crystals[name]) for name in ("Si", "CuO")]
    frame = pd.DataFrame({"structure": structures, "gap": [1.1, np.nan]}, index=["mb-1", "mb-2"])
    records, skipped = read_all(RecordsTable(frame, ReadingOptions()))
    assert [(record.id, record.targets) for record in records] == [("mb-1", (1.1,))]
    assert [row.reason for row in skipped] == ["no target: gap is nan"]
    np.testing.assert_allclose(records[0].crystal.lattice, crystals["Si"].lattice)
    frame = frame.rename_axis("material").assign(gap=2.0, id=["a", "b"], spectrum=[np.arange(3.0)] * 2)
    assert [record.id for record in read_all(RecordsTable(frame, ReadingOptions(target_key="gap")))[0]] == ["a", "b"]
    spectra = RecordsTable(frame, ReadingOptions(target_key="spectrum"))
    assert spectra.target_names == ("spectrum_0", "spectrum_1", "spectrum_2")
    assert read_all(spectra)[0][0].targets == (0, 1, 2)
    named = RecordsTable(frame.drop(columns="id"), ReadingOptions(id_key="material", target_key="gap"))
    assert [record.id for record in read_all(named)[0]] == ["mb-1", "mb-2"]
    pairs = frame.drop(columns="id").set_index(pd.MultiIndex.from_tuples([(1, 1), (1, 2)]))
    for unnamed, id_key in ((frame, "materail"), (pairs, None)):  # neither a wrong name nor two levels is an id
        with pytest.raises(InputError, match="name the id with id_key"):
            RecordsTable(unnamed, ReadingOptions(id_key=id_key, target_key="gap"))
    frame["id"] = [np.nan, 2.0]
    _, skipped = read_all(RecordsTable(frame, ReadingOptions(target_key="gap")))
    assert [row.reason for row in skipped] == ["the row has no id"]


def test_records_are_a_list_or_a_frame(crystals) -> None:
    row = {**flat_of(crystals["Si"]), "id": "a", "gap": 1.0}
    assert [record.id for record in read_all(RecordsTable((row,), ReadingOptions()))[0]] == ["a"]
    for records in ({"a": row}, (part for part in [row]), pd.Series([row]), "rows.jsonl"):
        with pytest.raises(InputError, match="; expected a list of dicts, or a pandas DataFrame"):
            RecordsTable(records, ReadingOptions())


def test_factor_limit_and_log(folder: Path) -> None:
    with_table(folder, "a,-1\nb,2\nc,3\n")
    source = open_source(folder, target_multiplication_factor=10, target_transform="log10", limit=2)
    records, skipped = read_all(source)
    assert (source.n_rows, [record.targets for record in records]) == (2, [(20.0,)])
    assert [row.reason for row in skipped] == ["the target target is -10; target_transform log10 needs a positive one"]
    for wrong in ({"limit": 0}, {"target_transform": "ln"}, {"file_format": "mol"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            open_source(folder, **wrong)


def test_fingerprint_follows_contents_and_options(folder: Path, crystals) -> None:
    with_table(folder, "a,1\nb,2\n")
    first = open_source(folder).fingerprint()
    assert open_source(folder).fingerprint() == first
    assert open_source(folder, limit=1).fingerprint() != first
    assert open_source(folder, target_multiplication_factor=2).fingerprint() != first
    (folder / "POSCAR-c.vasp").write_text("not named by the table")
    assert open_source(folder).fingerprint() == first
    (folder / "b.vasp").write_text(poscar_of(crystals["Cu"]))
    second = open_source(folder).fingerprint()
    assert second != first
    with_table(folder, "a,1\nb,3\n")
    assert open_source(folder).fingerprint() not in (first, second)
    rows = [{"id": 1, "gap": 1.0, **flat_of(crystals["Si"])}]
    other = [{**rows[0], "gap": 2.0}]
    first, same, changed = (
        RecordsTable(records, ReadingOptions()).fingerprint() for records in (rows, json.loads(json.dumps(rows)), other)
    )
    assert first == same != changed


@pytest.mark.parametrize(
    "table",
    [
        "id;gap\na;1,5\nb;-0,25\nc;2e-1\n",
        "a;1,5\r\nb;-2,5e-1\r\nc;0,2\r\n",
        "id\tgap\na\t1.5\nb\t-0.25\nc\t0.2\n",
        'id\tgap\na\t1,5\nb\t"-0,25"\nc\t0,200\n',
        "id; gap\na; 1.5\nb; -0.25\nc; 0.2\n",
        "sep=;\r\nid;gap\r\na;1,5\r\nb;-0,25\r\nc;0,2\r\n",
        "sep=,\nid,gap\na,1.5\nb,-0.25\nc,0.2\n",
    ],
)
def test_tables_of_other_languages(folder: Path, table: str) -> None:
    records, skipped = read_all(open_source(with_table(folder, table)))
    assert skipped == []
    assert [(record.id, record.targets) for record in records] == [("a", (1.5,)), ("b", (-0.25,)), ("c", (0.2,))]


def test_commas_that_may_stand_between_thousands_are_refused(folder: Path) -> None:
    with_table(folder, "id;gap\na;1,500\nb;2\n")
    with pytest.raises(InputError, match=r"1,500 may be 1\.500 or 1500; write numbers"):
        open_source(folder)
    for table in ("id;gap\na;1.500\nb;2,5\n", "id\tK\tgap\na\t1.500\t2,5\nb\t10.500\t1,5\n"):
        with pytest.raises(InputError, match=r": 1\.500 beside 2,5 may be 1\.500 or 1500; write numbers"):
            open_source(with_table(folder, table))
    for table in ("id;gap\na;1.500\nb;0.5\n", "id;gap\na;1.500\nb;0.25\nc;2,5\n"):  # 0.25 shows what a point is
        assert read_all(open_source(with_table(folder, table)))[0][0].targets == (1.5,)
    records, skipped = read_all(open_source(with_table(folder, "id;gap\na;1.500,5\nb;2,5\n")))
    assert [record.targets for record in records] == [(2.5,)]
    assert [row.reason[:28] for row in skipped] == ["the target gap is '1.500,5';"]


def test_semicolons_in_a_text_separate_nothing(folder: Path) -> None:
    with_table(folder, "a,NaCl,1.5,salt; cubic\nb,Si,2,diamond; cubic\n")
    assert read_csv(folder / "id_prop.csv")[0][1] == ["a", "NaCl", "1.5", "salt; cubic"]


def test_the_only_table_needs_no_name(folder: Path) -> None:
    (folder / "gaps.tsv").write_text("id\tgap\na\t1\nnowhere\t2\n")
    records, skipped = read_all(open_source(folder))
    assert [(record.id, record.targets) for record in records] == [("a", (1,))]
    assert [row.file for row in skipped] == ["gaps.tsv:3"]
    (folder / "other.csv").write_text("id,gap\na,1\n")
    with pytest.raises(InputError, match=r"several tables \(gaps.tsv, other.csv\); call the one to read id_prop.csv"):
        open_source(folder)
    assert open_source(with_table(folder, "a,7\n")).n_rows == 1


def test_a_broken_archive_of_a_table(folder: Path) -> None:
    packed = gzip.compress(b"id,gap\na,1\n" * 100)
    (folder / "id_prop.csv.gz").write_bytes(packed[:-10])
    with pytest.raises(InputError, match=r"id_prop\.csv\.gz cannot be read to its end"):
        open_source(folder)
    (folder / "id_prop.csv.gz").write_bytes(gzip.compress("Übergang".encode("latin-1")))
    with pytest.raises(InputError, match="expected comma-separated text in UTF-8"):
        open_source(folder)


def test_an_id_with_files_of_several_endings(tmp_path: Path, crystals) -> None:
    """They may be different crystals; a name with its ending is that of one, and no structure is in properties."""
    files = {
        "a.vasp": "NaCl", "a.poscar": "Si", "b.vasp": "Cu", "POSCAR-b": "Fe", "c.vasp": "Mg", "d.VASP": "Si",
        "more/e.vasp": "Si", "more/e.poscar": "Fe",
    }  # fmt: skip
    (tmp_path / "more").mkdir()
    for name, formula in files.items():
        (tmp_path / name).write_text(poscar_of(crystals[formula]))
    (tmp_path / "c.json").write_text('{"gap": 1}')
    with gzip.open(tmp_path / "f.vasp.gz", "wt") as packed, (tmp_path / "f.vasp").open("w") as plain:
        for file in (packed, plain):
            file.write(poscar_of(crystals["Cu"]))
    ids = ["a", "b", "c", "d", "e", "more/e", "f", "a.poscar", "POSCAR-b", "more/e.vasp", "f.vasp"]
    records, skipped = read_all(open_source(with_table(tmp_path, "".join(f"{name},1\n" for name in ids))))
    assert {record.id: (record.file, record.crystal.formula) for record in records} == {
        "c": ("c.vasp", "Mg"),
        "d": ("d.VASP", "Si"),
        "a.poscar": ("a.poscar", "Si"),
        "POSCAR-b": ("POSCAR-b", "Fe"),
        "more/e.vasp": ("more/e.vasp", "Si"),
        "f.vasp": ("f.vasp", "Cu"),
    }
    both = {
        "a": "a.vasp, a.poscar", "b": "b.vasp, POSCAR-b", "e": "more/e.vasp, more/e.poscar",
        "more/e": "more/e.vasp, more/e.poscar", "f": "f.vasp, f.vasp.gz",
    }  # fmt: skip
    assert {row.id: row.reason for row in skipped} == {
        identifier: f"several structure files: {names}; name one of them as the id"
        for identifier, names in both.items()
    }


@pytest.mark.parametrize("name", ["m.mcif", "m.Cif", "m.CIF", "m.ent", "m.ENT", "m.Vasp", "m.ent.gz"])
def test_endings_of_an_id(name: str, crystals, tmp_path: Path) -> None:
    ase_format = {"m": "cif", "c": "cif", "e": "proteindatabank", "v": "vasp"}[name[2].lower()]
    salt = crystals["NaCl"]
    Atoms(salt.elements, cell=salt.lattice, scaled_positions=salt.frac_coords, pbc=True).write(
        tmp_path / name, format=ase_format
    )
    ((record,), skipped) = read_all(open_source(with_table(tmp_path, "m,1\n")))
    assert (record.file, record.crystal.elements, skipped) == (name, salt.elements, [])
    (tmp_path / "id_prop.csv").unlink()
    assert [record.id for record in read_all(open_source(tmp_path, needs_targets=False))[0]] == [name]


def test_structures_in_subfolders_of_a_folder_with_others_are_named(folder: Path, crystals) -> None:
    (folder / "relaxed" / "old").mkdir(parents=True)
    for name in ("relaxed/d.vasp", "relaxed/old/e.vasp"):
        (folder / name).write_text(poscar_of(crystals["Si"]))
    with pytest.warns(
        InputWarning, match="2 structure files in subfolders .* relaxed/d.vasp, relaxed/old/e.vasp; give"
    ):
        assert len(read_all(open_source(folder, needs_targets=False))[0]) == 3
    for path in folder.glob("*"):
        if path.is_file():
            path.unlink()
    with pytest.warns(InputWarning, match=r"has 1 structure file in subfolders .*: relaxed/old/e.vasp; give"):
        assert len(read_all(open_source(folder, needs_targets=False))[0]) == 1


def test_a_link_to_nothing_is_told(folder: Path) -> None:
    """Report it, and take it for neither a rival of a file that is there nor a table."""
    (folder / "d.vasp").symlink_to("nowhere.vasp")
    (folder / "e.vasp").symlink_to("e.vasp")
    records, skipped = read_all(open_source(folder, needs_targets=False))
    assert (len(records), [row.file for row in skipped]) == (3, ["d.vasp", "e.vasp"])
    (folder / "a.cif").symlink_to("nowhere.cif")
    (folder / "id_prop.tsv").symlink_to("nowhere.tsv")
    with_table(folder, "a,1.5\nb,2.5\n")
    assert [record.id for record in read_all(open_source(folder))[0]] == ["a", "b"]


@pytest.mark.parametrize("name", ["ID", "filename", "material_id"])
def test_a_column_named_as_one_of_ids_is_that(folder: Path, name: str) -> None:
    with_table(folder, f"gap,{name}\n1.5,a\n2.5,b\n")
    assert [(record.id, record.targets) for record in read_all(open_source(folder))[0]] == [
        ("a", (1.5,)),
        ("b", (2.5,)),
    ]


@pytest.mark.parametrize("table", ["name,ID,gap\na,1,1.5\nb,2,2.5\n", "structure,ID,gap\na,1,1.5\nb,2,2.5\n"])
def test_a_first_column_named_as_one_of_files_stays_that_of_ids(folder: Path, table: str) -> None:
    with_table(folder, table)
    records, _ = read_all(open_source(folder, target_key="gap"))
    assert [(record.id, record.targets) for record in records] == [("a", (1.5,)), ("b", (2.5,))]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_whole_numbers_are_several_targets_where_no_comma_can_be_decimal(folder: Path, separator: str) -> None:
    with_table(folder, "a,1,10\nb,2,20\n".replace(",", separator))
    assert [record.targets for record in read_all(open_source(folder))[0]] == [(1.0, 10.0), (2.0, 20.0)]


def test_files_that_a_folder_leaves_out_are_named(folder: Path, crystals, recwarn) -> None:
    """Name those of other formats and under other names, and none that holds no structure."""
    for name in ("SPOSCAR", "XDATCAR", "CHGCAR", "n.res", "c.cif.txt", "d.vasp~", "README.md", "notes.txt", "fit.png"):
        (folder / name).write_text(poscar_of(crystals["Si"]))
    with pytest.warns(InputWarning, match="has 5 files .* not read: CHGCAR, SPOSCAR, XDATCAR, c.cif.txt, n.res; give"):
        assert len(read_all(open_source(folder, needs_targets=False))[0]) == 3
    with pytest.warns(InputWarning, match=r"has 2 files .* not read: c\.cif\.txt, n\.res; give"):
        open_source(folder, needs_targets=False, file_format="poscar")
    for name in ("SPOSCAR", "XDATCAR", "CHGCAR", "n.res", "c.cif.txt"):
        (folder / name).unlink()
    recwarn.clear()
    open_source(folder, needs_targets=False)
    assert not recwarn.list


def test_files_are_recognized_by_content_where_the_name_does_not_show_it(folder: Path, crystals, recwarn) -> None:
    text, flat = poscar_of(crystals["Si"]), {"lattice_mat": crystals["Si"].lattice.tolist(), "elements": ["Si"]}
    files = {
        "mp-149": text.encode(), "NaCl_POSCAR": text.encode(), "geometry.in": b"lattice_vector 1 0 0",
        "utf16.json": json.dumps(flat).encode("utf-16"), "list.json": json.dumps([flat]).encode(),
        "ase.json": b'{"1": {"cell": 1, "positions": 2, "numbers": 3}}', "vasprun.xml.relax2": b"<modeling/>",
    }  # fmt: skip
    others = {
        "KPOINTS": b"k\n0\nGamma\n4 4 4\n0 0 0\n", "Makefile": b"data_dir:\n", "LICENSE": b"free", "gap.json": b"[1]",
        "sites.json": b'{"lattice": {}, "sites": [{"properties": {"numbers": 1}}]}',
    }  # fmt: skip
    for name, content in (files | others).items():
        (folder / name).write_bytes(content)
    with pytest.warns(InputWarning, match=f"has 7 files .* not read: {', '.join(sorted(files)[:5])}, ...; give"):
        open_source(folder, needs_targets=False)
    for name in files:
        (folder / name).unlink()
    recwarn.clear()
    open_source(folder, needs_targets=False)
    assert not recwarn.list


def test_files_of_calculations_and_in_subfolders(tmp_path: Path, crystals) -> None:
    """Each id finds the one structure that is its own; two of them are refused with the names to choose from."""
    files = {
        "mp-1/POSCAR": "NaCl", "mp-2/CONTCAR": "Si", "mp-3/POSCAR": "Cu", "mp-3/CONTCAR": "Fe",
        "cells/mp-4.vasp": "Mg", "cells/mp-5.vasp": "Mg", "others/mp-5.vasp": "Fe",
    }  # fmt: skip
    for name, formula in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(poscar_of(crystals[formula]))
    with_table(tmp_path, "id,gap\n" + "".join(f"mp-{number},{number}\n" for number in range(1, 7)) + "mp-3/POSCAR,7\n")
    records, skipped = read_all(open_source(tmp_path))
    found = {record.id: (record.file, record.crystal.formula) for record in records}
    assert found == {
        "mp-1": ("mp-1/POSCAR", "ClNa"),
        "mp-2": ("mp-2/CONTCAR", "Si"),
        "mp-4": ("cells/mp-4.vasp", "Mg"),
        "mp-3/POSCAR": ("mp-3/POSCAR", "Cu"),
    }
    reasons = {row.id: row.reason for row in skipped}
    assert reasons["mp-3"] == "several structure files: mp-3/POSCAR, mp-3/CONTCAR; name one of them as the id"
    assert reasons["mp-5"] == "several structure files: cells/mp-5.vasp, others/mp-5.vasp; name one of them as the id"
    assert reasons["mp-6"].startswith("no structure file: looked for mp-6")
    (tmp_path / "id_prop.csv").unlink()
    records, _ = read_all(open_source(tmp_path, needs_targets=False))
    ids = ["cells/mp-4.vasp", "cells/mp-5.vasp", "mp-1", "mp-2", "mp-3/CONTCAR", "mp-3/POSCAR", "others/mp-5.vasp"]
    assert [record.id for record in records] == ids


def test_compressed_files_of_every_format(tmp_path: Path, crystals) -> None:
    """Written by ASE, compressed by gzip; the plain file is the truth."""
    structure = Atoms(crystals["CuO"].elements, cell=crystals["CuO"].lattice, pbc=True,
                      scaled_positions=crystals["CuO"].frac_coords)  # fmt: skip
    names = {"a.vasp": "vasp", "b.cif": "cif", "c.extxyz": "extxyz", "d.pdb": "proteindatabank", "POSCAR": "vasp"}
    for name, kind in names.items():
        write(tmp_path / name, structure, format=kind)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    plain, skipped = read_all(source_from_files([tmp_path / name for name in names]))
    assert skipped == []
    for path in tmp_path.glob("*"):
        if path.suffix != ".gz":
            path.unlink()
    packed, skipped = read_all(open_source(tmp_path, needs_targets=False))
    assert skipped == []
    with_table(tmp_path, "a,1\nb.cif,2\nc.extxyz.gz,3\nd,4\nPOSCAR,5\n")
    named, skipped = read_all(open_source(tmp_path))
    assert skipped == []
    for found in (sorted(packed, key=lambda record: list(names).index(record.id.removesuffix(".gz"))), named):
        for one, other in zip(found, plain, strict=True):
            np.testing.assert_array_equal(one.crystal.frac_coords, other.crystal.frac_coords)
            np.testing.assert_array_equal(one.crystal.lattice, other.crystal.lattice)
            assert one.crystal.elements == other.crystal.elements


def test_broken_and_bursting_archives(tmp_path: Path, crystals, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gzip.compress(poscar_of(crystals["NaCl"]).encode())
    for name, content in {"a.vasp.gz": whole[:-12], "b.vasp.gz": b"no archive", "c.vasp.gz": whole}.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(structure_file, "LARGEST_FILE", len(poscar_of(crystals["NaCl"])) - 1)
    reasons = [row.reason for row in read_all(open_source(tmp_path, needs_targets=False))[1]]
    assert all("cannot be unpacked" in reason for reason in reasons[:2])
    assert "expands to more than" in reasons[2]


def test_prediction_needs_no_table(folder: Path) -> None:
    (folder / "README.md").write_text("about")
    (folder / ".hidden.vasp").write_text("")
    source = open_source(folder, needs_targets=False)
    records, skipped = read_all(source)
    assert not skipped
    assert [record.id for record in records] == ["POSCAR-c.vasp", "a.vasp", "b.vasp"]
    assert (source.target_names, records[0].targets, source.n_rows) == ((), (), 3)
    with_table(folder, "id\nb\n")
    assert [record.id for record in read_all(open_source(folder, needs_targets=False))[0]] == ["b"]


def test_files_by_name(folder: Path, tmp_path_factory) -> None:
    paths = [folder / "a.vasp", folder / "b.vasp"]
    assert [record.id for record in read_all(source_from_files(paths))[0]] == ["a.vasp", "b.vasp"]
    other = tmp_path_factory.mktemp("other") / "a.vasp"
    other.write_text((folder / "b.vasp").read_text())
    records, _ = read_all(source_from_files([folder / "a.vasp", other]))
    assert [record.id for record in records] == [str(folder / "a.vasp"), str(other)]
    _, skipped = read_all(source_from_files([other, other]))
    assert [row.reason for row in skipped] == ["the file was given before"]


def test_structures_in_memory(folder: Path, crystals) -> None:
    from ase import Atoms
    from pymatgen.core import Lattice, Structure

    crystal = crystals["NaCl"]
    kinds = [
        crystal,
        crystal.to_jarvis(),
        jarvis_of(crystal),
        Structure(Lattice(crystal.lattice), crystal.elements, crystal.frac_coords),
        Atoms(crystal.elements, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True),
        folder / "a.vasp",
        str(folder / "a.vasp"),
    ]
    records, skipped = read_all(StructuresSource(kinds))
    assert not skipped
    assert [record.id for record in records] == list("0123456")
    for record in records:
        np.testing.assert_allclose(record.crystal.frac_coords, crystal.frac_coords, atol=1e-9)
        assert record.crystal.elements == crystal.elements
    assert records[0].file == "structure 0"
    _, skipped = read_all(StructuresSource([folder]))
    assert skipped[0].reason == "it is a folder, whose structures are read with --root_dir; name a file"
    _, skipped = read_all(StructuresSource([3.0, folder / "none.vasp"]))
    assert [row.id for row in skipped] == ["0", "1"]
    assert "got float" in skipped[0].reason
