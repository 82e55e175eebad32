"""Own models as teachers: what a direct forward pass gives, on the student's graphs where they are the model's."""

import re

import numpy as np
import pytest
import torch

from crysmm.config import TrainingConfig
from crysmm.data.batch import collate_crystals
from crysmm.data.loader import BatchSampler, make_loader
from crysmm.data.store import build_store
from crysmm.inference import model_teacher as module
from crysmm.inference.model_teacher import ModelTeacher
from crysmm.io.inputs import StructuresSource
from crysmm.teachers.features import Directions
from crysmm.training.teacher import read_features

CPU = torch.device("cpu")


@pytest.fixture(params=["cgcnn", "alignn"])
def teacher(request, save_small_model, tmp_path):
    """The folder of a model and its backbone; its batch norms are far from where they began."""
    network = save_small_model(tmp_path / "teacher", request.param).eval()
    return tmp_path / "teacher", network.backbone


@pytest.fixture
def own_graphs(teacher):
    """The settings of the teacher's graphs."""
    return ModelTeacher(teacher[0])._settings


@pytest.fixture
def store_of(crystals, tmp_path):
    """A function that builds the store of all crystals, two of which have one atom, by graph settings."""

    def build(settings):
        source = StructuresSource(list(crystals.values()))
        return build_store(source, settings, cache_dir=tmp_path / "cache", jobs=1, progress=False)

    return build


@pytest.fixture
def read(teacher, tmp_path):
    """A function that reads the teacher's features of a store's crystals."""
    config = TrainingConfig(cache_dir=tmp_path / "cache", jobs=1, progress=False)
    return lambda store: read_features(str(teacher[0]), store, range(len(store)), config, CPU)[0]


@pytest.fixture
def direct(teacher, crystals, own_graphs):
    """Embeddings of each crystal alone, by the backbone itself."""
    with torch.no_grad():
        return [teacher[1](collate_crystals([crystal], own_graphs)).nodes.numpy() for crystal in crystals.values()]


def test_rows_in_any_order(read, store_of, own_graphs, direct):
    features = read(store_of(own_graphs))
    everything = np.random.default_rng(0).permutation(len(direct)).tolist()
    for rows in (everything, everything[:4], [3], [0, 1], [11, 0, 11]):
        expected = np.concatenate([direct[row] for row in rows])
        assert features.take(rows) == pytest.approx(expected, rel=1e-3, abs=1e-4)
        lengths = np.linalg.norm(expected, axis=1, keepdims=True)
        assert Directions(features).take(rows) == pytest.approx(expected / lengths, abs=1e-3)
    assert len(np.unique(expected.round(3), axis=0)) > 1


def test_graphs_of_the_student_are_not_built_again(read, store_of, own_graphs, monkeypatch):
    store = store_of(own_graphs)
    built = []
    monkeypatch.setattr(module, "collate_crystals", lambda *arguments: built.append(arguments))
    assert read(store).width
    assert not built


def test_a_student_on_other_graphs_is_taught_the_same(read, store_of, own_graphs, direct, monkeypatch):
    other = store_of(own_graphs.model_copy(update={"max_neighbors": 4}))
    features = read(other)
    assert features.take(range(len(other))) == pytest.approx(np.concatenate(direct), rel=1e-3, abs=1e-4)
    monkeypatch.setattr(ModelTeacher, "embed", None)  # they are in the cache
    assert np.array_equal(read(store_of(own_graphs)).take([2, 5]), features.take([2, 5]))


def test_other_weights_or_settings_have_other_features(teacher, save_small_model, tmp_path):
    folder, backbone = teacher
    name = "alignn" if hasattr(backbone, "alignn_layers") else "cgcnn"
    save_small_model(tmp_path / "others" / "teacher", name, cutoff=6.0)
    first, other = ModelTeacher(folder), ModelTeacher(tmp_path / "others" / "teacher")
    assert first.name == other.name
    assert first.checksum != other.checksum
    folder.rename(tmp_path / "moved")
    assert ModelTeacher(tmp_path / "moved").checksum == first.checksum


@pytest.mark.parametrize("max_neighbors", [4, 12])
def test_crystals_too_large_for_the_teacher_are_told(
    teacher, store_of, own_graphs, monkeypatch, tmp_path, max_neighbors
):
    monkeypatch.setattr(module, "memory_limit", lambda device: 1000)
    store = store_of(own_graphs.model_copy(update={"max_neighbors": max_neighbors}))
    config = TrainingConfig(cache_dir=tmp_path / "cache", jobs=1, progress=False)
    _, failed = read_features(str(teacher[0]), store, range(len(store)), config, CPU)
    assert sorted(failed) == list(range(len(store)))
    assert re.match(r"too large: 1 atoms, .* are 0\.977 kB", failed[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loader_puts_them_into_batches(read, store_of, own_graphs, num_workers):
    store = store_of(own_graphs)
    directions = Directions(read(store))
    sampler = BatchSampler(range(len(store)), store.n_triplets, 5, seed=0)
    for share in make_loader(store, sampler, teacher_features=directions, num_workers=num_workers):
        assert share.batch.teacher_features.dtype == torch.float32
        assert np.array_equal(share.batch.teacher_features.numpy(), directions.take(share.rows))
        assert share.batch.to("cpu").double().teacher_features.dtype == torch.float64
    assert next(iter(make_loader(store, sampler))).batch.teacher_features is None
