"""Scores of predictions for the same crystals, and paired differences of two arms with bootstrap intervals.

Intervals are percentiles over crystals drawn with replacement, widened for small numbers of crystals ("expanded
percentile interval"): Hesterberg, The American Statistician 69, 371 (2015).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.errors import InputError
from crysmm.inference.prediction_table import PredictionTable

N_DRAWS = 5000
CONFIDENCE = 0.95
SEED = 0
MAX_NUMBERS = 4_000_000  # counts drawn at a time, which bounds the memory
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

    @property
    def standard_error(self) -> float:
        """Standard error over crystals; NaN for a single one."""
        return float(np.nanstd(np.concatenate([self.under(counts) for counts in draws(self.n)]), ddof=1))


@dataclass(frozen=True)
class MeanScore(Score):
    """Mean over crystals.

    Args:
        values: Absolute errors, or 1 for a correct class and 0 for a wrong one, ``[n]``.
    """

    values: np.ndarray

    @property
    def n(self) -> int:
        """Number of crystals."""
        return len(self.values)

    def under(self, counts: np.ndarray) -> np.ndarray:
        """Return the weighted means."""
        return np.asarray(counts @ self.values / counts.sum(axis=1))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; NaN for a single crystal."""
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
    """Return the standard error of the mean of values, ``[n]``; NaN for a single one."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def draws(n: int) -> Iterator[np.ndarray]:
    """Yield how often each of ``n`` crystals is drawn, ``[some of N_DRAWS, n]``; the same for all arms."""
    chance, left = np.random.default_rng(SEED), N_DRAWS
    while left:
        size = min(left, max(1, MAX_NUMBERS // n))
        yield chance.multinomial(n, np.full(n, 1 / n), size=size)
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

    Raises:
        InputError: The table has no numbers.
    """
    rows = list(table.rows.values())
    classes = [name for name in table.columns if name.startswith("probability_")]
    if classes:
        truth = np.array([row["target"] for row in rows])
        right = truth == np.array([row["prediction"] for row in rows])
        found: dict[tuple[str, str], Score] = {("", "accuracy"): MeanScore(right.astype(float))}
        if len(classes) == 2:
            probabilities = np.array([float(row[classes[1]]) for row in rows])
            found["", "roc_auc"] = RankingScore(truth == classes[1].removeprefix("probability_"), probabilities)
        return found
    predictions = np.array([[float(row[column]) for column in table.predictions] for row in rows])
    if not np.isfinite(predictions).all():
        raise InputError("predictions that are not finite numbers cannot be compared")
    errors = np.abs(predictions - [table.truth(name) for name in table.rows])
    present = ~np.isnan(errors)  # a crystal may lack some of several targets
    names = [name.removeprefix("target").removeprefix("_") for name in table.targets]
    return {
        (name, "mae"): MeanScore(errors[present[:, column], column])
        for column, name in enumerate(names)
        if present[:, column].any()
    }


@dataclass(frozen=True)
class Difference:
    """Paired difference of an arm and the first arm over the same crystals, each the mean over its seeds.

    Args:
        metric: Key of ``METRICS``.
        n: Number of crystals.
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
    def gain(self) -> float:
        """Difference with the sign that makes larger values better."""
        return -self.value if self.metric == "mae" else self.value

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no difference``: the interval must not hold 0, and the seeds must agree."""
        is_open = not (self.lower > 0 or self.upper < 0)  # also if an end is NaN
        if is_open or (self.seed_error is not None and abs(self.value) <= Z * self.seed_error):
            return "no difference"
        return "better" if self.gain > 0 else "worse"


def paired_difference(metric: str, arm: Sequence[Score], first: Sequence[Score]) -> Difference:
    """Compare two arms over the same crystals.

    Args:
        metric: Key of ``METRICS``.
        arm: Scores of the arm, one per seed.
        first: Scores of the first arm, one per seed; a single one of either stands for all seeds.
    """
    n, n_seeds = arm[0].n, max(len(arm), len(first))

    def difference(counts: np.ndarray) -> np.ndarray:
        means = [np.mean([score.under(counts) for score in scores], axis=0) for scores in (arm, first)]
        return np.asarray(means[0] - means[1])

    found = np.concatenate([difference(counts) for counts in draws(n)])
    found = found[np.isfinite(found)]
    tail = _tail(n)
    lower, upper = np.quantile(found, [tail, 1 - tail]) if len(found) else (math.nan, math.nan)
    error = float(found.std(ddof=1)) if len(found) > 1 else math.nan
    n_better = n_worse = None
    if all(isinstance(score, MeanScore) for score in (*arm, *first)):
        means = [np.mean([score.values for score in scores], axis=0) for scores in (arm, first)]  # type: ignore[attr-defined]
        by_crystal = means[0] - means[1]
        error = standard_error_of_mean(by_crystal)
        gains = -by_crystal if metric == "mae" else by_crystal
        n_better, n_worse = int((gains > 0).sum()), int((gains < 0).sum())
    seed_error = None
    if n_seeds > 1:
        values = [np.resize([score.value for score in scores], n_seeds) for scores in (arm, first)]
        seed_error = standard_error_of_mean(values[0] - values[1])
    value = float(difference(np.ones((1, n)))[0])
    return Difference(metric, n, n_seeds, value, error, float(lower), float(upper), n_better, n_worse, seed_error)
