"""How far a crystal is from those a network has learned from, in the network's own eyes.

The distance is that of the pooled embedding to its nearest training crystals (Janet et al., Chem. Sci. 10, 7913
(2019)). What is far is told by the validation crystals, which come from where the training crystals come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from crysmm.data.store import Store

MOST_KEPT = 1000  # training crystals whose embeddings are kept in the model folder
N_NEAREST = 5  # whose mean distance counts
ROWS_AT_ONCE = 4096  # of which the distances are in memory
FAR = 99.0  # percentile of the distance from which a crystal is called far


class TrainingCrystal(NamedTuple):
    """Which training crystal it is: its id in the input, and its reduced formula."""

    id: str
    formula: str


class Neighbor(NamedTuple):
    """A training crystal, and how far its embedding is from that of a crystal asked for."""

    crystal: TrainingCrystal
    distance: float


@dataclass(frozen=True, eq=False)
class Neighbors(Sequence[list[Neighbor]]):
    """The nearest training crystals of each of some crystals, nearest first; made where one is asked for by its row.

    Args:
        crystals: the training crystals.
        distances: ``[n, n_nearest]``; those that are inf are left out.
        rows: ``[n, n_nearest]``, of ``crystals``.
    """

    crystals: Sequence[TrainingCrystal]
    distances: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        """Number of crystals."""
        return len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        """Those of one crystal."""
        pairs = zip(self.distances[row].tolist(), self.rows[row].tolist(), strict=True)
        return [Neighbor(self.crystals[place], distance) for distance, place in pairs if distance < np.inf]


@dataclass(frozen=True)
class Domain:
    """Where training crystals lie, and how far from them validation crystals do.

    Args:
        embeddings: ``[n_kept, d]`` float32 pooled embeddings of training crystals.
        validation_distances: ``[n_val]`` as :meth:`distances` gives them, ascending.
        crystals: which training crystals they are; None where a model folder does not say.
    """

    embeddings: np.ndarray
    validation_distances: np.ndarray
    crystals: Sequence[TrainingCrystal] | None = None

    @classmethod
    def of(
        cls, training: np.ndarray, validation: np.ndarray, crystals: Sequence[TrainingCrystal] | None = None
    ) -> Domain:
        """From the embeddings ``[n, d]`` of training crystals to keep, and of all validation crystals."""
        kept = cls(training.astype(np.float32), np.empty(0))
        return cls(kept.embeddings, np.sort(kept.distances(validation)), crystals)

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """``[n]`` mean distances of embeddings ``[n, d]`` from the nearest training crystals; inf where not finite."""
        return self.nearest(embeddings)[0].mean(axis=1)

    def nearest(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances ``[n, n_nearest]`` from the nearest training crystals, ascending, and the rows of these.

        Where an embedding is not finite, no crystal is near: the distances are inf.
        """
        distances, rows = self._nearest(embeddings, min(N_NEAREST, len(self.embeddings)))
        distances[~np.isfinite(embeddings).all(axis=1)] = np.inf
        return distances, rows

    def neighbors(self, distances: np.ndarray, rows: np.ndarray) -> Neighbors | None:
        """By name what :meth:`nearest` gives; None where the names are not known."""
        return None if self.crystals is None else Neighbors(self.crystals, distances, rows)

    def percentiles(self, distances: np.ndarray) -> np.ndarray:
        """``[n]`` percentages of the validation crystals that are nearer than these distances."""
        return 100 * np.searchsorted(self.validation_distances, distances) / len(self.validation_distances)

    def widths(self, distances: np.ndarray) -> np.ndarray:
        """``[n]``: how wide intervals are at these distances; 1 among the training crystals, 2 as far as is usual."""
        return 1 + distances / self._usual if self._usual else np.ones(len(distances))

    def _nearest(self, embeddings: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """So many distances, ascending, and rows of training crystals: all are compared, trees gain nothing here."""
        found = [
            torch.cdist(some, self._training, compute_mode="donot_use_mm_for_euclid_dist").topk(count, largest=False)
            for some in torch.tensor(embeddings, dtype=torch.float64).split(ROWS_AT_ONCE)
        ]
        return torch.cat([part.values for part in found]).numpy(), torch.cat([part.indices for part in found]).numpy()

    @cached_property
    def _training(self) -> torch.Tensor:
        return torch.tensor(self.embeddings, dtype=torch.float64)

    @cached_property
    def _usual(self) -> float:
        """Median distance of a training crystal from its nearest others; 0 where there are none."""
        n_others = min(N_NEAREST, len(self.embeddings) - 1)
        if not n_others:
            return 0.0
        distances, _ = self._nearest(self.embeddings, n_others + 1)
        return float(np.median(distances[:, 1:].mean(axis=1)))  # the nearest is the crystal itself


def rows_to_keep(rows: Sequence[int], seed: int) -> list[int]:
    """At most ``MOST_KEPT`` of the training rows, drawn by the seed, in their order."""
    if len(rows) <= MOST_KEPT:
        return list(rows)
    chosen = np.random.default_rng(seed).choice(len(rows), MOST_KEPT, replace=False)
    return [rows[place] for place in sorted(chosen)]


def training_crystals(store: Store, rows: Sequence[int]) -> list[TrainingCrystal]:
    """Which crystals some rows of a store are."""
    return [TrainingCrystal(store.ids[row], store.formulas[row]) for row in rows]
