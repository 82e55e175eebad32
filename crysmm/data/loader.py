"""From a store to batches: which crystals make a step, and which of them this process computes.

A step's crystals (the global batch) depend on the seed and the epoch alone. Processes that train together share
each global batch out among them, so that their number changes neither the steps nor, but for rounding, the result of
learning a property. In pre-training each process draws its own corruption, and losses over a batch are over its share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from crysmm.data.batch import CrystalBatch

if TYPE_CHECKING:
    from crysmm.data.atom_embeddings import AtomEmbeddings
    from crysmm.data.store import Store


@dataclass(frozen=True)
class IndexShare:
    """The rows of the store one process reads for a step.

    Args:
        rows: never empty.
        n_crystals: how many of them count: all, or none where a process had no crystal left and repeats one.
        weight: factor of this process' mean loss, such that the mean of the processes' gradients is the gradient of
            the mean over the global batch.
    """

    rows: np.ndarray
    n_crystals: int
    weight: float


@dataclass(frozen=True, eq=False)
class Share:
    """One process' part of a step; ``rows``, ``n_crystals`` and ``weight`` as in :class:`IndexShare`."""

    batch: CrystalBatch
    rows: np.ndarray
    n_crystals: int
    weight: float

    def to(self, device: torch.device | str) -> Share:
        """The same share with its batch on a device."""
        return replace(self, batch=self.batch.to(device))

    def pin_memory(self) -> Share:
        """The same share with its batch in pinned memory."""
        return replace(self, batch=self.batch.pin_memory())


def batch_ends(costs: np.ndarray, batch_size: int, budget: float | None) -> list[int]:
    """Where each batch of crystals in their order ends.

    Args:
        costs: what each crystal costs.
        batch_size: most crystals in a batch.
        budget: most that a batch may cost; a crystal that costs more is a batch of its own.
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
    """Shares of the steps of an epoch, by number of crystals and by a budget of triplets.

    It has no length: with a budget the number of steps differs from epoch to epoch (see :meth:`n_steps`).

    Args:
        rows: the rows of the store to go through.
        n_triplets: line graph edges of each of them.
        batch_size: most crystals in a global batch.
        max_triplets: most line graph edges in a global batch; a crystal with more is a batch of its own.
        seed: of the order, a new one every epoch; ``None`` keeps the order of ``rows``.
        rank: which of the processes this is.
        world_size: number of processes.
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
        """Choose the epoch, from 0, whose order is drawn next; Lightning calls this."""
        self.epoch = epoch

    def n_steps(self, epoch: int) -> int:
        """Number of steps in an epoch."""
        if self.max_triplets is None:
            return -(-len(self.rows) // self.batch_size)
        return len(batch_ends(self.n_triplets[self._order(epoch)], self.batch_size, self.max_triplets))

    def global_batches(self, epoch: int) -> list[np.ndarray]:
        """Rows of the store of each step of an epoch, all processes together."""
        order = self._order(epoch)
        ends = batch_ends(self.n_triplets[order], self.batch_size, self.max_triplets)
        return np.split(self.rows[order], ends)[: len(ends)]

    def __iter__(self) -> Iterator[IndexShare]:
        """This process' share of each step of the epoch chosen."""
        for batch in self.global_batches(self.epoch):
            mine = batch[self.rank :: self.world_size]
            if len(mine):
                yield IndexShare(mine, len(mine), len(mine) * self.world_size / len(batch))
            else:
                yield IndexShare(batch[:1], 0, 0.0)

    def _order(self, epoch: int) -> np.ndarray:
        if self.seed is None:
            return np.arange(len(self.rows))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))


class StoreDataset(Dataset[Share]):
    """A store read share by share; picklable, so that worker processes open it themselves.

    Args:
        store: where the crystals are.
        embeddings: a teacher's, put into every batch; by default none.
        texts: a row a crystal, embeddings or tokens of descriptions, put into every batch; by default none.
        merge: see :func:`~crysmm.data.batch.make_batch`.
    """

    def __init__(
        self,
        store: Store,
        embeddings: AtomEmbeddings | None = None,
        texts: np.ndarray | None = None,
        merge: bool = False,
    ):
        self.store = store
        self.merge = merge
        self.embeddings = embeddings
        self.texts = texts

    def __getitem__(self, share: IndexShare) -> Share:
        """The crystals of a share as one batch."""
        batch = self.store.batch(share.rows.tolist(), merge=self.merge)
        if self.embeddings is not None:
            batch = replace(batch, teacher_nodes=torch.from_numpy(self.embeddings.take(share.rows)))
        if self.texts is not None:
            batch = replace(batch, texts=torch.from_numpy(self.texts[share.rows]))
        return Share(batch, share.rows, share.n_crystals, share.weight)


def make_loader(
    store: Store,
    sampler: BatchSampler,
    *,
    embeddings: AtomEmbeddings | None = None,
    texts: np.ndarray | None = None,
    merge: bool = False,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Batches of a store in a sampler's order.

    Args:
        store: where the crystals are.
        sampler: which of them make a batch.
        embeddings: a teacher's, to be put into the batches.
        texts: embeddings or tokens of descriptions, to be put into the batches.
        merge: see :func:`~crysmm.data.batch.make_batch`.
        num_workers: processes that make batches; they live as long as the loader.
        pin_memory: put batches in pinned memory, for copying to a GPU.
    """
    return DataLoader(
        StoreDataset(store, embeddings, texts, merge),
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
    )
