"""Files of features: what ``crysmm embed`` writes, and what is read as a teacher or refused."""

import os
import signal
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from crysmm.cli.main import main
from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.store import build_store
from crysmm.errors import InputError, ModelFolderError
from crysmm.inference.model_teacher import ModelTeacher, any_teacher
from crysmm.io.inputs import open_source
from crysmm.io.source import ReadingOptions
from crysmm.io.table import RecordsTable
from crysmm.teachers import feature_file as module
from crysmm.teachers import features
from crysmm.teachers.feature_file import features_from_file
from crysmm.teachers.registry import TeacherIdentity, load_teacher
from crysmm.testing import check_teacher


@pytest.fixture
def store_of(tmp_path):
    """A function that makes a store of crystals by id."""

    def build(crystals):
        rows = [
            {
                "id": name,
                "lattice_mat": crystal.lattice.tolist(),
                "frac_coords": crystal.frac_coords.tolist(),
                "elements": crystal.elements,
            }
            for name, crystal in crystals.items()
        ]
        source = RecordsTable(rows, ReadingOptions(needs_targets=False))
        return build_store(source, GraphSettings(), cache_dir=tmp_path / "stores", jobs=1, progress=False)

    return build


@pytest.fixture
def folder(crystals, tmp_path):
    """A folder with structure files of the crystals."""
    from ase.io import write

    (tmp_path / "structures").mkdir()
    for name, crystal in crystals.items():
        write(tmp_path / f"structures/{name}.vasp", crystal.to_ase(), direct=True)
    (tmp_path / "structures/id_prop.csv").write_text("".join(f"{name},1.0\n" for name in crystals))
    return tmp_path / "structures"


@pytest.fixture
def embed(folder, tmp_path):
    """A function that runs ``crysmm embed`` and returns the exit code and the file."""

    def run(*options, model="toy", output="embeddings.parquet"):
        path = tmp_path / output
        words = ["--model", str(model), "--root_dir", str(folder), "--output", str(path)]
        return main(["embed", *words, "--cache_dir", str(tmp_path / "cache"), *options]), path

    return run


def test_a_row_for_each_atom(toy, embed, crystals, capsys):
    code, path = embed()
    assert code == 1  # one of them could not be embedded
    rows = parquet.read_table(path).to_pandas()
    assert set(rows.id) == set(crystals) - {"CsCl"}
    for name, some in rows.groupby("id"):
        assert some.atom.tolist() == list(range(len(crystals[name])))
        assert some.element.tolist() == crystals[name].elements
        assert np.stack(some.features) == pytest.approx(toy.embed([crystals[name]]), rel=2e-3)
    printed = capsys.readouterr()
    assert "11 of 12 structures embedded, 5 features per atom" in printed.out
    assert "1 not embedded:\n  CsCl.vasp: KeyError: 'Cs'" in printed.err.replace(f"{path.parent}/structures/", "")


def test_a_row_for_each_crystal(toy, embed, crystals):
    _, path = embed("--per", "crystal")
    table = parquet.read_table(path)
    assert table.column_names == ["id", "structure", "features"]
    for row in table.to_pylist():
        assert row["features"] == pytest.approx(toy.embed([crystals[row["id"]]]).mean(0), rel=2e-3)


def test_features_of_an_own_model(embed, save_small_model, tmp_path, crystals):
    network = save_small_model(tmp_path / "model")
    check_teacher(ModelTeacher(tmp_path / "model"), any_teacher(str(tmp_path / "model")))
    code, path = embed("--limit", "3", model=tmp_path / "model")
    assert code == 0
    rows = parquet.read_table(path).to_pandas()
    assert len(np.stack(rows.features)[0]) == network.backbone.node_features
    expected = ModelTeacher(tmp_path / "model").embed([crystals[name] for name in dict.fromkeys(rows.id)])
    assert np.stack(rows.features) == pytest.approx(expected, abs=2e-3)


def test_a_cluster_that_loses_a_worker_and_is_stopped_writes_the_same_file(toy, embed, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(features, "ATOMS_PER_BATCH", 6)
    monkeypatch.setattr(features, "ATOMS_PER_PART", 1)
    _, straight = embed(output="straight.parquet")
    monkeypatch.setattr(type(toy), "embed", None)  # the workers have their own
    write_part, parts = features.write_part, []

    def disturbed(folder, part):
        parts.append(part)
        if len(parts) == 1:
            os.kill(nanny.pid, signal.SIGKILL)
        if len(parts) == 4:
            raise KeyboardInterrupt
        return write_part(folder, part)

    monkeypatch.setattr(features, "write_part", disturbed)
    with (
        patch.dict(os.environ),  # the cluster leaves numbers of threads in it
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster,
    ):
        nanny = cluster.workers[0]
        nanny.close_gracefully()  # another worker in its place would take seconds
        options = ["--backend", "dask", "--scheduler", cluster.scheduler_address]
        options += ["--cache_dir", str(tmp_path / "other")]
        code, path = embed(*options)
        assert (code, path.exists()) == (130, False)
        assert embed(*options)[0] == 1  # CsCl cannot be embedded
    assert path.read_bytes() == straight.read_bytes()
    lost = parts.pop(3)
    embedded_once = [key for part in parts for key in part]
    assert len(embedded_once) == len(set(embedded_once)) == 11
    assert lost.keys() < set(embedded_once)


def test_a_worker_with_another_teacher_is_refused(toy):
    here = TeacherIdentity.of(toy)
    other = here.model_copy(update={"checksum": "other"})
    with pytest.raises(
        InputError, match=r"a worker has other weights of the teacher toy \(e5e5e5.*, 5 features\) than"
    ):
        features._loaded(load_teacher, "toy", other, "cpu")
    with pytest.raises(InputError, match="a worker cannot load the teacher theirs: there is no teacher theirs"):
        features._loaded(load_teacher, "theirs", here, "cpu")
    with pytest.raises(ModelFolderError, match="a worker cannot load the teacher /gone: /gone is not a folder"):
        features._loaded(any_teacher, "/gone", here, "cpu")


def test_a_file_is_replaced_only_if_it_is_one(toy, embed, capsys):
    _, path = embed("--limit", "2")
    assert embed("--limit", "3")[0] == 0
    assert len(set(parquet.read_table(path).column("id").to_pylist())) == 3
    parquet.write_table(pa.table({"mine": [1]}), path)
    assert embed()[0] == 2
    assert "is there and is no file of features; move it away" in capsys.readouterr().err
    assert parquet.read_table(path).column_names == ["mine"]
    path.write_text("mine")
    assert embed()[0] == 2
    assert "is there and is no file of features; move it away" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert embed(output="embeddings.csv")[0] == 2
    assert "name it embeddings.parquet" in capsys.readouterr().err


def test_an_unknown_model_is_refused(embed, capsys):
    assert embed(model="nothing")[0] == 2
    assert "nothing is not a folder; expected model.json" in capsys.readouterr().err


@pytest.mark.parametrize("atoms_read", [7, 8192])
def test_a_file_is_read_as_a_teacher(toy, embed, folder, crystals, tmp_path, monkeypatch, atoms_read):
    monkeypatch.setattr(module, "ATOMS_READ", atoms_read)
    _, path = embed()
    source = open_source(folder, needs_targets=False)
    closer = GraphSettings(max_neighbors=4)  # another store of the same structures
    store = build_store(source, closer, cache_dir=tmp_path / "stores", jobs=1, progress=False)
    rows = [store.ids.index(name) for name in ("TiO2", "Cu", "SiO2")]
    features = features_from_file(path, store, rows, cache_dir=tmp_path / "cache")
    assert features.width == toy.width
    expected = np.concatenate([toy.embed([crystals[name]]) for name in ("SiO2", "TiO2")])
    assert features.take([rows[2], rows[0]]) == pytest.approx(expected, rel=2e-3)
    monkeypatch.setattr(module, "_copy", None)  # there is a copy in the cache
    again = features_from_file(path, store, rows[2:], cache_dir=tmp_path / "cache")
    assert np.array_equal(again.take(rows[2:]), features.take(rows[2:]))


def test_a_damaged_copy_is_made_again(store_of, crystals, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ATOMS_READ", 7)
    ids = [name for name, crystal in crystals.items() for _ in range(len(crystal))]
    atoms = [atom for crystal in crystals.values() for atom in range(len(crystal))]
    features = np.arange(len(ids) * 2.0).reshape(-1, 2)
    path = tmp_path / "file.parquet"
    parquet.write_table(pa.table({"id": ids, "atom": atoms, "features": features.tolist()}), path)
    store, cache = store_of(crystals), tmp_path / "cache"

    def read():
        return features_from_file(path, store, range(len(store)), cache_dir=cache).take(range(len(store)))

    assert np.array_equal(read(), features)
    files = sorted(cache.rglob("*"))
    for part, damaged in zip(cache.rglob("*.safetensors"), (None, b"", b"\xff" * 500), strict=False):
        part.unlink()
        if damaged is not None:
            part.write_bytes(damaged)
        assert np.array_equal(read(), features)
        assert sorted(cache.rglob("*")) == files


def test_a_file_of_others_is_read(store_of, crystals, tmp_path):
    """Read one without structures, with and without elements, as pandas writes lists."""
    names = ["NaCl", "Fe"]
    ids = [name for name in names for _ in range(len(crystals[name]))]
    atoms = [atom for name in names for atom in range(len(crystals[name]))]
    features = np.random.default_rng(0).normal(size=(len(ids), 3))
    table = pa.table({"id": ids, "atom": atoms, "features": features.tolist(), "comment": ["x"] * len(ids)})
    elements = [symbol for name in names for symbol in crystals[name].elements]
    store = store_of({"Fe": crystals["Fe"], "NaCl": crystals["NaCl"]})
    for theirs in (table, table.append_column("element", [elements])):
        parquet.write_table(theirs, tmp_path / "theirs.parquet")
        found = features_from_file(tmp_path / "theirs.parquet", store, [0, 1], cache_dir=tmp_path)
        assert found.take([1, 0]) == pytest.approx(features, abs=2e-3)


def changed(table, **columns):
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, [values])
    return table


REFUSED = {
    "lacks": (lambda t: t.slice(0, 1), "has no features for 1 of 2 crystals, such as TiO2"),
    "atoms": (lambda t: t.slice(0, 6), "has 5 atoms for TiO2, whose structure has 6"),
    "order": (lambda t: t.take([0, 2, 1, 3, 4, 5, 6]), "the atoms of TiO2 are not consecutive rows with atom 0, 1"),
    "twice": (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "the atoms of Cu are not consecutive rows"),
    "no atoms": (lambda t: t.drop_columns(["atom"]), "has no column atom; expected id, atom and features, found id"),
    "two ids": (lambda t: t.append_column("id", t.column("id")), "has several columns id; leave one of them"),
    "two features": (lambda t: t.append_column("features", t.column("features")), "has several columns features;"),
    "no ids": (lambda t: t.drop_columns(["id"]), "has no column id"),
    "structure": (
        lambda t: changed(t, structure=pa.array(["0" * 16] * 7)),
        "has features of another structure under the id Cu",
    ),
    "elements": (
        lambda t: t.drop_columns(["structure"]).append_column("element", [["Cu", "Ti", "O", "O", "Ti", "O", "O"]]),
        "has O as atom 1 of TiO2, where its structure has Ti; the rows of a crystal are to be in the order",
    ),
    "nan": (
        lambda t: changed(t, features=pa.array([[1.0, np.nan if row == 3 else 2.0] for row in range(7)])),
        "a feature of TiO2 is not finite",
    ),
    "range": (
        lambda t: changed(t, features=pa.array([[1.0, 1e5 if row == 0 else 2.0] for row in range(7)])),
        "a feature of Cu is not finite, or not in the range of float16",
    ),
    "ragged": (
        lambda t: changed(t, features=pa.array([[1.0] * (1 + row % 2) for row in range(7)])),
        "does not hold lists of numbers, all of one length",
    ),
    "null": (lambda t: changed(t, features=pa.array([[1.0], *[None] * 6])), "does not hold lists of numbers"),
    "numbers": (lambda t: changed(t, features=pa.array([1.0] * 7)), "does not hold lists of numbers"),
    "words": (lambda t: changed(t, features=pa.array([["a"]] * 7)), "does not hold lists of numbers"),
}


@pytest.mark.parametrize("problem", REFUSED)
def test_other_files_are_refused(store_of, crystals, tmp_path, problem):
    store = store_of({"Cu": crystals["Cu"], "TiO2": crystals["TiO2"]})
    table = pa.table(
        {
            "id": ["Cu", *["TiO2"] * 6],
            "atom": [0, *range(6)],
            "structure": [crystals["Cu"].checksum, *[crystals["TiO2"].checksum] * 6],
            "features": [[0.5, 1.0]] * 7,
        }
    )
    path = tmp_path / "file.parquet"
    parquet.write_table(table, path)
    assert features_from_file(path, store, [0, 1], cache_dir=tmp_path / "good").take([0]).tolist() == [[0.5, 1.0]]
    change, message = REFUSED[problem]
    parquet.write_table(change(table), path)
    with pytest.raises(InputError, match=message):
        features_from_file(path, store, [0, 1], cache_dir=tmp_path / "cache")
    assert not list(tmp_path.glob("cache/teachers/*"))


def test_no_parquet_file_is_refused(toy, embed, store_of, crystals, tmp_path):
    store = store_of({"Cu": crystals["Cu"]})
    _, path = embed()
    written = path.read_bytes()
    for damaged in (written[:-50], written[: len(written) // 2], b"PAR1" + b"\xff" * 200 + written[204:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not a Parquet file, or is damaged"):
            features_from_file(path, store, [0], cache_dir=tmp_path)
    (tmp_path / "text.parquet").write_text("id,atom\n")
    with pytest.raises(InputError, match="is not a Parquet file, or is damaged"):
        features_from_file(tmp_path / "text.parquet", store, [0], cache_dir=tmp_path)
    with pytest.raises(InputError, match="is not a file; crysmm embed writes files of features"):
        features_from_file(tmp_path / "missing.parquet", store, [0], cache_dir=tmp_path)


def test_a_file_of_another_width_than_its_teacher_is_refused(toy, embed, store_of, crystals, tmp_path):
    _, path = embed()
    table = parquet.read_table(path).drop_columns(["structure"])  # which rounding in the files has changed
    features = pa.array([row[:3] for row in table.column("features").to_pylist()])
    narrow = table.set_column(table.column_names.index("features"), "features", features)
    parquet.write_table(narrow.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(InputError, match="has 3 features per atom, and toy:5, named in it, has 5"):
        features_from_file(path, store_of({"Cu": crystals["Cu"]}), [0], cache_dir=tmp_path)


def test_the_structure_is_part_of_the_file(toy, embed, store_of, crystals, tmp_path):
    _, path = embed()
    copper = crystals["Cu"]
    strained = Crystal(copper.lattice * 1.01, copper.frac_coords, copper.atomic_numbers)
    with pytest.raises(InputError, match="another structure under the id Cu; run crysmm embed again"):
        features_from_file(path, store_of({"Cu": strained}), [0], cache_dir=tmp_path / "cache")
