"""The store against the crystals it was made from."""

import json
import pickle
from copy import copy

import numpy as np
import pytest
import torch
from jarvis.io.vasp.inputs import Poscar

from crysmm.config import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data import building
from crysmm.data.batch import collate_crystals
from crysmm.data.store import Store, build_store, cache_folder
from crysmm.errors import InputError
from crysmm.io.inputs import StructuresSource, open_source, source_from_files
from crysmm.io.source import ReadingOptions
from crysmm.io.table import RecordsTable

SETTINGS = GraphSettings()


@pytest.fixture
def records(crystals):
    return [
        {"jid": name, "atoms": crystal.to_jarvis().to_dict(), "gap": float(index), "size": len(crystal)}
        for index, (name, crystal) in enumerate(crystals.items())
    ]


@pytest.fixture
def store(records, tmp_path):
    source = RecordsTable(records, ReadingOptions(target_key="gap,size"))
    return build_store(source, SETTINGS, cache_dir=tmp_path, progress=False)


def assert_same_batch(found, expected):
    for name in ("n_atoms", "atomic_numbers", "atom_features", "bond_vectors"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(found.connectivity.source, expected.connectivity.source)
    assert torch.equal(found.connectivity.destination, expected.connectivity.destination)
    assert found.connectivity.blocks == expected.connectivity.blocks


def test_facts(store, crystals):
    assert len(store) == len(crystals)
    assert store.ids == list(crystals)
    assert store.target_names == ("gap", "size")
    assert store.targets[:, 0].tolist() == list(range(len(crystals)))
    assert store.targets[:, 1].tolist() == store.n_atoms.tolist() == [len(crystal) for crystal in crystals.values()]
    assert store.formulas[0] == "Cu"
    assert store.formulas[list(crystals).index("TiO2")] == "O2Ti"
    assert store.elements == sorted({int(z) for crystal in crystals.values() for z in crystal.atomic_numbers})
    assert store.skipped == []


def test_batch_equals_one_made_in_memory(store, crystals):
    order = [5, 0, 11, 3]
    names = [list(crystals)[index] for index in order]
    batch = store.batch(order)
    assert_same_batch(batch, collate_crystals([crystals[name] for name in names], SETTINGS))
    assert batch.ids == names
    expected = [[index, len(crystals[name])] for index, name in zip(order, names, strict=True)]
    assert batch.targets.tolist() == expected
    assert int(store.n_triplets[order].sum()) == batch.connectivity.n_triplets
    assert int(store.n_edges[order].sum()) == len(batch.bond_vectors)


def test_crystal_comes_back_exactly(store, crystals):
    for index, crystal in enumerate(crystals.values()):
        found = store.crystal(index)
        assert np.array_equal(found.lattice, crystal.lattice)
        assert np.array_equal(found.frac_coords, crystal.frac_coords)
        assert np.array_equal(found.atomic_numbers, crystal.atomic_numbers)


def test_survives_pickling_by_its_path(store):
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert_same_batch(again.batch([1, 2]), store.batch([1, 2]))


def test_second_build_opens_the_first(records, tmp_path, monkeypatch):
    source = RecordsTable(records, ReadingOptions(target_key="gap"))
    first = build_store(source, SETTINGS, cache_dir=tmp_path, progress=False)
    monkeypatch.setattr(building, "graph_row", None)
    assert build_store(source, SETTINGS, cache_dir=tmp_path, progress=False).path == first.path


@pytest.mark.parametrize("name", ["crystals.arrow", "store.json"])
@pytest.mark.parametrize("n_bytes", [None, 0, 20, 2000])
def test_a_damaged_store_is_built_again(records, tmp_path, name, n_bytes):
    source = RecordsTable(records, ReadingOptions(target_key="gap"))
    path = build_store(source, SETTINGS, cache_dir=tmp_path, progress=False).path
    whole = (path / name).read_bytes()
    (path / name).unlink() if n_bytes is None else (path / name).write_bytes(whole[: min(n_bytes, len(whole) - 1)])
    store = build_store(source, SETTINGS, cache_dir=tmp_path, progress=False)
    assert (store.path, len(store)) == (path, len(records))
    assert (path / name).read_bytes() == whole


def test_another_key_for_other_contents_settings_or_target(records, tmp_path):
    def path(rows=records, settings=SETTINGS, target_key="gap"):
        return build_store(
            RecordsTable(rows, ReadingOptions(target_key=target_key)), settings, cache_dir=tmp_path, progress=False
        ).path

    changed = [dict(records[0], gap=7.5), *records[1:]]
    others = [path(changed), path(settings=GraphSettings(cutoff=5)), path(target_key="size")]
    others += [path(target_key="gap,size"), path(target_key="size,gap")]
    assert len({path(), *others}) == 6


def inputs(folder, crystals):
    """Yield inputs with the same crystals, each unlike every other in one thing that a user can see."""
    poscar = {name: crystals[name].to_jarvis() for name in ("Si", "Cu")}
    rows = {name: {"id": name, "gap": 1.0, "atoms": atoms.to_dict()} for name, atoms in poscar.items()}
    files = {name: Poscar(atoms).to_string() for name, atoms in poscar.items()}
    tables = {
        "a": "id,gap\nSi,1\nCu,2\nAu,3\n",
        "another name": "id,modulus\nSi,1\nCu,2\nAu,3\n",
        "no header": "Si,1\nCu,2\nAu,3\n",
        "order": "id,gap\nCu,2\nSi,1\nAu,3\n",
        "ids as file names": "id,gap\nSi.vasp,1\nCu.vasp,2\nAu,3\n",
        "a blank line before the bad row": "id,gap\nSi,1\nCu,2\n\nAu,3\n",
        "another bad row": "id,gap\nSi,1\nCu,2\nAg,3\n",
        "a bad row without its value": "id,gap\nSi,1\nCu,2\nAu,\n",
        "two columns": "id,gap,modulus\nSi,1,1\nCu,2,2\nAu,3,3\n",
        "their order": "id,modulus,gap\nSi,1,1\nCu,2,2\nAu,3,3\n",
    }
    for name, table in tables.items():
        (folder / name).mkdir()
        (folder / name / "id_prop.csv").write_text(table)
        for formula, text in files.items():
            (folder / name / f"{formula}.vasp").write_text(text)
        yield open_source(folder / name)
    yield open_source(folder / "a", target_multiplication_factor=2)
    yield open_source(folder / "a", limit=2)
    yield open_source(folder / "a", needs_targets=False)
    (folder / "a" / "Si.vasp").rename(folder / "a" / "POSCAR-Si")
    yield open_source(folder / "a")

    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in [*rows.values(), {"id": "Au"}]))
        yield open_source(folder / name)
    renamed = [{"id": row["id"], "modulus": row["gap"], "atoms": row["atoms"]} for row in rows.values()]
    for given in ([*rows.values()], renamed, renamed[::-1], [*renamed, {"id": "Au"}], [*renamed, {"id": "Ag"}]):
        yield RecordsTable(given, ReadingOptions())

    symmetry = "data_x\n_symmetry_Int_Tables_number 1\n"
    lengths = "".join(
        f"_cell_length_{axis} 4\n_cell_angle_{angle} 90\n" for axis, angle in zip("abc", CELL, strict=True)
    )
    sites = "loop_\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nPo 0 0 0\n"
    for name, formula in {"a.cif": "", "b.cif": "", "formula.cif": "_chemical_formula_sum Po\n"}.items():
        (folder / name).write_text(symmetry + lengths + formula + sites)
        yield StructuresSource([folder / name])
        yield source_from_files([folder / name])


CELL = ("alpha", "beta", "gamma")


def test_no_two_inputs_share_a_store_unless_all_that_it_shows_is_the_same(crystals, tmp_path):
    """Each store from a cache that has seen all inputs before is the one that an empty cache gives."""
    shown = {}
    for number, source in enumerate(inputs(tmp_path, crystals)):
        seen = [
            build_store(source, SETTINGS, cache_dir=tmp_path / cache, progress=False) for cache in ("all", str(number))
        ]
        store, alone = (
            (facts.read_text(), store.ids, store.files, store.targets.tolist())
            for store in seen
            for facts in [store.path / "store.json"]
        )
        assert store == alone
        shown.setdefault(str(alone), []).append(seen[0].path)
    assert all(len(paths) == 1 for paths in shown.values())
    assert len({path for paths in shown.values() for path in paths}) == len(shown) == 27


def test_checksum_of_structures_shows_which_atom_belongs_to_which(tmp_path):
    """Three atoms as one and two, and as two and one, in equal cells."""
    positions, elements = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5]]), np.array([11, 17, 35], dtype=np.uint8)

    def checksum(first):
        parts = [Crystal(4 * np.eye(3), positions[part], elements[part]) for part in (slice(first), slice(first, None))]
        source = StructuresSource(parts)
        return build_store(source, SETTINGS, cache_dir=tmp_path, progress=False).structures_sha256

    assert checksum(1) != checksum(2)


def test_gaps_among_several_targets_are_counted(records, tmp_path):
    """Cu has no gap, Fe no size, Si neither; SrTiO3 is damaged."""
    for index, missing in ((0, ["gap"]), (1, ["size"]), (2, ["gap", "size"])):
        records[index] = {key: value for key, value in records[index].items() if key not in missing}
    records[7] = {**records[7], "atoms": None}
    store = build_store(
        RecordsTable(records, ReadingOptions(target_key="gap,size")), SETTINGS, cache_dir=tmp_path, progress=False
    )
    assert store.ids == [row["jid"] for row in records if row["jid"] not in ("Si", "SrTiO3")]
    assert ([row.id for row in store.skipped], [row.id for row in store.unlabeled]) == (["SrTiO3"], ["Si"])
    np.testing.assert_equal(store.targets[:3], [[np.nan, 1], [1, np.nan], [3, 2]])
    assert store.gaps() == [
        "2 of 12 rows have no gap",
        "2 of 12 rows have no size",
        "1 of 12 rows have none of the properties and are left out",
    ]
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert again.unlabeled == store.unlabeled
    assert [store.batch(rows).labels_per_crystal for rows in ([0, 1], [2, 3], [0, 2])] == [1.0, None, 1.5]


def test_worker_processes_give_the_same_store(crystals, tmp_path):
    """More than one task, so that real processes work, and the last task is not full."""
    structures = [*crystals.values()] * 11
    alone = build_store(StructuresSource(structures), SETTINGS, cache_dir=tmp_path / "a", jobs=1, progress=False)
    shared = build_store(StructuresSource(structures), SETTINGS, cache_dir=tmp_path / "b", jobs=2, progress=False)
    assert shared.ids == alone.ids == [str(index) for index in range(132)]
    assert_same_batch(shared.batch([131, 64, 0]), alone.batch([131, 64, 0]))
    assert shared.batch([0]).targets is None


def test_workers_start_where_there_are_many_rows_or_they_are_asked_for(crystals, monkeypatch):
    monkeypatch.setattr(building, "ROWS_WITHOUT_WORKERS", 70)
    monkeypatch.setattr(building, "map_in_order", lambda work, rows, jobs: jobs)

    def jobs(count, asked):
        return building.in_parallel(StructuresSource([crystals["Si"]] * count), SETTINGS, asked)

    assert [jobs(70, None), jobs(71, None), jobs(65, 2), jobs(64, 2)] == [1, None, 2, 1]


def test_bad_rows_are_kept_with_their_reasons(crystals, tmp_path):
    overlapping = Crystal(4 * np.eye(3), np.array([[0, 0, 0], [0, 0, 0.01]]), np.array([11, 17], dtype=np.uint8))
    source = StructuresSource([crystals["Si"], overlapping, crystals["Cu"]])
    store = build_store(source, SETTINGS, cache_dir=tmp_path, progress=False)
    assert store.ids == ["0", "2"]
    assert [row.id for row in store.skipped] == ["1"]
    assert "0.040 Angstrom apart" in store.skipped[0].reason
    with pytest.raises(InputError, match="Angstrom apart") as caught:
        build_store(source, SETTINGS, cache_dir=tmp_path, strict=True, progress=False)
    assert str(copy(caught.value)) == str(caught.value)  # as pickle copies it


@pytest.mark.parametrize("strict", [False, True])
def test_nothing_readable_leaves_nothing(strict, tmp_path):
    source = StructuresSource([tmp_path / "missing.vasp"])
    with pytest.raises(InputError, match=r"missing\.vasp"):
        build_store(source, SETTINGS, cache_dir=tmp_path, strict=strict, progress=False)
    assert list((tmp_path / "stores").iterdir()) == []


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "crysmm"
    assert cache_folder("here").name == "here"


def test_facts_are_plain_data(store):
    facts = json.loads((store.path / "store.json").read_text())
    assert facts["settings"] == SETTINGS.model_dump(exclude_none=True)
    assert Store(store.path).settings == SETTINGS


def test_alike_atoms_as_one(tmp_path, crystals):
    """Sizes and batches from the store are those of crystals in memory, merged or not."""
    source = StructuresSource(list(crystals.values()))
    store = build_store(source, SETTINGS, cache_dir=tmp_path, progress=False)
    for merge in (False, True):
        batch = store.batch(range(len(store)), merge=merge)
        expected = collate_crystals(list(crystals.values()), SETTINGS, merge=merge)
        assert_same_batch(batch, expected)
        edges, triplets = store.sizes(merge=merge)
        assert (edges.sum(), triplets.sum()) == (len(batch.bond_vectors), batch.connectivity.n_triplets)
    assert batch.merged is not None
    assert torch.equal(batch.merged.representatives, expected.merged.representatives)
