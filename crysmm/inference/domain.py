"""Distance of a crystal from the training crystals, between the pooled embeddings of the network.

The distance is the mean over the nearest training crystals (Janet et al., Chem. Sci. 10, 7913 (2019)). The validation
crystals, drawn from the same source as the training crystals, show which distances are usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

MOST_EMBEDDINGS = 1000  # training crystals whose embeddings are kept in the model folder
N_NEAREST = 5  # training crystals that a distance is the mean over; several, so that no single one decides it
ROWS_AT_ONCE = 4096  # embeddings compared with the training crystals at once, which bounds the memory
FAR = 99.0  # percentile of the distance from which a crystal is called far


class TrainingCrystal(NamedTuple):
    """Id of a training crystal in the input, its reduced formula, and its targets, None where missing.

    Models of earlier versions do not keep the targets.
    """

    id: str
    formula: str
    targets: tuple[float | None, ...] = ()


class Neighbor(NamedTuple):
    """A training crystal, and the distance of its embedding from that of a predicted crystal."""

    crystal: TrainingCrystal
    distance: float


@dataclass(frozen=True, eq=False)
class Neighbors(Sequence[list[Neighbor]]):
    """Nearest training crystals of each of several crystals, nearest first.

    A list of neighbors is made when it is read, as a table of predictions needs none.

    Args:
        crystals: Training crystals.
        distances: Distances, ``[n, n_nearest]``; entries that are inf are left out.
        rows: Rows of ``crystals``, ``[n, n_nearest]``.
    """

    crystals: Sequence[TrainingCrystal]
    distances: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        """Number of predicted crystals."""
        return len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        """Neighbors of one crystal, or of each in a slice."""
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        pairs = zip(self.rows[row].tolist(), self.distances[row].tolist(), strict=True)
        return [Neighbor(self.crystals[place], distance) for place, distance in pairs if distance < np.inf]


@dataclass(frozen=True)
class Domain:
    """Embeddings of training crystals, and the distances of the validation crystals from them.

    Args:
        embeddings: Pooled embeddings of the training crystals that are kept, float32 ``[n_kept, d]``.
        validation_distances: Distances of the validation crystals, ascending, ``[n_val]``.
        crystals: Ids, formulas and targets of the training crystals, in the order of ``embeddings``.
    """

    embeddings: np.ndarray
    validation_distances: np.ndarray
    crystals: Sequence[TrainingCrystal]

    @classmethod
    def fit(cls, training: np.ndarray, crystals: Sequence[TrainingCrystal], validation: np.ndarray) -> Domain:
        """Make a domain from embeddings.

        Args:
            training: Embeddings of the training crystals to keep, ``[n_kept, d]``.
            crystals: Ids, formulas and targets of these crystals.
            validation: Embeddings of all validation crystals, ``[n_val, d]``.
        """
        # Rounded before the distances are taken, so that they are those to the embeddings in the model folder.
        kept = cls(training.astype(np.float32), np.empty(0), crystals)
        return cls(kept.embeddings, np.sort(kept.distances(validation)), crystals)

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the mean distances of embeddings ``[n, d]`` from the nearest training crystals, ``[n]``."""
        return self.nearest(embeddings)[0].mean(axis=1)

    def nearest(self, embeddings: np.ndarray, n_nearest: int = N_NEAREST) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest training crystals.

        Args:
            embeddings: Pooled embeddings, ``[n, d]``.
            n_nearest: Number of training crystals to find, at most; all of them where fewer are kept.

        Returns:
            Distances, ascending, and the rows of the training crystals, ``[n, n_nearest]`` each. Distances are inf for
            embeddings that are not finite.
        """
        count = min(n_nearest, len(self.embeddings))
        # All pairs are compared: trees gain nothing for a thousand points in so many dimensions. Distances by matrix
        # products would lose half of the digits for embeddings that are close together.
        found = [
            torch.cdist(some, self._training, compute_mode="donot_use_mm_for_euclid_dist").topk(count, largest=False)
            for some in torch.tensor(embeddings, dtype=torch.float64).split(ROWS_AT_ONCE)
        ]
        distances, rows = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        distances[~np.isfinite(embeddings).all(axis=1)] = np.inf
        return distances, rows

    def percentiles(self, distances: np.ndarray) -> np.ndarray:
        """Return the percentage of the validation crystals that are nearer, for each of ``[n]`` distances."""
        # An equal distance is not nearer, also where it is rounded otherwise in another batch.
        nearer = np.searchsorted(self.validation_distances, distances * (1 - 1e-9))
        return 100 * nearer / len(self.validation_distances)

    def relative(self, distances: np.ndarray) -> np.ndarray:
        """Return distances ``[n]`` in units of the usual distance between training crystals; 1 if that is 0."""
        return distances / self._usual_distance if self._usual_distance else np.ones(len(distances))

    @cached_property
    def _training(self) -> torch.Tensor:
        """Training embeddings in the precision of distances; converted once, as every batch is compared with them."""
        return torch.tensor(self.embeddings, dtype=torch.float64)

    @cached_property
    def _usual_distance(self) -> float:
        """Median distance of a training crystal from its nearest others; 0 if there are none."""
        n_others = min(N_NEAREST, len(self.embeddings) - 1)
        if not n_others:
            return 0.0
        distances, _ = self.nearest(self.embeddings, n_others + 1)
        return float(np.median(distances[:, 1:].mean(axis=1)))  # the first column is the crystal itself


def rows_to_keep(rows: Sequence[int]) -> list[int]:
    """Draw at most ``MOST_EMBEDDINGS`` of the training rows, the same for all networks on a split, in their order."""
    if len(rows) <= MOST_EMBEDDINGS:
        return list(rows)
    # Not by the seed of a run: the members of an ensemble have different ones, and their embeddings stand side by side.
    chosen = np.random.default_rng(0).choice(len(rows), MOST_EMBEDDINGS, replace=False)
    return [rows[place] for place in sorted(chosen)]
