"""Tables as pandas, Excel, Matbench and OPTIMADE write them; pandas and pymatgen are the truth."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.io import write
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

from crysmm.crystals.conversion import as_crystal
from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, InputWarning, StructureError
from crysmm.io.inputs import open_source, source_from_files
from crysmm.io.source import ReadingOptions, Record, SkippedRow
from crysmm.io.table import RecordsTable

NAMES = ("NaCl", "Si", "CuO", "ZrO2")
GAPS = (8.5, 1.25, 1 / 3, -2e-3)


@pytest.fixture
def structures(crystals) -> list[Structure]:
    return [Structure(Lattice(c.lattice), c.elements, c.frac_coords) for c in map(crystals.get, NAMES)]


def read(source: Path | Any, **options: Any) -> tuple[list[Record], dict[str, str]]:
    """Records, and the reasons of other rows by id."""
    records, skipped = [], {}
    source = open_source(source, **options) if isinstance(source, Path) else source
    for row in source.rows():
        try:
            if isinstance(row, SkippedRow):
                skipped[row.id] = row.reason
            else:
                records.append(row.read())
        except StructureError as error:
            skipped[row.id] = str(error)
    return records, skipped


def assert_same(crystal: Crystal, structure: Structure, atol: float = 1e-9) -> None:
    assert crystal.elements == [site.specie.symbol for site in structure]
    metric = structure.lattice.matrix @ structure.lattice.matrix.T  # a CIF gives lengths and angles alone
    np.testing.assert_allclose(crystal.lattice @ crystal.lattice.T, metric, atol=20 * atol)
    steps = crystal.frac_coords - structure.frac_coords
    np.testing.assert_allclose(steps - np.round(steps), 0, atol=atol)


def assert_table(path: Path, structures: list[Structure], ids: list[str], atol: float = 1e-9, **options: Any) -> None:
    source = open_source(path, **options)
    assert source.target_names == ("gap",)
    records, skipped = read(source)
    assert skipped == {}
    assert [record.id for record in records] == ids
    np.testing.assert_allclose([record.targets[0] for record in records], GAPS, rtol=1e-9)
    for record, structure in zip(records, structures, strict=True):
        assert_same(record.crystal, structure, atol)


@pytest.mark.parametrize("form", ["dict", "json"])
@pytest.mark.parametrize("orient", ["split", "columns", "index", "records", "table", "list", "lines"])
def test_what_pandas_writes_as_json(orient: str, form: str, structures, tmp_path: Path) -> None:
    """The index is the id, and where none is written, a column is."""
    dicts = [structure.as_dict() if form == "dict" else structure.to_json() for structure in structures]
    frame = pd.DataFrame({"structure": dicts, "gap": GAPS}, index=[f"mp-{n}" for n in range(4)])
    ids = list(frame.index)
    path = tmp_path / "data.json"
    if orient in ("records", "lines"):
        frame = frame.rename_axis("material_id").reset_index()
    if orient == "list":
        path.write_text(json.dumps(frame.to_dict("list")))
        ids = ["0", "1", "2", "3"]
    elif orient == "lines":
        path = tmp_path / "data.jsonl"
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        frame.rename_axis("id").to_json(path, orient=orient, double_precision=15)
    assert_table(path, structures, ids)


def test_matbench_data(structures, tmp_path: Path) -> None:
    """``index``, ``columns`` and ``data``, in gzip, with ids counted from 0, as matminer distributes it."""
    rows = [[structure.as_dict(), gap] for structure, gap in zip(structures, GAPS, strict=True)]
    rows += [[structures[0].as_dict()], 3, [{"sites": []}, 1]]
    content = {"index": list(range(7)), "columns": ["structure", "gap"], "data": rows}
    (tmp_path / "matbench.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    records, skipped = read(tmp_path / "matbench.json.gz", target_key="gap")
    assert [(record.id, *record.targets) for record in records] == list(zip("0123", GAPS, strict=True))
    for record, structure in zip(records, structures, strict=True):
        assert_same(record.crystal, structure)
    assert len(skipped) == 2  # two rows have no id, so that one takes the place of the other
    assert "expected the keys" in skipped["6"]


def flat(crystal: Crystal) -> dict[str, Any]:
    lattice, coords = crystal.lattice.tolist(), crystal.frac_coords.tolist()
    return {"lattice_mat": lattice, "elements": crystal.elements, "frac_coords": coords}


def optimade(structure: Structure, identifier: str, **changes: Any) -> dict[str, Any]:
    symbols = [site.specie.symbol for site in structure]
    return {
        "id": identifier,
        "type": "structures",
        "attributes": {
            "chemical_formula_reduced": structure.composition.reduced_formula,
            "elements": sorted(set(symbols)),
            "dimension_types": [1, 1, 1],
            "nperiodic_dimensions": 3,
            "nsites": len(symbols),
            "lattice_vectors": structure.lattice.matrix.tolist(),
            "cartesian_site_positions": structure.cart_coords.tolist(),
            "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))],
            "species_at_sites": symbols,
            "structure_features": [],
            "_mp_gap": 1.5,
            **changes,
        },
        "relationships": {},
    }


@pytest.mark.parametrize(
    "kind",
    [
        {"chemical_symbols": ["N"], "concentration": [1.0], "attached": ["H"], "nattached": [4]},
        {"chemical_symbols": ["Na", "K"], "concentration": [1.0]},
        {"chemical_symbols": ["Na"], "concentration": [1.0, 0.5]},
    ],
    ids=["attached", "more symbols", "more concentrations"],
)
def test_optimade_species_that_do_not_tell_all_atoms(structures, kind: dict[str, Any]) -> None:
    whole = optimade(structures[0], "whole")["attributes"]
    others = [species for species in whole["species"] if species["name"] != "Na"]
    assert_same(as_crystal(whole), structures[0])
    with pytest.raises(StructureError, match="species Na of the OPTIMADE structure"):
        as_crystal({**whole, "species": [{"name": "Na", **kind}, *others]})
    other = {"name": "Na", "chemical_symbols": ["K"], "concentration": [1.0]}
    with pytest.raises(StructureError, match="is given twice"):
        as_crystal({**whole, "species": [*whole["species"], other]})


def test_optimade_sites_given_twice_are_compared(structures) -> None:
    whole = optimade(structures[0], "whole")["attributes"]
    sites = structures[0].frac_coords
    assert as_crystal({**whole, "fractional_site_positions": sites.tolist()}).elements
    with pytest.raises(StructureError, match="two lists of coordinates"):
        as_crystal({**whole, "fractional_site_positions": (sites + np.arange(len(sites))[:, None] / 7).tolist()})


def test_optimade_responses(structures, tmp_path: Path) -> None:
    alloy = [{"name": s, "chemical_symbols": [s, "Au"], "concentration": [0.5, 0.5]} for s in ("Na", "Cl")]
    vacant = [{"name": s, "chemical_symbols": [s, "vacancy"], "concentration": [0.9, 0.1]} for s in ("Na", "Cl")]
    entries = [optimade(structure, f"mp-{n}") for n, structure in enumerate(structures)]
    entries[0]["attributes"]["site_coordinate_span"] = "unit_cell"
    entries += [
        optimade(structures[0], "alloy", species=alloy),
        optimade(structures[0], "vacant", species=vacant),
        optimade(structures[0], "slab", dimension_types=[1, 1, 0]),
        optimade(structures[0], "implied", structure_features=["implicit_atoms"]),
        optimade(structures[0], "flagged", structure_features=["disorder"]),
        optimade(structures[0], "layer", dimension_types=None, nperiodic_dimensions=2),
        optimade(structures[0], "alternatives", assemblies=[{"sites_in_groups": [[0], [1]]}]),
        optimade(structures[0], "short", nsites=10),
        optimade(structures[0], "kinds", elements=["Cl", "K"]),
        optimade(structures[0], "other", chemical_formula_reduced="ClNa2"),
        optimade(structures[0], "unnamed", species_at_sites=["Xx"] * 8),
        optimade(structures[0], "part", site_coordinate_span="asymmetric_unit"),
        optimade(structures[0], "unknown", cartesian_site_positions=[[None] * 3] * 8),
    ]
    path = tmp_path / "response.json"
    path.write_text(json.dumps({"data": entries, "meta": {"more_data_available": True, "data_returned": 3000}}))
    with pytest.warns(InputWarning, match="one page of an OPTIMADE response, 17 of 3000 structures"):
        source = open_source(path, target_key="_mp_gap")
    with pytest.warns(InputWarning, match="the others are not in the file"):
        records, skipped = read(source)
    assert [(record.id, *record.targets) for record in records] == [(f"mp-{n}", 1.5) for n in range(4)]
    for record, structure in zip(records, structures, strict=True):
        assert_same(record.crystal, structure)
    assert "a site of species Na holds Na 0.5, Au 0.5" in skipped["alloy"]
    assert "holds Na 0.9, vacancy 0.1" in skipped["vacant"]
    assert "not periodic" in skipped["slab"]
    assert "implicit_atoms" in skipped["implied"]
    assert "has disorder, and each of its species one element" in skipped["flagged"]
    assert "not periodic" in skipped["layer"]
    assert "has assemblies" in skipped["alternatives"]
    assert "are its asymmetric_unit; give those of the unit cell" in skipped["part"]
    assert "nsites is 10, chemical_formula_reduced 'NaCl' and elements" in skipped["short"]
    assert "elements ['Cl', 'K'], the sites are 8 of ClNa" in skipped["kinds"]
    assert "chemical_formula_reduced 'ClNa2'" in skipped["other"]
    assert "incomplete: KeyError('Xx')" in skipped["unnamed"]
    assert "not finite" in skipped["unknown"]
    path.write_text(json.dumps({"data": entries[1], "meta": {"more_data_available": False}}))
    lines = tmp_path / "response.jsonl"
    lines.write_text(json.dumps(entries[1]) + "\n")
    for one in (path, lines):
        (record,), _ = read(one, target_key="_mp_gap")
        assert (record.id, record.targets) == ("mp-1", (1.5,))
        assert_same(record.crystal, structures[1])


@pytest.mark.parametrize(
    "name", ["id_prop.xlsx", "id_prop.parquet", "id_prop.tsv", "a.csv.gz", "gaps.xlsx", "gaps.parquet"]
)
def test_tables_of_files(name: str, structures, tmp_path: Path) -> None:
    """Ids and targets, the structures in files beside the table; numbers keep all their digits."""
    for number, structure in enumerate(structures):
        structure.to(str(tmp_path / f"{number + 1}.vasp"), fmt="poscar")
    frame = pd.DataFrame({"id": [1, 2, 3, 4], "gap": GAPS})
    if name.endswith("xlsx"):
        frame.to_excel(tmp_path / name, index=False)
    elif name.endswith("parquet"):
        frame.to_parquet(tmp_path / name)
    else:
        frame.to_csv(tmp_path / name, index=False, sep="," if ".csv" in name else "\t")
    assert_table(tmp_path, structures, ["1", "2", "3", "4"])
    assert_table(tmp_path / name, structures, ["1", "2", "3", "4"])
    before = open_source(tmp_path).fingerprint()
    (tmp_path / "3.vasp").write_text((tmp_path / "2.vasp").read_text())
    assert open_source(tmp_path).fingerprint() != before


def test_a_missing_structure_gives_way_to_another_column(structures, tmp_path: Path) -> None:
    texts = [str(CifWriter(structure)) for structure in structures]
    rows = [{"id": name, "atoms": None, "cif": text} for name, text in zip(NAMES, texts, strict=True)]
    rows += [{"id": "none", "atoms": None, "cif": None}]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    records, skipped = read(tmp_path / "data.json", needs_targets=False)
    for record, structure in zip(records, structures, strict=True):
        assert_same(record.crystal, structure, 1e-6)
    assert "no structure" in skipped["none"]


def test_two_structures_in_a_row_have_to_be_one_crystal(structures, crystals) -> None:
    """Not before and after a relaxation, or of another row; another cell of it is, and a name says nothing else."""
    salt, silicon = structures[0], structures[1]
    relaxed = Structure(salt.lattice.scale(salt.volume * 1.03), salt.species, salt.frac_coords)
    primitive = Structure(Lattice(salt.lattice.matrix @ np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]).T),
                          ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])  # fmt: skip
    atoms = crystals["NaCl"].to_jarvis().to_dict()
    others = {
        "same": salt.as_dict(), "text": str(CifWriter(salt)), "primitive": primitive.as_dict(), "name": "rocksalt",
        "broken": {"lattice": {}, "sites": []}, "relaxed": relaxed.as_dict(), "other": silicon.as_dict(),
    }  # fmt: skip
    rows = [{"id": name, "gap": 1, "atoms": atoms, "structure": other} for name, other in others.items()]
    records, skipped = read(RecordsTable(rows, ReadingOptions()))
    assert [record.id for record in records] == ["same", "text", "primitive", "name", "broken"]
    for record in records:
        assert_same(record.crystal, salt)
    both = "atoms and structure hold different crystals: ClNa of 22.43 and"
    assert skipped == {
        "relaxed": f"{both} ClNa of 23.1 cubic Angstrom per atom; keep one of them",
        "other": f"{both} Si of 20.02 cubic Angstrom per atom; keep one of them",
    }
    moved = salt.copy()
    moved.translate_sites([0], [0.1, 0, 0])
    twice = [{"structure": moved.as_dict(), "atoms": atoms}, {"cif": str(CifWriter(silicon)), **flat(crystals["NaCl"])}]
    twice += [{"cif": str(CifWriter(salt)), **flat(crystals["NaCl"])}, {"cif": "a.cif", **flat(crystals["NaCl"])}]
    records, skipped = read(
        RecordsTable([{"id": str(row), "gap": 1, **one} for row, one in enumerate(twice)], ReadingOptions())
    )
    assert [record.id for record in records] == ["2", "3"]
    assert skipped["0"].startswith("atoms and structure hold different crystals: their interatomic distances differ by")
    assert skipped["1"].startswith("cif and lattice_mat hold different crystals: ClNa of 22.43 and Si of 20.02")
    rows = [{"id": name, "gap": 1, "atoms": atoms, **flat(crystals[name])} for name in ("NaCl", "Si")]
    records, skipped = read(RecordsTable(rows, ReadingOptions()))
    assert [record.id for record in records] == ["NaCl"]
    assert skipped["Si"].startswith("atoms and lattice_mat hold different crystals: ClNa of 22.43 and Si of 20.02")


def test_a_row_of_another_formula_is_refused(crystals) -> None:
    """A misjoined table; a name, a parent in words or a formula of the whole cell say nothing else."""
    row = {"gap": 1, "atoms": crystals["NaCl"].to_jarvis().to_dict()}
    names = {"formula": "Na4Cl4", "formula_pretty": "NaCl", "reduced_formula": "ClNa", "pretty_formula": "rock salt"}
    rows = [{**row, "id": name, name: value} for name, value in names.items()]
    rows += [{**row, "id": f"wrong {name}", name: "KCl"} for name in names]
    records, skipped = read(RecordsTable(rows, ReadingOptions(target_key="gap")))
    assert [record.id for record in records] == list(names)
    reason = "the row contradicts itself: {} is 'KCl', its structure ClNa; correct the one that is wrong"
    assert skipped == {f"wrong {name}": reason.format(name) for name in names}


def test_what_a_row_says_of_its_structure_counts(crystals) -> None:
    crystal = crystals["CsCl"]
    row = {"id": "a", "gap": 1, "atoms": crystal.to_jarvis().to_dict()}
    statements = {"occupancies": [0.5, 1.0], "lattice_unit": "bohr"}
    rows = [{**row, "id": name, name: value} for name, value in statements.items()]
    _, skipped = read(RecordsTable([row, *rows], ReadingOptions(target_key="gap")))
    assert list(skipped) == list(statements)
    assert skipped["occupancies"].startswith("partial occupancy: atom 1 is occupied to 0.5")
    assert skipped["lattice_unit"] == "the unit is 'bohr' (lattice_unit); expected Angstrom"


@pytest.mark.parametrize("needs_targets", [True, False])
@pytest.mark.parametrize("name", ["data.jsonl", "data.json.gz", "data.extxyz"])
def test_the_only_file_of_rows_in_a_folder(name: str, needs_targets: bool, structures, tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": NAMES, "structure": [structure.as_dict() for structure in structures], "gap": GAPS})
    if name.endswith("xyz"):
        for row in frame.itertuples():
            atoms = AseAtomsAdaptor.get_atoms(Structure.from_dict(row.structure))
            atoms.info = {"id": row.id, "gap": row.gap}
            write(tmp_path / name, atoms, append=True)
    else:
        frame.to_json(tmp_path / name, orient="records", lines=name.endswith("l"), double_precision=15)
    (tmp_path / "notes.txt").write_text("none of these")
    if needs_targets or not name.endswith("xyz"):
        records, skipped = read(tmp_path, needs_targets=needs_targets)
        assert ([record.id for record in records], skipped) == (list(NAMES), {})
    else:  # it may be a structure by itself, and says how to read it
        assert "read by --root_dir FILE" in read(tmp_path, needs_targets=False)[1][name]
    (tmp_path / "more.jsonl").write_text("{}")
    with pytest.raises(InputError, match="training needs a table of ids and targets"):
        open_source(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "xlsx", "parquet"])
@pytest.mark.parametrize("column", ["cif", "structure"])
def test_tables_that_hold_structures_as_text(column: str, suffix: str, structures, tmp_path: Path) -> None:
    """CIF texts beside an unnamed index, as generative models are given them, or pymatgen's JSON."""
    texts = [str(CifWriter(s)) if column == "cif" else s.to_json() for s in structures]
    frame = pd.DataFrame({"material_id": [f"mp-{n}" for n in range(4)], "gap": GAPS, column: texts})
    path = tmp_path / f"train.{suffix}"
    {"csv": frame.to_csv, "xlsx": frame.to_excel, "parquet": frame.to_parquet}[suffix](path)
    assert_table(path, structures, list(frame["material_id"]), atol=1e-5)
    path.rename(tmp_path / f"id_prop.{suffix}")
    assert_table(tmp_path, structures, list(frame["material_id"]), atol=1e-5)


@pytest.mark.parametrize(
    ("columns", "target_key", "places"),
    [
        (["id", "gap", "cif", "gap"], "gap", "'gap', number 2 and 4"),
        (["id", "gap", "cif", "gap"], None, "'gap', number 2 and 4"),
        (["id", "gap", "cif", "cif"], "gap", "'cif', number 3 and 4"),
        (["id", "gap", "cif", "id"], "gap", "'id', number 1 and 4"),
        (["id", "gap", "cif", "K", "K"], "gap", None),
    ],
)
def test_two_columns_of_one_name(columns: list[str], target_key: str, places: str, structures, tmp_path: Path) -> None:
    """pandas writes them; where one is that of the id, the target or the structure, either may be meant."""
    values = {"id": ["a", "b"], "gap": [1.5, 2.5], "cif": [str(CifWriter(s)) for s in structures[:2]], "K": [1, 2]}
    frame = pd.concat([pd.Series(values[name], name=name) for name in columns], axis=1)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    frame.to_json(tmp_path / "a.json", orient="split")
    pq.write_table(pa.Table.from_arrays([pa.array(frame.iloc[:, n]) for n in range(len(columns))], columns),
                   tmp_path / "a.parquet")  # fmt: skip
    for name in ("a.csv", "a.xlsx", "a.json", "a.parquet"):
        if places is None and name.endswith(("csv", "xlsx")):
            records, skipped = read(tmp_path / name, target_key=target_key)
            assert ([(record.id, *record.targets) for record in records], skipped) == ([("a", 1.5), ("b", 2.5)], {})
        else:
            with pytest.raises(InputError, match=rf"{name} has 2 columns {places or ''}.*; keep one"):
                open_source(tmp_path / name, target_key=target_key)
    with pytest.raises(InputError, match="the DataFrame has 2 columns"):
        RecordsTable(frame, ReadingOptions(target_key=target_key))


def test_a_repeated_index_is_refused(structures) -> None:
    """Refuse what pandas.concat makes, of which most rows would be left out as repetitions."""
    frame = pd.DataFrame({"structure": structures[:2], "gap": GAPS[:2]})
    twice = pd.concat([frame, frame])
    with pytest.raises(InputError, match=r"the index of the DataFrame, .*, has 0 several times; give the"):
        RecordsTable(twice, ReadingOptions(target_key="gap"))
    for one in (twice.reset_index(drop=True), twice.assign(id=NAMES)):
        rows = list(RecordsTable(one, ReadingOptions(target_key="gap")).rows())
        assert [row.read().targets[0] for row in rows] == [*GAPS[:2], *GAPS[:2]]


def test_rows_of_more_or_fewer_cells_than_the_header(structures, tmp_path: Path) -> None:
    """A cell too many, or one too few, puts the values behind it below the names of others."""
    text = '"' + str(CifWriter(structures[1])).replace('"', '""') + '"'
    (tmp_path / "a.csv").write_text(f"id,cif,gap,K\na,{text},1,3\nb,{text},3\nc,{text},2,3,4\n")
    records, _ = read(tmp_path / "a.csv", target_key="gap")
    assert [(record.id, record.targets) for record in records] == [("a", (1,))]
    reasons = [
        row.reason for row in open_source(tmp_path / "a.csv", target_key="gap").rows() if isinstance(row, SkippedRow)
    ]
    assert reasons == [f"the row has {n} columns; expected 4, as in the header" for n in (3, 5)]


def test_labels_of_an_index_that_parquet_keeps_beside_the_columns(structures, crystals, tmp_path: Path) -> None:
    """A counted index is a note in the file; one with a name is a column. The ids are those of the frame itself."""
    atoms = [crystals[name].to_jarvis().to_dict() for name in NAMES]
    frame = pd.DataFrame({"atoms": atoms * 2, "gap": GAPS * 2})
    keyed = frame.set_index(pd.Index(list("abcdefgh"), name="key"))
    parts = [frame[4:], frame[0:8:2], frame.iloc[[5, 3]], keyed, frame[4:].rename_axis("number")]
    for part in parts:
        part.to_parquet(tmp_path / "a.parquet")
        ids = [record.id for record in read(tmp_path / "a.parquet", target_key="gap")[0]]
        in_memory = [record.id for record in read(RecordsTable(part, ReadingOptions()))[0]]
        assert ids == list(map(str, part.index)) == in_memory
    pq.write_table(pq.read_table(tmp_path / "a.parquet").slice(2), tmp_path / "b.parquet")  # its note counts all rows
    assert [record.id for record in read(tmp_path / "b.parquet")[0]] == ["0", "1"]


def without_properties(structure: Structure) -> dict[str, Any]:
    """The dict of a structure without the empty ones in it, which Parquet cannot hold."""
    content = {key: value for key, value in structure.as_dict().items() if key != "properties"}
    sites = [{key: value for key, value in site.items() if key != "properties"} for site in content["sites"]]
    return {**content, "sites": sites}


@pytest.mark.parametrize("form", ["jarvis", "pymatgen", "flat", "optimade"])
def test_parquet_of_dicts(form: str, structures, crystals, tmp_path: Path) -> None:
    """Nested columns, which pandas reads as arrays of arrays; ids in the index of the frame, or counted."""
    rows = {
        "jarvis": [{"atoms": crystals[name].to_jarvis().to_dict()} for name in NAMES],
        "pymatgen": [{"structure": without_properties(structure)} for structure in structures],
        "flat": [flat(crystals[name]) for name in NAMES],
        "optimade": [optimade(structure, "x")["attributes"] for structure in structures],
    }[form]
    path = tmp_path / "x.parquet"
    for index, ids in ((["a", "b", "c", "d"], ["a", "b", "c", "d"]), (None, ["0", "1", "2", "3"])):
        pd.DataFrame(rows, index=index).assign(gap=GAPS).to_parquet(path)
        of_records = RecordsTable(pd.read_parquet(path), ReadingOptions(target_key="gap"))
        for records, skipped in (read(path, target_key="gap"), read(of_records)):
            assert ([record.id for record in records], skipped) == (ids, {})
            np.testing.assert_allclose([record.targets[0] for record in records], GAPS, rtol=1e-9)
            for record, structure in zip(records, structures, strict=True):
                assert_same(record.crystal, structure, 1e-5)


def test_rows_whose_columns_are_null_where_others_are_given(structures, crystals, tmp_path: Path) -> None:
    """Fractional coordinates in some rows, Cartesian ones in others; without a word which, coordinates may be both."""
    sodium, silicon, *others = (flat(crystals[name]) for name in NAMES)
    for row, structure in zip(others, structures[2:], strict=True):
        row |= {"frac_coords": None, "coords": structure.cart_coords.tolist(), "cartesian": True}
    rows = [sodium, {**silicon, "atoms": None}, *others, {**others[0], "cartesian": None}]
    frame = pd.DataFrame(rows).assign(id=[*NAMES, "unknown"], gap=1.0)
    frame.to_parquet(tmp_path / "a.parquet")
    records = frame.astype({"cartesian": "boolean"})
    frames = [frame, records, pd.read_parquet(tmp_path / "a.parquet")]
    for source in (tmp_path / "a.parquet", *(RecordsTable(some, ReadingOptions()) for some in frames)):
        found, skipped = read(source)
        assert [record.id for record in found] == list(NAMES)
        for record, structure in zip(found, structures, strict=True):
            assert_same(record.crystal, structure)
        assert list(skipped) == ["unknown"]
        assert "expected true or false" in skipped["unknown"]


def test_a_structure_in_a_json_file(structures, crystals, tmp_path: Path) -> None:
    """pymatgen's ``to(fmt="json")`` and JARVIS' dict, found by id or named; other JSON files are no structures."""
    structures[0].to(str(tmp_path / "mp-1.json"))
    (tmp_path / "mp-2.json").write_text(json.dumps(crystals["Si"].to_jarvis().to_dict()))
    (tmp_path / "atom_init.json").write_text('{"1": [0, 1]}')
    (tmp_path / "settings.json").write_text('{"epochs": 3}')
    records, skipped = read(tmp_path, needs_targets=False)
    assert ([record.id for record in records], skipped) == (["mp-1.json", "mp-2.json"], {})
    for record, structure in zip(records, structures, strict=False):
        assert_same(record.crystal, structure, 1e-4)
    (tmp_path / "id_prop.csv").write_text("mp-1,1\nmp-2.json,2\n")
    assert [record.file for record in read(tmp_path)[0]] == ["mp-1.json", "mp-2.json"]
    records, skipped = read(source_from_files([tmp_path / "mp-1.json", tmp_path / "settings.json"]))
    assert len(records) == 1
    assert "no structure: expected one under atoms" in skipped["settings.json"]


def test_a_json_file_is_read_as_a_row(structures, crystals, tmp_path: Path) -> None:
    """Refuse two crystals in it; take a structure that is a text in it, or a dict as Python prints it."""
    salt, atoms = structures[0], crystals["NaCl"].to_jarvis().to_dict()
    contents = {
        "same": json.dumps({"atoms": atoms, "structure": salt.as_dict()}),
        "cif": json.dumps({"structure": str(CifWriter(salt)), "gap": 8.5}),
        "text": json.dumps({"structure": salt.to_json(), "atoms": 8}),
        "entry": json.dumps(optimade(salt, "1")),
        "printed": str(salt.as_dict()),
        "other": json.dumps({"atoms": atoms, "structure": structures[1].as_dict()}),
        "twice": str(salt.as_dict()).replace("{", "{'sites': [], ", 1),
        "call": "{'lattice_mat': open('x')}",
    }
    for name, text in contents.items():
        (tmp_path / f"{name}.json").write_text(text)
    records, skipped = read(source_from_files([tmp_path / f"{name}.json" for name in contents]))
    assert [record.id for record in records] == ["same.json", "cif.json", "text.json", "entry.json", "printed.json"]
    for record in records:
        assert_same(record.crystal, salt, 1e-5)
    assert "atoms and structure hold different crystals" in skipped["other.json"]
    assert "the key 'sites' twice; keep one" in skipped["twice.json"]
    assert "broken JSON" in skipped["call.json"]


@pytest.mark.parametrize(
    "columns",
    [{"lattice": "cubic"}, {"lattice": 5.64}, {"structure": "rocksalt"}, {"atoms": 8}, {"structure": "B1", "atoms": 2}],
)
@pytest.mark.parametrize("form", ["cif", "dict"])
def test_properties_called_as_a_structure(columns: dict[str, Any], form: str, structures, tmp_path: Path) -> None:
    """Take ``structure`` for a type and ``atoms`` for a number beside a CIF or a dict as pandas prints it."""
    texts = [str(CifWriter(structure) if form == "cif" else structure.as_dict()) for structure in structures]
    pd.DataFrame({"id": NAMES, "gap": GAPS, **columns, "cif": texts}).to_csv(tmp_path / "a.csv", index=False)
    records, skipped = read(tmp_path / "a.csv", target_key="gap")
    assert skipped == {}
    for record, structure in zip(records, structures, strict=True):
        assert_same(record.crystal, structure, 1e-6)


def in_excel(path: Path, *sheets: list[list[Any]]) -> Path:
    with pd.ExcelWriter(path) as writer:
        for number, rows in enumerate(sheets):
            pd.DataFrame(rows).to_excel(writer, sheet_name=f"s{number}", index=False, header=False)
    return path


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.xlsx", lambda path: in_excel(path, [["a", 1]], [["b", 2]]), r"several sheets with cells \(s0, s1\)"),
        ("a.xlsx", lambda path: in_excel(path, [["a", 1], ["x" * 32767, 2]]), "line 2 has a cell of 32,767 characters"),
        ("a.xlsx", lambda path: in_excel(path, [["a", 1], ["b", "=1+1"]]), "line 2 has a formula without its value"),
        ("a.XLSX", lambda path: path.write_text("a,1\n"), "cannot be read as an Excel file"),
        ("a.parquet", lambda path: path.write_text("a,1\n"), "cannot be read as Parquet"),
        ("a.parquet", lambda path: pd.DataFrame({"id": []}).to_parquet(path), "is empty"),
        ("a.json", lambda path: path.write_text('{"epochs": 3}'), "an object with epochs and not a JSON list"),
        ("a.json", lambda path: path.write_text('{"data": []}'), "an object with nothing"),
        (
            "a.json",
            lambda path: path.write_text("[1, 2]"),
            "no readable row; expected .*; of the first, expected a row of named",
        ),
        ("a.jsonl", lambda path: path.write_text("{\0}\0"), "no readable row; .*; of the first, broken JSON"),
        ("a.json", lambda path: path.write_text('{"K": {"0": 1}, "K": {"0": 2}}'), "has the key 'K' twice"),
        ("a.json", lambda path: path.write_text('{"cif": {"0": "data_\\n1"}, "K": [1]}'), "columns of different kinds"),
        ("a.json", lambda path: path.write_text('{"data": [{"id": 1}, {"id'), "broken JSON at row 2"),
        (
            "a.json",
            lambda path: path.write_text('{"lattice": {"matrix": []}, "sites": []}'),
            "holds a single structure",
        ),
    ],
)
def test_tables_that_cannot_be_used(name: str, make: Any, reason: str, tmp_path: Path) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=reason):
        open_source(tmp_path / name)


def test_two_tables_named_id_prop_are_refused(structures, tmp_path: Path) -> None:
    structures[0].to(str(tmp_path / "a.vasp"), fmt="poscar")
    in_excel(tmp_path / "id_prop.xlsx", [["a", 1]])
    (tmp_path / "id_prop.csv").write_text("a,2\n")
    with pytest.raises(InputError, match=r"has id_prop\.csv and id_prop\.xlsx; keep one"):
        open_source(tmp_path)


def test_formats_that_are_not_read_are_named_with_what_converts_them(tmp_path: Path) -> None:
    (tmp_path / "mp-1.res").write_text("TITL mp-1\n")
    (tmp_path / "id_prop.csv").write_text("mp-1,1\n")
    (row,) = open_source(tmp_path).rows()
    assert isinstance(row, SkippedRow)
    assert "the format of mp-1.res is not read; ase convert mp-1.res mp-1.extxyz" in row.reason
    (row,) = source_from_files([tmp_path / "mp-1.res"]).rows()
    with pytest.raises(StructureError, match=r"not recognized.*; ase convert FILE FILE\.extxyz converts"):
        row.read()


def test_an_id_may_stand_under_the_next_key_where_the_first_is_empty(crystals, tmp_path: Path) -> None:
    """Read a table with both keys, as of JARVIS and the Materials Project put together."""
    rows = [
        {"jid": value, "id": f"mp-{number}", **flat(crystals["Si"])} for number, value in enumerate((None, "", "J-1"))
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "id": None}]))
    *found, missing = open_source(path, needs_targets=False).rows()
    assert [row.id for row in found] == ["mp-0", "mp-1", "J-1"]
    assert missing.reason == "the row has no id"
