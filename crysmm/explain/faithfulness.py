"""Test of a ranking of features: does the error rise more without its top features than without random ones?

Features are removed by setting them to zero in every atom. With known targets, the error is the mean absolute error, or
for classes 1 minus the mean probability of the true class. Without targets, it is the mean absolute change of the
prediction, which shows how much the model uses a feature, but not if the feature helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.explain.attribution import Explainer

REMOVED = (5, 10, 20)  # numbers of features
DRAWS = 20  # of random features, for each number
ENOUGH = 0.95  # fraction of the random draws that the top features must beat
SEED = 0


@dataclass(frozen=True)
class Removal:
    """Error after a number of features is removed.

    Args:
        n_removed: Number of features.
        top: Error without the top features of the ranking.
        random: Mean error without as many random features.
        random_std: Standard deviation of that error over the draws.
        beaten: Fraction of the draws with a smaller error than ``top``.
    """

    n_removed: int
    top: float
    random: float
    random_std: float
    beaten: float


@dataclass(frozen=True)
class Check:
    """Result of the test of one ranking.

    Args:
        ranking: Quantity that the features are ranked by.
        measure: Definition of the error.
        n_crystals: Number of crystals that the error is averaged over.
        n_candidates: Number of features that occur in these crystals; random ones are drawn from them.
        n_draws: Number of random draws for each number of features.
        error: Error with all features.
        removals: Errors with features removed; empty if there are too few features.
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
        """True if the top features beat nearly all random ones, however many are removed."""
        return bool(self.removals) and all(removal.beaten >= ENOUGH for removal in self.removals)

    def verdict(self) -> str:
        """Return the result as a sentence."""
        if not self.removals:
            return f"The ranking by {self.ranking} cannot be checked: the crystals have too few different features."
        removals = "; ".join(
            f"without the top {one.n_removed} {one.top:.4g}, without {one.n_removed} random ones {one.random:.4g} +- "
            f"{one.random_std:.2g} (below the top's in {one.beaten:.0%} of {self.n_draws} draws)"
            for one in self.removals
        )
        result = "is faithful to the model" if self.holds else "is not faithful to the model"
        return f"The ranking by {self.ranking} {result}: {self.measure} with all features {self.error:.4g}; {removals}."


class ErrorMetric:
    """Error of predictions, one number per crystal.

    Args:
        scaler: Scaler of the model; it knows the classes.
        column: Index of the explained target or class.
        with_targets: True if the batches hold targets.
        name: Name of the explained quantity.
    """

    def __init__(self, scaler: TargetScaler, column: int, with_targets: bool, name: str):
        # The name becomes part of the verdict and has to say what the error is relative to.
        self._scaler, self._column, self._with_targets = scaler, column, with_targets
        if not with_targets:
            self.name = f"mean change of {name} (no targets are known)"
        elif scaler.classes is not None:
            self.name = "1 minus the probability of the true class, on average"
        else:
            self.name = f"mean absolute error of {name}"

    def __call__(self, predictions: np.ndarray, unchanged: np.ndarray, targets: np.ndarray | None) -> np.ndarray:
        """Return the errors, ``[n_crystals]``; NaN for a crystal without the explained one of several targets.

        Args:
            predictions: Predictions with features removed, ``[n_crystals, n_columns]``.
            unchanged: Predictions with all features, of the same shape.
            targets: Targets in original units, ``[n_crystals, n_targets]``; None if they are not known.
        """
        if not self._with_targets or targets is None:
            return np.abs(predictions - unchanged)[:, self._column]
        if self._scaler.classes is not None:
            # The probability of the true class is in the column of that class, whichever class is explained.
            return 1 - np.take_along_axis(predictions, self._scaler.class_indices(targets)[:, None], axis=1)[:, 0]
        return np.abs(predictions - targets)[:, self._column]


def check_rankings(
    explainer: Explainer,
    batches: Callable[[], Iterator[CrystalBatch]],
    rankings: dict[str, np.ndarray],
    candidates: np.ndarray,
    metric: ErrorMetric,
) -> list[Check]:
    """Compare the removal of the top features of each ranking with the removal of random features.

    Args:
        explainer: Explainer that predicts.
        batches: Function that returns an iterator over all crystals.
        rankings: Columns of the atom features, most important first, by the quantity they are ranked by.
        candidates: Columns that occur in the crystals; others are ignored.
        metric: Error to compare.
    """
    # With fewer candidates, the random draws would nearly coincide with the top features.
    numbers = [number for number in REMOVED if 2 * number <= len(candidates)]
    generator = np.random.default_rng(SEED)
    draws = [generator.choice(candidates, number, replace=False) for number in numbers for _ in range(DRAWS)]
    tops = [ranking[np.isin(ranking, candidates)][:number] for ranking in rankings.values() for number in numbers]

    # All rankings share the random draws and one pass over the crystals.
    error, errors, n_crystals = 0.0, np.zeros(len(draws) + len(tops)), 0
    for batch in batches():
        targets = None if batch.targets is None else batch.targets.numpy()
        unchanged = explainer.predict(batch)
        with_all = metric(unchanged, unchanged, targets)
        error += float(np.nansum(with_all))
        errors += [
            np.nansum(metric(explainer.predict(batch, removed), unchanged, targets)) for removed in [*draws, *tops]
        ]
        n_crystals += int((~np.isnan(with_all)).sum())
    error, errors = error / n_crystals, errors / n_crystals

    random = errors[: len(draws)].reshape(len(numbers), DRAWS)
    top = errors[len(draws) :].reshape(len(rankings), len(numbers))
    checks = []
    for name, values in zip(rankings, top.tolist(), strict=True):
        removals = tuple(
            Removal(number, value, float(drawn.mean()), float(drawn.std()), float((drawn < value).mean()))
            for number, value, drawn in zip(numbers, values, random, strict=True)
        )
        checks.append(Check(name, metric.name, n_crystals, len(candidates), DRAWS, error, removals))
    return checks
