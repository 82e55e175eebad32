"""The check of a ranking, on a model whose important features are known."""

from dataclasses import replace

import numpy as np
import pytest

from crysmm.config import GraphSettings, TrainingConfig
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.elements import feature_table
from crysmm.explain.faithfulness import Check, ErrorMetric, check_rankings


class Additive:
    """Predicts the sum of the weights of the features in a crystal, an atom's mean."""

    def __init__(self, weights):
        self.weights = weights

    def predict(self, batch, removed=None):
        weights = self.weights.copy()
        weights[[] if removed is None else removed] = 0
        crystal = np.repeat(np.arange(len(batch)), batch.n_atoms.numpy())
        values = np.bincount(crystal, weights=batch.atom_features.numpy() @ weights) / batch.n_atoms.numpy()
        return values[:, None]


@pytest.fixture
def setting(crystals):
    """Crystals, the features their atoms have, and weights that matter for eight of these alone."""
    chosen = list(crystals.values())
    table = feature_table("cgcnn")[np.concatenate([crystal.atomic_numbers for crystal in chosen])]
    candidates = np.flatnonzero(table.any(0))
    weights = np.full(92, 0.01)
    weights[candidates[np.argsort(-table.sum(0)[candidates])[:8]]] = 5.0
    truth = Additive(weights).predict(collate_crystals(chosen, GraphSettings()))
    batches = [
        collate_crystals(chosen[:5], GraphSettings(), targets=truth[:5]),
        collate_crystals(chosen[5:], GraphSettings(), targets=truth[5:]),
    ]
    return weights, candidates, batches, truth


def scaler(**settings):
    return TargetScaler.fit(np.array([[1.0], [2.0]]), range(2), TrainingConfig(**settings))


def test_a_true_ranking_holds_and_a_false_one_does_not(setting):
    weights, candidates, batches, truth = setting
    rankings = {"true": np.argsort(-weights), "reversed": np.argsort(weights)}
    measure = ErrorMetric(scaler(), 0, with_targets=True, name="gap")
    true, false = check_rankings(Additive(weights), lambda: iter(batches), rankings, candidates, measure)
    assert true.holds
    assert not false.holds
    assert (true.n_crystals, true.n_candidates, true.error) == (len(truth), len(candidates), 0)
    assert [removal.n_removed for removal in true.removals] == [5, 10, 20]
    assert "mean absolute error of gap" in true.verdict()
    assert "is faithful" in true.verdict()
    assert "is not faithful" in false.verdict()
    expected = np.abs(Additive(weights).predict(batches[0], np.argsort(-weights)[:5]) - truth[:5]).sum()
    expected += np.abs(Additive(weights).predict(batches[1], np.argsort(-weights)[:5]) - truth[5:]).sum()
    assert true.removals[0].top == pytest.approx(expected / len(truth))
    assert 0 < true.removals[0].random < true.removals[0].top


def test_crystals_without_the_target_do_not_count(setting):
    """The second batch has no labels: the errors are those of the first five crystals."""
    weights, candidates, (labeled, other), truth = setting
    batches = [labeled, replace(other, targets=other.targets * np.nan)]
    rankings, measure = {"true": np.argsort(-weights)}, ErrorMetric(scaler(), 0, with_targets=True, name="gap")
    (found,) = check_rankings(Additive(weights), lambda: iter(batches), rankings, candidates, measure)
    expected = np.abs(Additive(weights).predict(labeled, np.argsort(-weights)[:5]) - truth[:5]).mean()
    assert (found.n_crystals, found.removals[0].top) == (5, pytest.approx(expected))


def test_features_that_no_atom_has_are_not_counted(setting):
    weights, candidates, batches, _ = setting
    absent = np.setdiff1d(np.arange(92), candidates)
    best = np.argsort(-weights)
    rankings = {"plain": best, "led by absent": np.concatenate([absent, best[np.isin(best, candidates)]])}
    measure = ErrorMetric(scaler(), 0, with_targets=True, name="gap")
    plain, led = check_rankings(Additive(weights), lambda: iter(batches), rankings, candidates, measure)
    assert [removal.top for removal in led.removals] == pytest.approx([removal.top for removal in plain.removals])


def test_measures():
    predictions, unchanged = np.array([[1.0, 5.0], [2.0, 7.0]]), np.array([[1.5, 5.0], [2.0, 4.0]])
    targets = np.array([[0.0, 6.0], [0.0, 7.5]])
    two = TargetScaler(n_targets=2, mean=(0.0, 0.0), std=(1.0, 1.0))
    with_targets = ErrorMetric(two, 1, True, "b")
    assert with_targets(predictions, unchanged, targets).tolist() == [1.0, 0.5]
    without = ErrorMetric(two, 1, False, "b")
    assert without(predictions, unchanged, None).tolist() == [0.0, 3.0]
    assert "no targets" in without.name
    classes = ErrorMetric(scaler(classification_threshold=1.5), 1, True, "probability of class 1")
    probabilities = np.array([[0.25, 0.75], [0.9, 0.1]])
    assert classes(probabilities, probabilities, np.array([[2.0], [1.0]])).tolist() == pytest.approx([0.25, 0.1])


def test_too_few_features_to_check():
    check = Check("size", "error", 3, 1, 20, 0.5, ())
    assert not check.holds
    assert "cannot be checked" in check.verdict()
