"""Expected errors against those that simulated errors were drawn with."""

import numpy as np
import pytest

from crysmm.inference.error_scale import OFFSET, PRIOR, ErrorScale, fit_error_scale


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Errors drawn around 0.3 (d + 0.01)^0.7 n^-0.4 h^0.5, distances, numbers of atoms and predictions.

    Predictions begin at 2 and have a standard deviation of 4.
    """
    random = np.random.default_rng(seed)
    distances, n_atoms = random.lognormal(0, 0.7, n), random.integers(1, 60, n)
    predictions = random.exponential(1, n)
    predictions = 2 + 4 * predictions / predictions.std()
    lowest = np.quantile(predictions, 0.01)
    height = np.maximum(predictions - lowest, 0) / 4 + OFFSET
    expected = 0.3 * (distances + OFFSET) ** 0.7 * n_atoms**-0.4 * height**0.5
    return random.exponential(expected)[:, None], distances, n_atoms, predictions[:, None]


def test_exponents_are_found_again() -> None:
    scale = ErrorScale.fit(*drawn(50_000))
    level, exponents = scale.coefficients[0, 0], scale.coefficients[0, 1:]
    np.testing.assert_allclose(exponents, [0.7, -0.4, 0.5], atol=0.02)
    assert level == pytest.approx(np.log(0.3), abs=0.06)


def test_each_target_is_fitted_to_the_errors_it_has() -> None:
    errors, distances, n_atoms, predictions = drawn(400)
    missing = np.where(np.arange(400)[:, None] % 3 == 0, np.nan, 2 * errors)
    known = distances, n_atoms, np.hstack([predictions, 3 * predictions])
    both = ErrorScale.fit(np.hstack([errors, missing]), *known)
    first = ErrorScale.fit(errors, distances, n_atoms, predictions)
    np.testing.assert_allclose(both.coefficients[0], first.coefficients[0])
    rows = np.arange(400) % 3 != 0
    second = ErrorScale.fit(2 * errors[rows], distances[rows], n_atoms[rows], predictions[rows])
    # The height of a prediction is measured among all rows, with or without the target.
    np.testing.assert_allclose(both.coefficients[1, 1:], second.coefficients[0, 1:], atol=0.05)
    assert np.nanmean(missing[:, 0] / both.expected(*known)[:, 1]) == pytest.approx(1, abs=0.05)


def test_few_crystals_give_nearly_one_expected_error(monkeypatch) -> None:
    """Of six crystals one is far away and has forty times the error of the others, fitted exactly without prior."""
    errors = np.array([[0.1], [0.11], [0.09], [0.1], [0.12], [4.0]])
    known = np.array([1.0, 1.1, 0.9, 1.0, 1.2, 3.0]), np.full(6, 8), np.ones((6, 1))
    ratios = []
    for prior in (PRIOR, 0.0):
        monkeypatch.setattr("crysmm.inference.error_scale.PRIOR", prior)
        expected = ErrorScale.fit(errors, *known).expected(*known)[:, 0]
        ratios.append(expected[5] / expected[0])
    assert ratios[1] == pytest.approx(40, rel=0.1)
    assert 1 < ratios[0] < 8


def test_equal_crystals_or_no_error_at_all() -> None:
    same = np.ones(4), np.ones(4, dtype=int), np.ones((4, 1))
    scale = ErrorScale.fit(np.array([[1.0], [2.0], [3.0], [2.0]]), *same)
    others = np.array([0.0, 1.0, 50.0]), np.array([1, 1, 9]), np.array([[0.0], [1.0], [9.0]])
    np.testing.assert_allclose(scale.expected(*others), 2.0, rtol=1e-6)
    assert np.isfinite(ErrorScale.fit(np.zeros((4, 1)), *same).coefficients).all()


@pytest.mark.parametrize(
    ("errors", "largest"),
    [
        ([3.0], 3.0),
        ([0.0] * 5 + [0.02] + [0.0] * 6, 0.02),
        ([0.01, *[np.nan] * 4, 0.015, *[np.nan] * 4, 0.012], 0.015),
    ],
)
def test_intervals_where_a_fold_leaves_nothing_to_fit_have_the_width_of_an_error(errors, largest) -> None:
    """One crystal, one error among twelve crystals, three labels in one fold: an expectation times a ratio."""
    distances, n_atoms = np.linspace(0.1, 2, len(errors)), np.arange(1, len(errors) + 1)
    known = distances, n_atoms, np.linspace(1, 5, len(errors))[:, None]
    scale, ratios = fit_error_scale(np.array(errors)[:, None], *known)
    np.testing.assert_allclose(scale.expected(*known) * np.nanmax(ratios), largest)


def test_cells_beyond_those_seen_count_as_the_largest() -> None:
    scale = ErrorScale.fit(*drawn(1000))
    largest, larger = scale.expected(np.ones(2), np.array([59, 10_000]), np.full((2, 1), 5.0))
    assert larger == largest


@pytest.mark.parametrize("n", [40, 400])
def test_no_crystal_takes_part_in_its_own_expectation(n: int) -> None:
    """An error that becomes a thousand times as large leaves the expected errors of its own fold unchanged."""
    errors, *known = drawn(n)
    before = errors / fit_error_scale(errors, *known)[1]
    errors[7] *= 1000
    after = errors / fit_error_scale(errors, *known)[1]
    own = np.arange(n) % 5 == 7 % 5
    np.testing.assert_allclose(before[own], after[own], rtol=1e-12)
    assert (after[~own] != before[~own]).all()
