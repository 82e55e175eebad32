"""Conformal quantiles against ranks counted by hand, and coverage on errors of which the truth is known."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from crysmm.config import TrainingConfig
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError
from crysmm.inference.intervals import absolute_errors, conformal_quantile, fewest_errors, intervals_about


def scaler_of(targets: np.ndarray, **settings: Any) -> TargetScaler:
    return TargetScaler.fit(targets, range(len(targets)), TrainingConfig(**settings))


@pytest.mark.parametrize(
    ("n", "coverage", "rank"), [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90), (9, 0.7, 7), (3, 0.5, 2)]
)
def test_quantile_has_the_rank_of_the_definition(n: int, coverage: float, rank: int) -> None:
    """Ranks by hand; 0.7 of 10 is 7, which floats round up to 8."""
    errors = np.arange(1.0, n + 1)[:, None] * [1.0, 10.0]
    for number in (coverage, np.float32(coverage)):
        np.testing.assert_array_equal(conformal_quantile(errors, number), [rank, 10.0 * rank])


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 1e-9, 1 - 1e-9, float("nan")])
def test_coverages_that_are_none_or_all_of_the_targets_are_refused(coverage: float) -> None:
    """Also as a fraction: the rank would be 0, or beyond any number."""
    with pytest.raises(InputError, match="expected a number between 0 and 1"):
        conformal_quantile(np.ones((5, 1)), coverage)


@pytest.mark.parametrize(("coverage", "fewest"), [(0.9, 9), (0.95, 19), (0.99, 99), (0.5, 1)])
def test_too_few_errors_give_no_finite_interval(coverage: float, fewest: int) -> None:
    assert fewest_errors(coverage) == fewest
    assert np.isfinite(conformal_quantile(np.ones((fewest, 1)), coverage)).all()
    assert np.isinf(conformal_quantile(np.ones((fewest - 1, 2)), coverage)).all()


def test_each_target_has_the_rank_among_the_errors_it_has() -> None:
    """Of 19, 10 and 8 errors."""
    errors = np.full((19, 3), np.nan)
    for column, n in enumerate((19, 10, 8)):
        errors[:n, column] = np.arange(1.0, n + 1)
    np.testing.assert_array_equal(conformal_quantile(errors, 0.9), [18, 10, np.inf])


@pytest.mark.parametrize("n", [9, 30, 47])
def test_coverage_of_exchangeable_errors_is_the_theorems(n: int) -> None:
    """Of continuous errors, the n+1st is below the quantile with probability rank/(n+1) exactly."""
    random = np.random.default_rng(n)
    n_draws = 20_000
    errors = random.standard_cauchy((n_draws, n + 1))
    held = [abs(draw[-1]) <= conformal_quantile(np.sort(np.abs(draw[:-1]))[:, None], 0.9)[0] for draw in errors]
    expected = math.ceil((n + 1) * Fraction(9, 10)) / (n + 1)
    assert np.mean(held) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n_draws))


def test_errors_are_those_of_logarithms_where_these_are_learned() -> None:
    """A factor of 10 and a factor of 100."""
    targets = np.array([[10.0], [1.0]])
    predictions = np.array([[1.0], [100.0]])
    logarithmic = scaler_of(targets, target_transform="log10")
    np.testing.assert_allclose(absolute_errors(logarithmic, targets, predictions), [[1.0], [2.0]])
    np.testing.assert_allclose(absolute_errors(scaler_of(targets), targets, predictions), [[9.0], [99.0]])


def test_intervals_of_logarithms_are_asymmetric_and_positive() -> None:
    targets = np.array([[10.0], [100.0]])
    lower, upper = intervals_about(scaler_of(targets, target_transform="log10"), targets, np.array([[1.0], [np.inf]]))
    np.testing.assert_allclose(lower, [[1.0], [0.0]])
    np.testing.assert_allclose(upper, [[100.0], [np.inf]])
    lower, upper = intervals_about(scaler_of(targets), targets, np.array([[3.0], [np.inf]]))
    np.testing.assert_allclose(lower, [[7.0], [0.0]])
    np.testing.assert_allclose(upper, [[13.0], [np.inf]])


def test_held_out_targets_do_not_decide_where_intervals_end() -> None:
    targets = np.array([[2.0], [4.0], [-5.0]])
    scaler = TargetScaler.fit(targets, [0, 1], TrainingConfig())
    lower, _ = intervals_about(scaler, np.array([[1.0]]), np.array([[3.0]]))
    np.testing.assert_array_equal(lower, [[0.0]])


def test_intervals_end_where_targets_do() -> None:
    """At 0 where no target is negative, at the given end, or nowhere; an interval holds its prediction all the same."""
    targets, radius = np.array([[2.0, -1.0], [4.0, 3.0]]), np.full((3, 2), 3.0)
    predictions = np.array([[2.0, 2.0], [9.0, 9.0], [-5.0, -5.0]])
    lower, upper = intervals_about(scaler_of(targets), predictions, radius)
    np.testing.assert_array_equal(lower, [[0, -1], [6, 6], [-5, -8]])
    np.testing.assert_array_equal(upper, [[5, 5], [12, 12], [0, -2]])
    np.testing.assert_array_equal(intervals_about(scaler_of(targets, target_min="none"), predictions, radius)[0][0], -1)
    np.testing.assert_array_equal(intervals_about(scaler_of(targets, target_min=1.5), predictions, radius)[0][0], 1.5)


def test_intervals_of_logarithms_end_where_one_says() -> None:
    targets, radius = np.array([[20.0], [100.0]]), np.array([[1.0], [0.1]])
    given = scaler_of(targets, target_transform="log10", target_min=15.0)
    lower, upper = intervals_about(given, targets, radius)
    np.testing.assert_allclose(lower, [[15.0], [10**1.9]])
    np.testing.assert_allclose(upper, [[200.0], [10**2.1]])
    assert scaler_of(targets, target_transform="log10").lowest == (None,)
