"""Batching: the crystals in each training step, and the part of them that each process computes.

The crystals in a step (the global batch) depend on seed and epoch only. Processes that train together divide each
global batch among themselves, so their number changes neither the steps nor, up to rounding, the trained property
model. In pre-training each process draws its own corruption, and losses between the crystals of a batch, there and in
the distillation of relations, cover the process' part only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from crysmm.data.batch import CrystalBatch, labels_per_crystal
from crysmm.engines.segments import map_tensors

if TYPE_CHECKING:
    from crysmm.data.atom_rows import AtomRows
    from crysmm.data.store import Store


@dataclass(frozen=True)
class IndexShare:
    """Store rows that one process reads for a step.

    Args:
        rows: Store rows, at least one.
        n_crystals: Number of rows that count: all of them, or 0 if no crystal was left for this process and it
            repeats one to keep in step with the others.
        weight: Factor for the mean loss of this process, so that the mean gradient over processes equals the gradient
            of the mean loss over the global batch.
        global_batch: Store rows that all processes read for the step.
    """

    rows: np.ndarray
    n_crystals: int
    weight: float
    global_batch: np.ndarray


@dataclass(frozen=True, eq=False)
class Share:
    """Part of a step for one process; ``rows``, ``n_crystals`` and ``weight`` as in :class:`IndexShare`."""

    batch: CrystalBatch
    rows: np.ndarray
    n_crystals: int
    weight: float

    def pin_memory(self) -> Share:
        """Return the share with its batch in pinned memory."""
        return replace(self, batch=map_tensors(self.batch, lambda tensor: tensor.pin_memory()))


def batch_ends(costs: np.ndarray, batch_size: int, budget: float | None) -> list[int]:
    """Divide crystals, in order, into batches.

    Args:
        costs: Cost of each crystal.
        batch_size: Largest number of crystals in a batch.
        budget: Largest total cost of a batch; a crystal that exceeds it gets a batch of its own.

    Returns:
        End index of each batch.
    """
    cumulative = np.cumsum(costs)
    ends: list[int] = []
    start = 0
    while start < len(costs):
        end = min(start + batch_size, len(costs))
        if budget is not None:
            limit = cumulative[start] - costs[start] + budget
            end = min(end, max(start + 1, int(np.searchsorted(cumulative, limit, side="right"))))
        ends.append(end)
        start = end
    return ends


class BatchSampler(Sampler[IndexShare]):
    """Sampler of the steps in an epoch, limited by the number of crystals and of triplets.

    It has no length: with a limit on triplets the number of steps differs between epochs (see :meth:`n_steps`).

    Args:
        rows: Store rows to iterate over.
        n_triplets: Line graph edges of each row.
        batch_size: Largest number of crystals in a global batch.
        max_triplets: Largest number of line graph edges in a global batch; a larger crystal gets a batch of its own.
        seed: Seed for shuffling, which differs in each epoch; None keeps the order of ``rows``.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        rows: Sequence[int],
        n_triplets: np.ndarray,
        batch_size: int,
        max_triplets: int | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.rows = np.asarray(rows, dtype=np.int64)
        self.n_triplets = np.asarray(n_triplets, dtype=np.int64)
        self.batch_size = batch_size
        self.max_triplets = max_triplets
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, whose order is drawn next."""
        self.epoch = epoch

    def n_steps(self, epoch: int) -> int:
        """Return the number of steps in an epoch."""
        if self.max_triplets is None:  # known without drawing the order
            return -(-len(self.rows) // self.batch_size)
        return len(self.global_batches(epoch))

    def global_batches(self, epoch: int) -> list[np.ndarray]:
        """Return the store rows of each step in an epoch, for all processes together."""
        if self.seed is None:
            order = np.arange(len(self.rows))
        else:  # a generator for each epoch: any epoch's order is known without those before
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        ends = batch_ends(self.n_triplets[order], self.batch_size, self.max_triplets)
        return np.split(self.rows[order], ends)[: len(ends)]

    def __iter__(self) -> Iterator[IndexShare]:
        """Yield the share of this process in each step of the current epoch."""
        for batch in self.global_batches(self.epoch):
            mine = batch[self.rank :: self.world_size]
            if len(mine):
                yield IndexShare(mine, len(mine), len(mine) * self.world_size / len(batch), batch)
            else:
                yield IndexShare(batch[:1], 0, 0.0, batch)


class StoreDataset(Dataset[Share]):
    """Dataset over a store that is indexed by shares; picklable, so worker processes open the store themselves.

    Args:
        store: Store with the crystals.
        teacher_features: Features of atoms by a teacher to add to each batch.
        texts: Embeddings or tokens of descriptions to add to each batch, one row per crystal.
        potential_features: Features of atoms by a potential to add to each batch.
        merge: True to compute equivalent atoms once; see :func:`~crysmm.data.batch.make_batch`.
    """

    def __init__(
        self,
        store: Store,
        teacher_features: AtomRows | None = None,
        texts: np.ndarray | None = None,
        potential_features: AtomRows | None = None,
        merge: bool = False,
    ):
        self.store = store
        self.merge = merge
        self.teacher_features = teacher_features
        self.texts = texts
        self.potential_features = potential_features

    def __getitem__(self, share: IndexShare) -> Share:
        """Read the crystals of a share as one batch."""
        batch = self.store.batch(share.rows.tolist(), merge=self.merge)
        if batch.targets is not None and len(share.rows) < len(share.global_batch):
            # the loss is a mean over the labels of all processes
            batch = replace(batch, labels_per_crystal=labels_per_crystal(self.store.targets[share.global_batch]))
        if self.teacher_features is not None:
            batch = replace(batch, teacher_features=torch.from_numpy(self.teacher_features.take(share.rows)))
        if self.texts is not None:
            batch = replace(batch, texts=torch.from_numpy(self.texts[share.rows]))
        if self.potential_features is not None:
            batch = replace(batch, potential_features=torch.from_numpy(self.potential_features.take(share.rows)))
        return Share(batch, share.rows, share.n_crystals, share.weight)


def make_loader(
    store: Store,
    sampler: BatchSampler,
    *,
    teacher_features: AtomRows | None = None,
    texts: np.ndarray | None = None,
    potential_features: AtomRows | None = None,
    merge: bool = False,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Create a loader that yields the shares of a sampler as batches.

    Args:
        store: Store with the crystals.
        sampler: Sampler of the rows in each batch.
        teacher_features: Features of atoms by a teacher to add to each batch.
        texts: Embeddings or tokens of descriptions to add to each batch.
        potential_features: Features of atoms by a potential to add to each batch.
        merge: True to compute equivalent atoms once; see :func:`~crysmm.data.batch.make_batch`.
        num_workers: Number of worker processes, which live as long as the loader.
        pin_memory: True to put batches in pinned memory for faster copies to a GPU.
    """
    return DataLoader(
        StoreDataset(store, teacher_features, texts, potential_features, merge),
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
    )
