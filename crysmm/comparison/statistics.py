"""Scores of predictions for the same crystals, and paired differences of two arms with bootstrap intervals.

Intervals are percentiles over crystals drawn with replacement, widened for small numbers of crystals ("expanded
percentile interval"): Hesterberg, The American Statistician 69, 371 (2015).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from crysmm.inference.prediction_table import PROBABILITY, PredictionTable

N_DRAWS = 5000
CONFIDENCE = 0.95
SEED = 0
MAX_NUMBERS = 4_000_000  # counts drawn at a time, which bounds the memory
MAX_KEPT = 64 << 20  # counts kept for the next score, a byte each
Z = 2.0  # standard errors by which the seeds have to agree

METRICS = {"mae": "MAE", "accuracy": "accuracy", "roc_auc": "ROC-AUC"}


class Score(ABC):
    """A metric of one run over the crystals of a split."""

    @abstractmethod
    def under(self, counts: np.ndarray) -> np.ndarray:
        """Return the metric in which each crystal counts so many times: ``[draws]`` from ``[draws, n]``."""

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of crystals."""

    @property
    def value(self) -> float:
        """The metric itself."""
        return float(self.under(np.ones((1, self.n)))[0])

    @cached_property
    def drawn(self) -> np.ndarray:
        """The metric under each of the draws, ``[N_DRAWS]``."""
        return np.concatenate([self.under(counts) for counts in draws(self.n)])

    @property
    def standard_error(self) -> float:
        """Standard error over crystals; NaN for a single one."""
        return float(np.nanstd(self.drawn, ddof=1))


@dataclass(frozen=True)
class PerCrystalScore(Score):
    """Mean over crystals.

    Args:
        values: Absolute errors, NaN where the target is missing, or 1 for a correct class and 0 for a wrong one,
            ``[n]``.
    """

    values: np.ndarray

    @property
    def n(self) -> int:
        """Number of crystals."""
        return len(self.values)

    def under(self, counts: np.ndarray) -> np.ndarray:
        """Return the weighted means over the crystals that have the target; NaN if there are none."""
        present = np.isfinite(self.values)
        totals, weights = counts @ np.where(present, self.values, 0), counts @ present.astype(float)
        return np.divide(totals, weights, out=np.full(len(counts), math.nan), where=weights > 0)

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; NaN for fewer than two crystals."""
        return standard_error_of_mean(self.values)


@dataclass(frozen=True)
class RankingScore(Score):
    """Area under the ROC curve: the probability that a crystal of class 1 has the larger score than one of class 0.

    Args:
        is_positive: True for class 1, ``[n]``.
        scores: Probabilities of class 1, ``[n]``.
    """

    is_positive: np.ndarray
    scores: np.ndarray

    @property
    def n(self) -> int:
        """Number of crystals."""
        return len(self.scores)

    def under(self, counts: np.ndarray) -> np.ndarray:
        """Return the areas; NaN where a class has no crystals."""
        order = np.argsort(self.scores, kind="stable")
        starts = np.flatnonzero(
            np.diff(self.scores[order], prepend=-math.inf)
        )  # equal scores are one step of the curve
        positive = np.add.reduceat(counts[:, order] * self.is_positive[order], starts, axis=1)
        negative = np.add.reduceat(counts[:, order] * ~self.is_positive[order], starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        wins = (positive * (below + negative / 2)).sum(axis=1)
        return np.divide(wins, pairs, out=np.full(len(counts), math.nan), where=pairs > 0)


def standard_error_of_mean(values: np.ndarray) -> float:
    """Return the standard error of the mean of the values, ``[n]``, that are not NaN; NaN for fewer than two."""
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def draws(n: int) -> Iterable[np.ndarray]:
    """Return how often each of ``n`` crystals is drawn, ``[some of N_DRAWS, n]`` int8 each; the same for all arms."""
    return _kept_draws(n) if N_DRAWS * n <= MAX_KEPT else _new_draws(n)


@lru_cache(maxsize=1)
def _kept_draws(n: int) -> list[np.ndarray]:
    """Keep the draws of the last ``n``, as all scores of a comparison have the same."""
    return list(_new_draws(n))


def _new_draws(n: int) -> Iterator[np.ndarray]:
    """Draw again, a part at a time."""
    chance, left = np.random.default_rng(SEED), N_DRAWS
    while left:
        size = min(left, max(1, MAX_NUMBERS // n))
        yield chance.multinomial(n, np.full(n, 1 / n), size=size).astype(np.int8)  # none is drawn 128 times
        left -= size


def _tail(n: int) -> float:
    """Return the fraction of draws outside each end of the interval: plain percentiles of few crystals are too narrow.

    The fraction is the one with which the interval of a normal mean would be that of Student's t.
    """
    from scipy.stats import norm, t

    if n < 2:
        return 0.0
    return float(norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf((1 + CONFIDENCE) / 2, n - 1)))


def scores_of(table: PredictionTable) -> dict[tuple[str, str], Score]:
    """Return the scores of predictions by property (empty if there is only one) and metric.

    Args:
        table: Predictions for a split.
    """
    rows = list(table.rows.values())
    if table.classes:
        truth = np.array([row["target"] for row in rows])
        right = truth == np.array([row["prediction"] for row in rows])
        found: dict[tuple[str, str], Score] = {("", "accuracy"): PerCrystalScore(right.astype(float))}
        if len(table.classes) == 2:
            positive = table.classes[1]
            probabilities = np.array([float(row[f"{PROBABILITY}{positive}"]) for row in rows])
            found["", "roc_auc"] = RankingScore(truth == positive, probabilities)
        return found
    targets = np.array([table.truth(name) for name in table.rows])
    predictions = np.array([[float(row[column]) for column in table.predictions] for row in rows])
    errors = np.abs(predictions - targets)
    names = [name.removeprefix("target").removeprefix("_") for name in table.targets]
    return {(name, "mae"): PerCrystalScore(errors[:, column]) for column, name in enumerate(names)}


@dataclass(frozen=True)
class Difference:
    """Paired difference of an arm and the first arm over the same crystals, each the mean over its seeds.

    Args:
        metric: Key of ``METRICS``.
        n: Number of crystals that have the target.
        n_seeds: Number of seeds of the arm with more of them.
        value: Metric of the arm minus that of the first arm.
        standard_error: Standard error of the difference over crystals.
        lower: Lower end of the 95% interval over crystals.
        upper: Upper end of the interval.
        n_better: Number of crystals in which the arm is better than the first; None for the ROC-AUC.
        n_worse: Number of crystals in which it is worse.
        seed_error: Standard error of the difference over seeds; None with one seed.
    """

    metric: str
    n: int
    n_seeds: int
    value: float
    standard_error: float
    lower: float
    upper: float
    n_better: int | None
    n_worse: int | None
    seed_error: float | None

    @property
    def excludes_zero(self) -> bool:
        """True if the interval does not hold 0; one without width, from draws that are all equal, says nothing."""
        return self.lower < self.upper and (self.lower > 0 or self.upper < 0)

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no difference``: the interval must not hold 0, and the seeds must agree."""
        if not self.excludes_zero or (self.seed_error is not None and abs(self.value) <= Z * self.seed_error):
            return "no difference"
        return "better" if (self.value < 0) == (self.metric == "mae") else "worse"


def paired_difference(metric: str, arm: Sequence[Score], first: Sequence[Score]) -> Difference:
    """Compare two arms over the same crystals.

    Args:
        metric: Key of ``METRICS``.
        arm: Scores of the arm, one per seed.
        first: Scores of the first arm, one per seed; a single one of either counts for all seeds.
    """
    n, n_seeds = arm[0].n, max(len(arm), len(first))

    def difference(name: str) -> np.ndarray:
        """Subtract the mean of an attribute over the first arm's scores from that over the arm's."""
        ours, theirs = (np.mean([getattr(score, name) for score in scores], axis=0) for scores in (arm, first))
        return np.asarray(ours - theirs)

    found = difference("drawn")
    found = found[np.isfinite(found)]  # draws without crystals of both classes, or with the target, have no value
    n_present, n_better, n_worse = n, None, None
    error = float(found.std(ddof=1)) if len(found) > 1 else math.nan
    if all(isinstance(score, PerCrystalScore) for score in (*arm, *first)):
        by_crystal = difference("values")
        gains = -by_crystal if metric == "mae" else by_crystal
        n_present, n_better, n_worse = int(np.isfinite(gains).sum()), int((gains > 0).sum()), int((gains < 0).sum())
        error = standard_error_of_mean(by_crystal)
    tail = _tail(n_present)
    lower, upper = np.quantile(found, [tail, 1 - tail]) if len(found) else (math.nan, math.nan)
    seed_error = None
    if n_seeds > 1:
        values = [np.resize([score.value for score in scores], n_seeds) for scores in (arm, first)]
        seed_error = standard_error_of_mean(values[0] - values[1])
    value = float(difference("value"))
    return Difference(
        metric, n_present, n_seeds, value, error, float(lower), float(upper), n_better, n_worse, seed_error
    )
