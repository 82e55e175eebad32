"""Expected errors against those that simulated errors were drawn with."""

import numpy as np
import pytest

from crysmm.inference.error_scale import CLOSEST, PRIOR, ErrorScale, cross_fitted


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Errors, distances, numbers of atoms, and expected errors 0.3 (d + 0.01)^0.7 n^-0.4."""
    random = np.random.default_rng(seed)
    distances, n_atoms = random.lognormal(0, 0.7, n), random.integers(1, 60, n)
    expected = 0.3 * (distances + CLOSEST) ** 0.7 * n_atoms**-0.4
    return random.exponential(expected)[:, None], distances, n_atoms, expected


def test_exponents_are_found_again() -> None:
    errors, distances, n_atoms, _ = drawn(50_000)
    scale = ErrorScale.fit(errors, distances, n_atoms)
    level, exponents = scale.coefficients[0, 0], scale.coefficients[0, 1:]
    np.testing.assert_allclose(exponents, [0.7, -0.4], atol=0.02)
    assert level == pytest.approx(np.log(0.3), abs=0.06)


def test_each_target_is_fitted_to_the_errors_it_has() -> None:
    errors, distances, n_atoms, _ = drawn(400)
    missing = np.where(np.arange(400)[:, None] % 3 == 0, np.nan, 2 * errors)
    both = ErrorScale.fit(np.hstack([errors, missing]), distances, n_atoms)
    rows = np.arange(400) % 3 != 0
    alone = ErrorScale.fit(2 * errors[rows], distances[rows], n_atoms[rows])
    np.testing.assert_allclose(both.coefficients[0], ErrorScale.fit(errors, distances, n_atoms).coefficients[0])
    np.testing.assert_allclose(both.coefficients[1], alone.coefficients[0], atol=1e-4)


def test_few_crystals_give_nearly_one_expected_error(monkeypatch) -> None:
    """Of six crystals one is far away and has forty times the error of the others, fitted exactly without prior."""
    errors = np.array([[0.1], [0.11], [0.09], [0.1], [0.12], [4.0]])
    distances, n_atoms = np.array([1.0, 1.1, 0.9, 1.0, 1.2, 3.0]), np.full(6, 8)
    ratios = []
    for prior in (PRIOR, 0.0):
        monkeypatch.setattr("crysmm.inference.error_scale.PRIOR", prior)
        expected = ErrorScale.fit(errors, distances, n_atoms).expected(distances, n_atoms)[:, 0]
        ratios.append(expected[5] / expected[0])
    assert ratios[1] == pytest.approx(40, rel=0.1)
    assert 1 < ratios[0] < 8


def test_equal_crystals_or_no_error_at_all() -> None:
    same = np.ones(4)
    scale = ErrorScale.fit(np.array([[1.0], [2.0], [3.0], [2.0]]), same, same.astype(int))
    np.testing.assert_allclose(scale.expected(np.array([0.0, 1.0, 50.0]), np.array([1, 1, 9])), 2.0, rtol=1e-6)
    assert np.isfinite(ErrorScale.fit(np.zeros((4, 1)), same, same.astype(int)).coefficients).all()
    assert np.isfinite(cross_fitted(np.array([[3.0]]), same[:1], np.array([2]))).all()


def test_cells_beyond_those_seen_count_as_the_largest() -> None:
    errors, distances, n_atoms, _ = drawn(1000)
    largest, larger = ErrorScale.fit(errors, distances, n_atoms).expected(np.ones(2), np.array([59, 10_000]))
    assert larger == largest


@pytest.mark.parametrize("n", [40, 400])
def test_no_crystal_takes_part_in_its_own_expectation(n: int) -> None:
    """An error that becomes a thousand times as large leaves the expected errors of its own fold unchanged."""
    errors, distances, n_atoms, _ = drawn(n)
    before = cross_fitted(errors, distances, n_atoms)
    errors[7] *= 1000
    after = cross_fitted(errors, distances, n_atoms)
    own = np.arange(n) % 5 == 7 % 5
    np.testing.assert_array_equal(before[own], after[own])
    assert (after[~own] != before[~own]).all()
