"""Metrics of predictions and of their intervals, the numbers in ``metrics.json``.

Metrics that are undefined (R2 of a single crystal, the ROC curve of a single class) are None, with the reason beside
them: NaN is not valid JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crysmm.data.scaler import TargetScaler, varies
from crysmm.errors import DivergedError
from crysmm.inference import COVERAGE
from crysmm.inference.assessment import Assessment
from crysmm.inference.intervals import fewest_errors

Metrics = dict[str, Any]


def evaluate(
    scaler: TargetScaler,
    targets: np.ndarray,
    predictions: np.ndarray,
    train_targets: np.ndarray,
    names: Sequence[str],
) -> Metrics:
    """Compute all metrics of one split.

    Args:
        scaler: Target scaler of the model; its classes and its transform decide which metrics there are.
        targets: Targets in original units, ``[n, n_targets]``.
        predictions: Output of :meth:`TargetScaler.decode`, ``[n, n_targets]`` or ``[n, n_classes]``.
        train_targets: Targets of the training split in original units, ``[n_train, n_targets]``; their mean is the
            baseline.
        names: Names of the targets.

    Returns:
        Metrics by name; for several targets ``{"mean": {...}, "per_target": {name: {...}}}``. If the network is trained
        on log10, ``unit`` is ``original`` and ``log10`` holds the metrics of the logarithms.

    Raises:
        DivergedError: Predictions are not finite, or 0 where the target is log10-transformed.
    """
    is_whole = np.isfinite(predictions) & ((predictions > 0) | (scaler.transform != "log10"))  # 10 to -400 is 0
    n_broken = int((~is_whole).any(axis=1).sum())
    if n_broken:
        raise DivergedError(
            f"{n_broken} of {len(predictions)} predictions are out of range: training diverged; "
            "lower learning_rate, or look for outliers among the targets (crysmm check)"
        )
    if scaler.classes is not None:
        return classification_metrics(scaler.class_indices(targets), predictions)
    metrics = regression_metrics(targets, predictions, np.nanmean(train_targets, axis=0), names)
    if scaler.transform == "log10":
        logarithms = (np.log10(targets), np.log10(predictions), np.nanmean(np.log10(train_targets), axis=0))
        metrics = {"unit": "original", **metrics, "log10": regression_metrics(*logarithms, names)}
    return metrics


def regression_metrics(
    target: np.ndarray, prediction: np.ndarray, train_mean: np.ndarray, names: Sequence[str]
) -> Metrics:
    """Compute metrics of predicted values for each target and, if there are several, means of those without a unit.

    Args:
        target: Targets, NaN where missing, ``[n, n_targets]``.
        prediction: Predictions, ``[n, n_targets]``.
        train_mean: Mean of the targets in the training split, ``[n_targets]``.
        names: Names of the targets.
    """
    columns = {}
    for column, name in enumerate(names):
        present = ~np.isnan(target[:, column])
        columns[name] = _regression_of_one(
            target[present, column], prediction[present, column], float(train_mean[column])
        )
    if len(columns) == 1:
        return next(iter(columns.values()))
    means: Metrics = {}
    for key in ("r2", "mae_over_mad"):
        values = [metrics[key] for metrics in columns.values()]
        # A mean over the targets for which the metric is defined could not be compared with that of another run.
        means[key] = None if None in values else math.fsum(values) / len(values)
    return {"n": len(target), "mean": means, "per_target": columns}


def _regression_of_one(target: np.ndarray, prediction: np.ndarray, train_mean: float) -> Metrics:
    """Compute metrics of one target, from targets and predictions ``[n]``.

    ``mad`` is the mean absolute deviation of the targets from their own mean, as JARVIS defines it;
    ``mae_of_train_mean`` is the MAE of predicting the mean of the training split for every crystal.
    """
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    if not len(target):
        undefined = dict.fromkeys(("mae", "rmse", "r2", "mad", "mae_over_mad", "mae_of_train_mean"))
        return {"n": 0, **undefined, "reason": "no crystal of this split has the target"}
    deviation = float(np.abs(target - target.mean()).mean())
    error = float(mean_absolute_error(target, prediction))
    has_range = bool(varies(deviation, target.mean()))  # r2 and mae_over_mad divide by it
    return {
        "n": len(target),
        "mae": error,
        "rmse": float(root_mean_squared_error(target, prediction)),
        "r2": float(r2_score(target, prediction)) if has_range else None,
        "mad": deviation,
        "mae_over_mad": error / deviation if has_range else None,
        "mae_of_train_mean": float(np.abs(target - train_mean).mean()),
        **({} if has_range else {"reason": "r2 and mae_over_mad need targets that differ"}),
    }


def classification_metrics(target: np.ndarray, probabilities: np.ndarray) -> Metrics:
    """Compute metrics of predicted classes.

    Args:
        target: Class indices, ``[n]``.
        probabilities: Probabilities of the classes, ``[n, n_classes]``.

    Returns:
        ``accuracy``; ``roc_auc`` from the probabilities, for more than two classes one against the rest and averaged
        over the classes; ``f1`` of class 1, for more than two classes averaged over the classes; and
        ``accuracy_of_most_frequent``, the fraction of the targets in the most frequent class.
    """
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    present = len(np.unique(target))
    binary = n_classes == 2
    metrics: Metrics = {
        "n": len(target),
        "accuracy": float(accuracy_score(target, predicted)),
        "accuracy_of_most_frequent": float(np.bincount(target).max() / len(target)),
        "f1": None,
        "roc_auc": None,
    }
    if present < n_classes:
        return {**metrics, "reason": f"f1 and roc_auc need every class; {present} of {n_classes} are in this split"}
    # A class that is never predicted has an F1 of 0.
    metrics["f1"] = float(f1_score(target, predicted, average="binary" if binary else "macro", zero_division=0))
    scores = probabilities[:, 1] if binary else probabilities
    metrics["roc_auc"] = float(roc_auc_score(target, scores, multi_class="ovr", average="macro"))
    return metrics


def confusions(n_classes: int, target: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the crystals for each pair of true and predicted classes.

    Args:
        n_classes: Number of classes.
        target: Indices of the true classes, ``[n]``.
        predicted: Indices of the predicted classes, ``[n]``.

    Returns:
        The counts, and their fractions of the crystals of the true class, ``[n_classes, n_classes]`` each with a row
        for each true class; the fractions of a class without crystals are 0.
    """
    counts = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(counts, (target, predicted), 1)
    return counts, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def evaluate_assessment(
    assessment: Assessment,
    targets: np.ndarray,
    names: Sequence[str],
    n_validation: np.ndarray,
    lowest: Sequence[float | None] = (),
) -> Metrics:
    """Compute metrics of the intervals and notes in an assessment.

    Args:
        assessment: Assessment of crystals that the model was neither trained nor calibrated on.
        targets: Targets in original units, NaN where missing, ``[n, n_targets]``.
        names: Names of the targets.
        n_validation: Number of crystals that the intervals of each target are calibrated on, ``[n_targets]``.
        lowest: Value at which the intervals of each target end, or None; empty if there is none.

    Returns:
        ``intervals``, except for classes: the requested coverage ``asked``, the fraction of the targets ``covered``
        with its 95% confidence interval ``covered_between``, the ``median_width`` in original units, and ``lowest`` if
        intervals end there, per target if there are several; and ``n_outside_domain``, the number of crystals that
        have a note.
    """
    metrics: Metrics = {"n_outside_domain": sum(map(bool, assessment.domain or ()))}
    if assessment.lower is None or assessment.upper is None:
        return metrics
    present = ~np.isnan(targets)
    is_covered = (assessment.lower <= targets) & (targets <= assessment.upper)
    widths = np.median(assessment.upper - assessment.lower, axis=0)
    counts, fewest = n_validation.tolist(), fewest_errors(COVERAGE)
    too_few = f"finite intervals need {fewest} validation crystals"
    each: dict[str, Metrics] = {}
    for column, name in enumerate(names):
        covered = is_covered[present[:, column], column]
        each[name] = {
            "n_validation": counts[column],
            **_coverage(covered),
            "median_width": float(widths[column]) if np.isfinite(widths[column]) else None,  # inf is not valid JSON
            **({"lowest": lowest[column]} if lowest and lowest[column] is not None else {}),
            **({"reason": too_few} if counts[column] < fewest else {}),
        }
    if len(each) == 1:
        return {"intervals": {"asked": COVERAGE, **each[names[0]]}, **metrics}
    if max(counts) >= fewest:  # infinite intervals always cover the target and would hide what the others cover
        present &= n_validation >= fewest
    intervals = {
        "asked": COVERAGE,
        "n_validation": min(counts),
        **_coverage(is_covered[present]),
        "per_target": each,
        **({"reason": too_few} if max(counts) < fewest else {}),
    }
    return {"intervals": intervals, **metrics}


def _coverage(covered: np.ndarray) -> Metrics:
    """Return the fraction of intervals that hold their target, ``[n]`` bool, with its 95% (Wilson) interval."""
    from scipy.stats import binomtest

    if not len(covered):
        return {"covered": None}
    between = binomtest(int(covered.sum()), len(covered)).proportion_ci(method="wilson")
    return {"covered": float(covered.mean()), "covered_between": [float(between.low), float(between.high)]}
