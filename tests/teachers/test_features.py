"""Features are those of the teacher, computed once for each structure, whatever stops the computation."""

import os
import pickle
import resource
import signal
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.building import map_tasks
from crysmm.data.store import build_store
from crysmm.errors import InputError
from crysmm.io.inputs import StructuresSource
from crysmm.teachers import features as module
from crysmm.teachers.features import compute_features, embed_each, write_part


@pytest.fixture
def known(crystals):
    """The crystals that the toy teacher knows."""
    return [crystal for crystal in crystals.values() if "Cs" not in crystal.elements]


@pytest.fixture
def store_of(tmp_path):
    """A function that makes a store of crystals."""

    def build(crystals):
        source = StructuresSource(list(crystals))
        return build_store(source, GraphSettings(), cache_dir=tmp_path / "stores", jobs=1, progress=False)

    return build


@pytest.fixture
def compute(tmp_path):
    """A function that computes the features of a store's crystals."""

    def run(store, name="toy", cache="cache", **options):
        rows = range(len(store))
        return compute_features(store, rows, name, **{"cache_dir": tmp_path / cache, "progress": False} | options)

    return run


def files_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.safetensors")}


def calls_of(monkeypatch, teacher, act=lambda n_calls: None):
    """The crystals of each call of a teacher from now on."""
    embed, calls = type(teacher).embed, []

    def counted(self, crystals):
        calls.append(len(crystals))
        act(len(calls))
        return embed(self, crystals)

    monkeypatch.setattr(type(teacher), "embed", counted)
    return calls


def test_rows_in_any_order(toy, store_of, compute, known, monkeypatch):
    monkeypatch.setattr(module, "ATOMS_PER_BATCH", 8)
    monkeypatch.setattr(module, "ATOMS_PER_PART", 16)
    features, failed = compute(store_of(known))
    assert failed == {}
    for rows in ([3], [5, 0, 5, 2], list(range(len(known)))[::-1]):
        found = features.take(rows)
        assert found.dtype == np.float32
        assert found == pytest.approx(np.concatenate([toy.embed([known[row]]) for row in rows]), rel=1e-3)
    assert features.take([]).shape == (0, toy.width)


def test_equal_structures_are_embedded_once(toy, store_of, compute, known, monkeypatch):
    calls = calls_of(monkeypatch, toy)
    first, _ = compute(store_of(known[:4]))
    again, _ = compute(store_of([*known[2:6], known[3]]))
    assert calls == [4, 2]
    assert np.array_equal(again.take([0, 1, 4]), first.take([2, 3, 3]))


def test_batches_are_bounded_by_atoms(toy, store_of, compute, known, monkeypatch):
    monkeypatch.setattr(module, "ATOMS_PER_BATCH", 6)
    calls = calls_of(monkeypatch, toy)
    compute(store_of(known))
    starts = np.cumsum([0, *calls])
    sizes = [sum(map(len, known[start:end])) for start, end in pairwise(starts)]
    assert starts[-1] == len(known)
    assert all(size <= 6 or n_crystals == 1 for size, n_crystals in zip(sizes, calls, strict=True))
    assert max(calls) > 1


def test_a_killed_computation_resumes_to_the_same_files(toy, store_of, compute, known, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "ATOMS_PER_BATCH", 8)
    monkeypatch.setattr(module, "ATOMS_PER_PART", 12)
    store = store_of(known)
    expected, _ = compute(store, cache="whole")

    def compute_and_die():
        calls_of(monkeypatch, toy, lambda n_calls: n_calls == 4 and os.kill(os.getpid(), signal.SIGKILL))
        compute(store)

    process = get_context("fork").Process(target=compute_and_die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = files_in(tmp_path / "cache")
    whole = files_in(tmp_path / "whole")
    assert 0 < len(left) < len(whole)
    calls = calls_of(monkeypatch, toy)
    features, _ = compute(store)
    assert 0 < sum(calls) < len(known)
    assert files_in(tmp_path / "cache") == whole
    assert np.array_equal(features.take(range(len(known))), expected.take(range(len(known))))


def test_a_damaged_part_is_computed_again(toy, store_of, compute, known, tmp_path):
    store = store_of(known)
    expected = compute(store)[0].take([2])
    (path,) = tmp_path.joinpath("cache").rglob("*.safetensors")
    written = path.read_bytes()
    for damaged in (b"", written[:-100], b"\xff" * len(written), written.replace(b'"F16"', b'"I16"')):
        path.write_bytes(damaged)
        assert np.array_equal(compute(store)[0].take([2]), expected)
        assert path.read_bytes() == written


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_part(tmp_path, {b"12345678": np.zeros((9, 99), dtype=np.float16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_other_layers_have_other_features(toy, store_of, compute, known):
    store = store_of(known)
    every, few = compute(store)[0], compute(store, "toy:3")[0]
    assert (every.width, few.width) == (5, 3)
    assert every.source != few.source
    assert np.array_equal(every.take([1])[:, :3], few.take([1]))


def test_several_workers_give_the_same(toy, store_of, compute, known, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "ATOMS_PER_BATCH", 8)
    compute(store_of(known))
    monkeypatch.setattr(module, "ATOMS_WITHOUT_WORKERS", 0)
    assert list(map_tasks(len, ["a", "bc"], 2)) == [1, 2]  # as where the store was built just before
    compute(store_of(known), cache="by two", jobs=2)
    assert files_in(tmp_path / "by two") == files_in(tmp_path / "cache")


def test_a_crystal_that_cannot_be_embedded_is_named(toy, store_of, compute, crystals):
    store = store_of(crystals.values())
    features, failed = compute(store)
    (row,) = failed
    assert (store.formulas[row], failed[row]) == ("ClCs", "KeyError: 'Cs'")
    assert len(features.take([other for other in range(len(store)) if other != row])) == store.n_atoms.sum() - 2


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e6])
def test_features_that_float16_cannot_hold_are_refused(toy, known, monkeypatch, number):
    embed = type(toy).embed
    monkeypatch.setattr(type(toy), "embed", lambda self, some: np.where(embed(self, some) > 60, number, 1.0))
    found = embed_each(toy, known)
    assert {type(result) for result in found} == {str, np.ndarray}
    assert {result for result in found if isinstance(result, str)} == {
        "a feature is not finite, or not in the range of float16"
    }


def test_a_teacher_of_another_shape_is_refused(toy, known):
    toy.width = 6
    with pytest.raises(InputError, match=r"features of shape \(1, 5\), expected \(1, 6\); crysmm.testing"):
        embed_each(toy, known[:1])


def test_statistics(toy, store_of, compute, known):
    features, _ = compute(store_of(known))
    rows = [1, 4, 7]
    mean, deviation = features.statistics(rows)
    assert mean == pytest.approx(features.take(rows).mean(0), rel=1e-5)
    assert deviation == pytest.approx(features.take(rows).std(0), rel=1e-4)
    copper = Crystal(known[0].lattice, known[0].frac_coords, known[0].atomic_numbers)
    assert compute(store_of([copper]))[0].statistics([0])[1].tolist() == [1] * 5  # one atom: nothing varies


def test_another_process_reads_them(toy, store_of, compute, known):
    features, _ = compute(store_of(known))
    expected = features.take([1, 7])
    sent = pickle.dumps(features)
    assert len(sent) < 5000
    assert np.array_equal(pickle.loads(sent).take([1, 7]), expected)  # noqa: S301
