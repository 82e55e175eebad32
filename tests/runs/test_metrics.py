import json
import math

import numpy as np
import pytest

from crysmm.config import CGCNNConfig, TrainingConfig
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError
from crysmm.inference.assessment import Assessment
from crysmm.runs.metrics import classification_metrics, evaluate, evaluate_assessment, regression_metrics

TARGET = np.array([[1.0], [2.0], [3.0], [6.0]])
PREDICTION = np.array([[1.0], [3.0], [3.0], [4.0]])


def test_regression_by_hand() -> None:
    metrics = regression_metrics(TARGET, PREDICTION, np.array([2.0]), ["gap"])
    assert metrics == {
        "n": 4,
        "mae": pytest.approx(3 / 4),
        "rmse": pytest.approx(math.sqrt(5 / 4)),
        "r2": pytest.approx(1 - 5 / 14),
        "mad": pytest.approx((2 + 1 + 0 + 3) / 4),
        "mae_over_mad": pytest.approx(0.5),
        "mae_of_train_mean": pytest.approx((1 + 0 + 1 + 4) / 4),
    }


def test_one_crystal_gives_reasons_not_nan() -> None:
    metrics = regression_metrics(TARGET[:1], PREDICTION[:1], np.array([2.0]), ["gap"])
    assert metrics["r2"] is None
    assert metrics["mae_over_mad"] is None
    assert "targets that differ" in metrics["reason"]
    assert "NaN" not in json.dumps(metrics)


def test_several_targets_each_and_their_mean() -> None:
    target, prediction = np.hstack([TARGET, 10 * TARGET]), np.hstack([PREDICTION, 10 * PREDICTION])
    metrics = regression_metrics(target, prediction, np.array([2.0, 20.0]), ["gap", "modulus"])
    assert metrics["per_target"]["modulus"]["mae"] == pytest.approx(7.5)
    r2 = metrics["per_target"]["gap"]["r2"]
    assert metrics["mean"] == {"r2": pytest.approx(r2), "mae_over_mad": pytest.approx(0.5)}  # errors have units


def test_a_target_counts_on_the_crystals_that_have_it() -> None:
    """Of the second target, the first two values are missing; of the third all."""
    target, prediction = np.hstack([TARGET, 10 * TARGET, TARGET]), np.hstack([PREDICTION, 10 * PREDICTION, PREDICTION])
    target[:2, 1], target[:, 2] = np.nan, np.nan
    train = np.array([[1.0, np.nan, 1.0], [3.0, 20.0, np.nan]])
    scaler = TargetScaler.fit(train, [0, 1], TrainingConfig())
    metrics = evaluate(scaler, target, prediction, train, ["gap", "modulus", "density"])
    assert metrics["n"] == 4
    one, two, none = metrics["per_target"].values()
    assert (one["n"], one["mae"], one["mae_of_train_mean"]) == (4, pytest.approx(0.75), pytest.approx(1.5))
    assert (two["n"], two["mae"], two["mae_of_train_mean"]) == (2, pytest.approx(10), pytest.approx(25))
    assert (none["n"], none["mae"], none["reason"]) == (0, None, "no crystal of this split has the target")
    assert metrics["mean"]["mae_over_mad"] is None
    assert "NaN" not in json.dumps(metrics)


def test_intervals_count_on_the_crystals_that_have_the_target() -> None:
    """The second of 2 targets has too few validation crystals: its infinite intervals do not count in the whole."""
    targets = np.array([[1.0, 1.0], [np.nan, 1.0], [9.0, np.nan]])
    ends = np.array([[1.0, np.inf]] * 3)
    assessment = Assessment(np.zeros((3, 2)), lower=-ends, upper=ends, domain=["", "", "far"])
    found = evaluate_assessment(assessment, targets, ["gap", "modulus"], np.array([20, 8]))["intervals"]
    assert (found["covered"], found["n_validation"]) == (0.5, 8)
    one_of_two, two_of_two = [0.0945, 0.9055], [0.3424, 1.0]  # Wilson's formula by hand, with z = 1.96
    assert found["per_target"]["gap"] == {
        "n_validation": 20, "covered": 0.5, "covered_between": pytest.approx(one_of_two, abs=1e-4), "median_width": 2.0,
    }  # fmt: skip
    assert found["per_target"]["modulus"] == {
        "n_validation": 8, "covered": 1.0, "covered_between": pytest.approx(two_of_two, abs=1e-4), "median_width": None,
        "reason": "finite intervals need 9 validation crystals",
    }  # fmt: skip
    assert "reason" not in found


def test_log10_gives_both_units() -> None:
    scaler = TargetScaler.fit(TARGET, [0, 1], TrainingConfig(target_transform="log10"))
    metrics = evaluate(scaler, TARGET, PREDICTION, TARGET[:2], ["modulus"])
    assert metrics["mae"] == pytest.approx(0.75)
    assert metrics["unit"] == "original"
    assert metrics["log10"]["mae"] == pytest.approx((math.log10(1.5) + math.log10(1.5)) / 4)
    mean = math.log10(2) / 2
    assert metrics["log10"]["mae_of_train_mean"] == pytest.approx(np.abs(np.log10(TARGET) - mean).mean())


def test_binary_classes_by_hand() -> None:
    first = np.array([0.9, 0.6, 0.4, 0.3])
    metrics = classification_metrics(np.array([0, 1, 0, 1]), np.column_stack([first, 1 - first]))
    assert metrics["accuracy"] == 0.5
    assert metrics["roc_auc"] == pytest.approx(3 / 4)  # three of the four pairs are in order
    assert metrics["f1"] == pytest.approx(0.5)
    assert metrics["accuracy_of_most_frequent"] == 0.5


def test_roc_auc_comes_from_probabilities_not_from_labels() -> None:
    """All are predicted class 0, and yet their order is right."""
    second = np.array([0.1, 0.2, 0.3, 0.4])
    metrics = classification_metrics(np.array([0, 0, 1, 1]), np.column_stack([1 - second, second]))
    assert (metrics["accuracy"], metrics["roc_auc"], metrics["f1"]) == (0.5, 1.0, 0.0)


def test_three_classes() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])
    metrics = classification_metrics(np.array([0, 1, 2, 1]), probabilities)
    assert metrics["accuracy"] == 0.75
    assert metrics["f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    # 0 against the rest 3/3 pairs, 1 against the rest 4/4, 2 against the rest 3/3
    assert metrics["roc_auc"] == pytest.approx(1.0)


def test_absent_class_gives_a_reason() -> None:
    metrics = classification_metrics(np.array([0, 0]), np.array([[0.8, 0.2], [0.4, 0.6]]))
    assert (metrics["roc_auc"], metrics["f1"]) == (None, None)
    assert "1 of 2" in metrics["reason"]


def test_evaluate_knows_classes() -> None:
    targets = np.array([[10.0], [20.0], [10.0]])
    config = TrainingConfig(model=CGCNNConfig(classification=True))
    scaler = TargetScaler.fit(targets, [0, 1, 2], config)
    metrics = evaluate(scaler, targets, np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), targets, ["kind"])
    assert metrics["accuracy"] == pytest.approx(2 / 3)


def test_predictions_that_are_not_finite_are_refused() -> None:
    scaler = TargetScaler.fit(TARGET, [0, 1], TrainingConfig())
    with pytest.raises(InputError, match="2 of 4 predictions are out of range"):
        evaluate(scaler, TARGET, np.array([[1.0], [np.nan], [np.inf], [2.0]]), TARGET, ["gap"])
    logarithmic = TargetScaler.fit(TARGET, [0, 1], TrainingConfig(target_transform="log10"))
    with pytest.raises(InputError, match="1 of 4 predictions are out of range"):  # 10 to the power of -400
        evaluate(logarithmic, TARGET, np.array([[1.0], [0.0], [3.0], [2.0]]), TARGET, ["gap"])


def test_targets_that_differ_by_rounding_are_equal() -> None:
    target = np.full((3, 1), 0.1)
    assert target.mean() != 0.1
    metrics = regression_metrics(target, target + 0.01, np.array([0.1]), ["gap"])
    assert metrics["r2"] is None
    assert metrics["mae_over_mad"] is None
    assert metrics["reason"] == "r2 and mae_over_mad need targets that differ"
