"""Which crystals make a batch, and how processes share them."""

import pickle

import numpy as np
import pytest
import torch

from crysmm.config import GraphSettings
from crysmm.data.loader import BatchSampler, StoreDataset, make_loader
from crysmm.data.store import build_store
from crysmm.io.source import ReadingOptions
from crysmm.io.table import RecordsTable

TRIPLETS = np.array([5, 1, 9, 2, 2, 30, 4, 4, 1, 1])
ROWS = np.arange(10) + 100


def shares(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def rows_of(sampler, epoch=0):
    return [share.rows.tolist() for share in shares(sampler, epoch)]


def test_in_order_by_count_with_a_last_partial_batch():
    sampler = BatchSampler(ROWS, TRIPLETS, batch_size=4)
    assert rows_of(sampler) == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109]]
    assert sampler.n_steps(0) == 3


def test_in_order_by_budget():
    """At most 10 triplets; the crystal with 30 is alone; at most 3 crystals."""
    sampler = BatchSampler(ROWS, TRIPLETS, batch_size=3, max_triplets=10)
    assert rows_of(sampler) == [[100, 101], [102], [103, 104], [105], [106, 107, 108], [109]]


@pytest.mark.parametrize("budget", [None, 1, 10, 1000])
def test_every_crystal_comes_once_an_epoch(budget):
    sampler = BatchSampler(ROWS, TRIPLETS, batch_size=3, max_triplets=budget, seed=1)
    for epoch in range(5):
        batches = rows_of(sampler, epoch)
        assert sorted(row for batch in batches for row in batch) == ROWS.tolist()
        assert sampler.n_steps(epoch) == len(batches)
        if budget is not None:
            sizes = [TRIPLETS[np.array(batch) - 100].sum() for batch in batches]
            assert all(size <= budget or len(batch) == 1 for size, batch in zip(sizes, batches, strict=True))


@pytest.mark.parametrize("budget", [None, 10])
def test_no_crystals_make_no_batch(budget):
    sampler = BatchSampler([], np.array([]), batch_size=3, max_triplets=budget)
    assert shares(sampler) == []
    assert sampler.n_steps(0) == 0


def test_the_order_follows_from_seed_and_epoch_alone():
    first, again = (BatchSampler(ROWS, TRIPLETS, 3, seed=7) for _ in range(2))
    other = BatchSampler(ROWS, TRIPLETS, 3, seed=8)
    assert rows_of(first, 4) == rows_of(again, 4)
    assert rows_of(first, 4) != rows_of(first, 5)
    assert rows_of(first, 4) != rows_of(other, 4)


@pytest.mark.parametrize("world_size", [2, 3, 5])
@pytest.mark.parametrize("budget", [None, 10])
def test_processes_share_each_global_batch(world_size, budget):
    whole = BatchSampler(ROWS, TRIPLETS, 4, budget, seed=3).global_batches(epoch=2)
    parts = [
        shares(BatchSampler(ROWS, TRIPLETS, 4, budget, seed=3, rank=rank, world_size=world_size), epoch=2)
        for rank in range(world_size)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for step, batch in enumerate(whole):
        of_step = [part[step] for part in parts]
        counted = [row for share in of_step for row in share.rows[: share.n_crystals].tolist()]
        assert sorted(counted) == sorted(batch.tolist())
        assert all(len(share.rows) > 0 for share in of_step)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_weights_make_the_mean_of_processes_the_mean_over_the_batch(world_size):
    """With ``value`` as the loss of each crystal; a process without a crystal counts nothing."""
    value = np.random.default_rng(0).normal(size=200)
    samplers = [BatchSampler(ROWS, TRIPLETS, 4, rank=rank, world_size=world_size) for rank in range(world_size)]
    for batch, of_step in zip(samplers[0].global_batches(0), zip(*samplers, strict=True), strict=True):
        mean = np.mean([value[share.rows].mean() * share.weight for share in of_step])
        assert mean == pytest.approx(value[batch].mean(), rel=1e-12)


@pytest.fixture(scope="module")
def store(crystals, tmp_path_factory):
    records = [
        {
            "id": name,
            "y": float(len(crystal)),
            "lattice_mat": crystal.lattice.tolist(),
            "frac_coords": crystal.frac_coords.tolist(),
            "elements": crystal.elements,
        }
        for name, crystal in crystals.items()
    ]
    source = RecordsTable(records, ReadingOptions(target_key="y"))
    return build_store(source, GraphSettings(), cache_dir=tmp_path_factory.mktemp("cache"), jobs=1, progress=False)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_ids_and_targets_travel_with_the_crystals(store, crystals, num_workers, merge):
    sampler = BatchSampler(range(len(store)), store.n_triplets, 5, seed=0)
    loader = make_loader(store, sampler, num_workers=num_workers, merge=merge)
    for epoch in range(2):  # workers live on from epoch to epoch
        sampler.set_epoch(epoch)
        met = []
        for share in loader:
            batch = share.batch
            assert [store.ids[row] for row in share.rows] == batch.ids
            assert batch.targets[:, 0].tolist() == [len(crystals[name]) for name in batch.ids]
            assert batch.n_atoms.tolist() == [len(crystals[name]) for name in batch.ids]
            assert (batch.merged is not None) == merge
            met += batch.ids
        assert sorted(met) == sorted(store.ids)
        assert met != store.ids


def test_dataset_survives_pickling(store):
    share = next(iter(BatchSampler(range(3), store.n_triplets[:3], 3)))
    dataset = StoreDataset(store)
    reopened = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    batch, again = dataset[share].batch, reopened[share].batch
    assert again.ids == batch.ids
    assert torch.equal(again.bond_vectors, batch.bond_vectors)
