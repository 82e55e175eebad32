"""Paired differences against SciPy, scikit-learn, and simulations with a known truth."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from crysmm.comparison import statistics
from crysmm.comparison.statistics import PerCrystalScore, RankingScore, draws, paired_difference


def differences(n, mean, seed=0):
    """Return the absolute errors of two arms on ``n`` crystals."""
    chance = np.random.default_rng(seed)
    first = chance.gamma(2, 5, n)
    return first + chance.normal(mean, 2, n), first


def test_paired_difference_of_means():
    arm, first = differences(50, -1.0)
    found = paired_difference("mae", [PerCrystalScore(arm)], [PerCrystalScore(first)])
    assert found.value == pytest.approx((arm - first).mean())
    assert found.standard_error == pytest.approx(stats.sem(arm - first))
    assert (found.n, found.n_better, found.n_worse) == (50, (arm < first).sum(), (arm > first).sum())
    assert found.verdict == "better"
    # 50 crystals are enough for the interval of normal differences to be close to Student's.
    low, high = stats.t.interval(0.95, 49, found.value, found.standard_error)
    assert (found.lower, found.upper) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))
    turned = paired_difference("mae", [PerCrystalScore(first)], [PerCrystalScore(arm)])
    assert (turned.value, turned.verdict) == (-found.value, "worse")


@pytest.mark.parametrize("n", [6, 20])
def test_intervals_hold_the_truth_in_95_percent(n):
    held = []
    for seed in range(400):
        arm, first = differences(n, 0.7, seed)
        found = paired_difference("mae", [PerCrystalScore(arm)], [PerCrystalScore(first)])
        held.append(found.lower <= 0.7 <= found.upper)
    assert 0.92 <= np.mean(held) <= 0.985


def test_crystals_without_the_target_do_not_count():
    arm, first = differences(12, -3.0)
    arm[[2, 5]] = first[[2, 5]] = np.nan
    found = paired_difference("mae", [PerCrystalScore(arm)], [PerCrystalScore(first)])
    assert found.n == 10
    assert found.value == pytest.approx(np.nanmean(arm - first))
    assert PerCrystalScore(arm).standard_error == pytest.approx(stats.sem(arm, nan_policy="omit"))


def test_seeds_must_agree():
    arm, first = differences(200, -1.0)
    steady = [PerCrystalScore(arm - 0.1), PerCrystalScore(arm), PerCrystalScore(arm + 0.1)]
    wild = [PerCrystalScore(arm - 9), PerCrystalScore(arm), PerCrystalScore(arm + 9)]
    one = [PerCrystalScore(first)]
    assert paired_difference("mae", steady, one).verdict == "better"
    found = paired_difference("mae", wild, one)
    assert (found.excludes_zero, found.verdict, found.n_seeds) == (True, "no difference", 3)
    assert found.seed_error == pytest.approx(9 / np.sqrt(3))


def test_roc_auc_with_ties_and_weights():
    chance = np.random.default_rng(4)
    positive, scores = chance.random(40) < 0.4, chance.integers(0, 8, 40) / 8
    counts = chance.multinomial(40, np.full(40, 1 / 40), size=5)
    score = RankingScore(positive, scores)
    assert score.value == pytest.approx(roc_auc_score(positive, scores))
    expected = [roc_auc_score(positive, scores, sample_weight=weights) for weights in counts]
    assert score.under(counts) == pytest.approx(expected)


class CountingScore(RankingScore):
    """Ranking score that counts the draws under which it is computed."""

    n_draws = 0

    def under(self, counts):
        if len(counts) > 1:  # not the score itself
            object.__setattr__(self, "n_draws", self.n_draws + len(counts))
        return super().under(counts)


def test_a_score_is_drawn_once():
    chance = np.random.default_rng(3)
    positive = chance.random(60) < 0.5
    scores = [CountingScore(positive, chance.random(60)) for _ in range(3)]
    counts = np.random.default_rng(statistics.SEED).multinomial(60, np.full(60, 1 / 60), size=statistics.N_DRAWS)
    under = [RankingScore(positive, score.scores).under(counts) for score in scores]
    for score, drawn in zip(scores[1:], under[1:], strict=True):
        found = paired_difference("roc_auc", [score], scores[:1])
        assert found.standard_error == (drawn - under[0]).std(ddof=1)
    assert [score.standard_error for score in scores] == [drawn.std(ddof=1) for drawn in under]
    assert [score.n_draws for score in scores] == [statistics.N_DRAWS] * 3


def test_draws_are_kept_if_they_are_few(monkeypatch):
    kept = draws(30)
    assert draws(30) is kept
    monkeypatch.setattr(statistics, "MAX_KEPT", 0)
    np.testing.assert_array_equal(np.concatenate(list(draws(30))), np.concatenate(list(kept)))
    assert draws(30) is not kept


def test_larger_is_better_for_accuracy_and_roc_auc():
    chance = np.random.default_rng(1)
    positive = chance.random(150) < 0.5
    good, bad = positive + chance.normal(0, 0.5, 150), chance.random(150)
    found = paired_difference("roc_auc", [RankingScore(positive, good)], [RankingScore(positive, bad)])
    assert (found.verdict, found.n_better) == ("better", None)
    expected = stats.bootstrap(
        (positive, good, bad),
        lambda truth, one, other: roc_auc_score(truth, one) - roc_auc_score(truth, other),
        paired=True,
        vectorized=False,
        n_resamples=500,
        rng=np.random.default_rng(0),
        method="percentile",
    )
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.15)
    right = [PerCrystalScore((chance.random(150) < rate) * 1.0) for rate in (0.9, 0.6)]
    assert paired_difference("accuracy", right[:1], right[1:]).verdict == "better"


def test_equal_arms_and_a_single_crystal_show_no_difference():
    same = [PerCrystalScore(np.array([1.0, 2.0, 3.0]))]
    assert paired_difference("mae", same, same).verdict == "no difference"
    found = paired_difference("mae", [PerCrystalScore(np.array([1.0]))], [PerCrystalScore(np.array([5.0]))])
    assert (found.value, found.verdict) == (-4.0, "no difference")
    # Draws that are all equal give an interval without width, which says nothing.
    perfect = RankingScore(np.array([True, True, False]), np.array([0.9, 0.8, 0.1]))
    guess = RankingScore(perfect.is_positive, np.full(3, 0.5))
    assert paired_difference("roc_auc", [perfect], [guess]).verdict == "no difference"
