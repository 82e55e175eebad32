"""Whether a ranking of features means anything: without its top features, is the model worse than without others?

Features are removed by setting them to zero in every atom. Where targets are known the error is the mean absolute error
(for classes the mean probability missing from the true class); where they are not, it is the mean change of the
prediction, which says how much the model uses a feature and not whether that helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.explain.attribution import Explainer

REMOVED = (5, 10, 20)
DRAWS = 20
ENOUGH = 0.95  # share of the random draws that the top features must beat
SEED = 0


@dataclass(frozen=True)
class Removal:
    """The error without so many features.

    Args:
        n_removed: how many.
        top: error without the top features of the ranking.
        random: mean error without as many random ones.
        random_std: deviation of that over the draws.
        beaten: share of the draws with a smaller error than ``top``.
    """

    n_removed: int
    top: float
    random: float
    random_std: float
    beaten: float


@dataclass(frozen=True)
class Check:
    """The check of one ranking.

    Args:
        ranking: what the features are ranked by.
        measure: what the error is.
        n_crystals: in how many crystals.
        n_candidates: features that some atom of them has; random ones are drawn among these.
        n_draws: random draws for each number of features.
        error: with all features.
        removals: without some.
    """

    ranking: str
    measure: str
    n_crystals: int
    n_candidates: int
    n_draws: int
    error: float
    removals: tuple[Removal, ...]

    @property
    def holds(self) -> bool:
        """Whether the top features beat nearly all random ones, however many are removed."""
        return bool(self.removals) and all(removal.beaten >= ENOUGH for removal in self.removals)

    def verdict(self) -> str:
        """A sentence with the numbers."""
        if not self.removals:
            return f"The ranking by {self.ranking} cannot be checked: the atoms have too few features to choose among."
        removals = "; ".join(
            f"without the top {one.n_removed} {one.top:.4g}, without {one.n_removed} random ones {one.random:.4g} +- "
            f"{one.random_std:.2g} (below the top's in {one.beaten:.0%} of {self.n_draws} draws)"
            for one in self.removals
        )
        means = "means something" if self.holds else "does not mean much"
        return f"The ranking by {self.ranking} {means}: {self.measure} with all features {self.error:.4g}; {removals}."

    def to_dict(self) -> dict[str, Any]:
        """For ``explanation.json``."""
        return {**asdict(self), "holds": self.holds, "verdict": self.verdict()}


class ErrorMeasure:
    """The error of predictions, one number a crystal.

    Args:
        scaler: says whether they are values or probabilities.
        column: the explained target or class.
        with_targets: whether the batches hold targets.
        name: of the explained quantity.
    """

    def __init__(self, scaler: TargetScaler, column: int, with_targets: bool, name: str):
        self._scaler, self._column, self._with_targets = scaler, column, with_targets
        if not with_targets:
            self.name = f"mean change of {name} (no targets are known)"
        elif scaler.classes is not None:
            self.name = "mean probability missing from the true class"
        else:
            self.name = f"mean absolute error of {name}"

    def __call__(self, predictions: np.ndarray, unchanged: np.ndarray, targets: np.ndarray | None) -> np.ndarray:
        """``[n_crystals]`` from ``[n_crystals, n_columns]`` predictions, and those with all features."""
        if not self._with_targets or targets is None:
            return np.abs(predictions - unchanged)[:, self._column]
        if self._scaler.classes is not None:
            return 1 - np.take_along_axis(predictions, self._scaler.class_indices(targets)[:, None], axis=1)[:, 0]
        return np.abs(predictions - targets)[:, self._column]


def check_rankings(
    explainer: Explainer,
    batches: Callable[[], Iterator[CrystalBatch]],
    rankings: dict[str, np.ndarray],
    candidates: np.ndarray,
    measure: ErrorMeasure,
) -> list[Check]:
    """Remove the top features of each ranking, and random ones, from every crystal.

    Args:
        explainer: predicts.
        batches: gives all crystals, batch by batch.
        rankings: by what they rank: columns of the atom features, the most important first.
        candidates: columns that some atom of the crystals has; others are left out of the rankings.
        measure: the error.
    """
    numbers = [number for number in REMOVED if 2 * number <= len(candidates)]
    generator = np.random.default_rng(SEED)
    draws = [generator.choice(candidates, number, replace=False) for number in numbers for _ in range(DRAWS)]
    tops = [ranking[np.isin(ranking, candidates)][:number] for ranking in rankings.values() for number in numbers]
    error, errors, n_crystals = _mean_errors(explainer, batches(), [*draws, *tops], measure)
    random = errors[: len(draws)].reshape(len(numbers), DRAWS)
    top = errors[len(draws) :].reshape(len(rankings), len(numbers))
    return [
        Check(
            name,
            measure.name,
            n_crystals,
            len(candidates),
            DRAWS,
            error,
            tuple(_removal(*values) for values in zip(numbers, top[row].tolist(), random, strict=True)),
        )
        for row, name in enumerate(rankings)
    ]


def _removal(n_removed: int, top: float, random: np.ndarray) -> Removal:
    return Removal(n_removed, top, float(random.mean()), float(random.std()), float((random < top).mean()))


def _mean_errors(
    explainer: Explainer, batches: Iterator[CrystalBatch], removals: Sequence[np.ndarray], measure: ErrorMeasure
) -> tuple[float, np.ndarray, int]:
    """The mean error with all features, ``[n_removals]`` without some, and the number of crystals."""
    error, errors, n_crystals = 0.0, np.zeros(len(removals)), 0
    for batch in batches:
        targets = None if batch.targets is None else batch.targets.numpy()
        unchanged = explainer.predict(batch)
        error += float(measure(unchanged, unchanged, targets).sum())
        errors += [measure(explainer.predict(batch, removed), unchanged, targets).sum() for removed in removals]
        n_crystals += len(batch)
    return error / n_crystals, errors / n_crystals, n_crystals
