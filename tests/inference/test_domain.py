"""Distances against sums by hand."""

import numpy as np

from crysmm.inference import domain as trust
from crysmm.inference.domain import MOST_EMBEDDINGS, Domain, Neighbors, TrainingCrystal, rows_to_keep

LINE = np.arange(8.0)[:, None] * [3.0, 4.0]  # points five apart


def named(embeddings: np.ndarray) -> list[TrainingCrystal]:
    """Training crystals with their row as id."""
    return [TrainingCrystal(str(row), "Fe") for row in range(len(embeddings))]


def domain_of(training: np.ndarray, validation: np.ndarray) -> Domain:
    return Domain.fit(training, named(training), validation)


def test_distance_is_the_mean_of_the_five_nearest() -> None:
    """From the first point: 0, 5, 10, 15 and 20; from beyond the last: 5 to 25."""
    domain = domain_of(LINE, LINE[:1])
    np.testing.assert_allclose(domain.distances(LINE[[0]]), [10.0])
    np.testing.assert_allclose(domain.distances(LINE[[7]] + [3.0, 4.0]), [15.0])
    assert domain.distances(np.empty((0, 2))).shape == (0,)
    assert np.isinf(domain.distances(np.array([[np.nan, 0.0]]))).all()


def test_percentile_counts_the_validation_crystals_that_are_nearer() -> None:
    domain = Domain(LINE.astype(np.float32), np.array([1.0, 2.0, 2.0, 4.0]), named(LINE))
    np.testing.assert_array_equal(domain.percentiles(np.array([0.5, 2.0, 3.0, 4.0, 9.0])), [0, 25, 75, 75, 100])


def test_distances_in_units_of_what_is_usual_among_training_crystals() -> None:
    """On a circle of six points a turn apart each has the same nearest others."""
    angles = 2 * np.pi * np.arange(6) / 6
    domain = domain_of(np.stack([np.cos(angles), np.sin(angles)], axis=1), np.zeros((1, 2)))
    usual = (1 + 1 + np.sqrt(3) + np.sqrt(3) + 2) / 5
    np.testing.assert_allclose(domain.relative(np.array([0.0, usual, 3 * usual])), [0, 1, 3], rtol=1e-6)


def test_one_training_crystal_or_equal_ones_have_no_unit() -> None:
    for training in (LINE[:1], np.zeros((4, 2))):
        domain = domain_of(training, LINE)
        np.testing.assert_array_equal(domain.relative(domain.distances(LINE)), np.ones(8))


def test_rows_kept_are_few_and_always_the_same() -> None:
    rows = list(range(0, 6000, 2))
    kept = rows_to_keep(rows)
    assert len(set(kept)) == MOST_EMBEDDINGS
    assert set(kept) < set(rows)
    assert kept == sorted(kept) == rows_to_keep(rows)
    assert rows_to_keep([5, 3]) == [5, 3]


def test_nearest_crystals_do_not_depend_on_how_many_rows_are_compared_at_once(monkeypatch) -> None:
    monkeypatch.setattr(trust, "ROWS_AT_ONCE", 3)
    generator = np.random.default_rng(1)
    training, asked = generator.normal(size=(40, 6)), generator.normal(size=(8, 6))
    asked[4, 2] = np.nan
    domain = domain_of(training, training[:1])
    distances, rows = domain.nearest(asked)
    between = np.linalg.norm(asked[:, None] - training.astype(np.float32), axis=2)
    finite = [row for row in range(8) if row != 4]
    np.testing.assert_allclose(distances[finite], np.sort(between, axis=1)[finite, :5])
    np.testing.assert_array_equal(rows[finite], np.argsort(between, axis=1)[finite, :5])
    neighbors = Neighbors(domain.crystals, distances, rows)
    assert neighbors[4] == []
    assert [near.crystal.id for near in neighbors[7]] == [str(row) for row in np.argsort(between[7])[:5]]
    assert list(map(len, neighbors)) == [5, 5, 5, 5, 0, 5, 5, 5]
    assert neighbors[-2:] == [neighbors[6], neighbors[7]]
