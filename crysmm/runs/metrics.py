"""How good predictions are: the numbers of ``metrics.json``.

A number that cannot be had (a correlation of one crystal, a ROC curve of one class) is None, with the reason
beside it, so that the file is JSON anyone can read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError
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
    """Every metric of one split.

    Args:
        scaler: says whether values or classes were predicted, and whether log10 was learned.
        targets: ``[n, n_targets]`` original units.
        predictions: as :meth:`TargetScaler.decode` gives them: ``[n, n_targets]`` or ``[n, n_classes]``.
        train_targets: ``[n_train, n_targets]`` original units, for the baseline: their mean.
        names: one a target.

    Returns:
        Numbers by name. Several targets: ``{"mean": {...}, "per_target": {name: {...}}}``. Where log10 was
        learned, ``unit`` says that these are in original units, and ``log10`` holds those of the logarithms.

    Raises:
        InputError: predictions are not finite: training went astray.
    """
    astray = int((~np.isfinite(predictions)).any(axis=1).sum())
    if astray:
        raise InputError(
            f"{astray} of {len(predictions)} predictions are not finite: training went astray; "
            "lower learning_rate, or look for outliers among the targets (crysmm check)"
        )
    if scaler.classes is not None:
        return classification_metrics(scaler.class_indices(targets), predictions)
    metrics = regression_metrics(targets, predictions, train_targets.mean(axis=0), names)
    if scaler.transform == "log10":
        logarithms = (np.log10(targets), np.log10(predictions), np.log10(train_targets).mean(axis=0))
        metrics = {"unit": "original", **metrics, "log10": regression_metrics(*logarithms, names)}
    return metrics


def regression_metrics(
    target: np.ndarray, prediction: np.ndarray, train_mean: np.ndarray, names: Sequence[str]
) -> Metrics:
    """Errors of predicted values ``[n, n_targets]``, per target and, where there are several, their means."""
    columns = {
        name: _regression_of_one(target[:, column], prediction[:, column], float(train_mean[column]))
        for column, name in enumerate(names)
    }
    if len(columns) == 1:
        return next(iter(columns.values()))
    keys = ("mae", "rmse", "r2", "mae_over_mad")
    return {"mean": {key: _mean([one[key] for one in columns.values()]) for key in keys}, "per_target": columns}


def _regression_of_one(target: np.ndarray, prediction: np.ndarray, train_mean: float) -> Metrics:
    """Metrics of one target, ``[n]`` each.

    ``mad`` is JARVIS' mean absolute deviation of the targets about their own mean; ``mae_of_train_mean`` the error
    of always predicting the mean of the training split.
    """
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    deviation = float(np.abs(target - target.mean()).mean())
    error = float(mean_absolute_error(target, prediction))
    spread = deviation > 0
    return {
        "n": len(target),
        "mae": error,
        "rmse": float(root_mean_squared_error(target, prediction)),
        "r2": float(r2_score(target, prediction)) if spread else None,
        "mad": deviation,
        "mae_over_mad": error / deviation if spread else None,
        "mae_of_train_mean": float(np.abs(target - train_mean).mean()),
        **({} if spread else {"reason": "r2 and mae_over_mad need targets that differ"}),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def classification_metrics(target: np.ndarray, probabilities: np.ndarray) -> Metrics:
    """Metrics of classes.

    Args:
        target: ``[n]`` class indices.
        probabilities: ``[n, n_classes]``.

    Returns:
        ``accuracy``; ``roc_auc`` from the probabilities (several classes: one against the rest, mean over classes);
        ``f1`` of class 1 where there are two, else the mean over classes; ``accuracy_of_most_frequent``, the share
        of the most frequent class among the targets.
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
        "f1": float(
            f1_score(
                target, predicted, average="binary" if binary else "macro", labels=range(n_classes), zero_division=0
            )
        ),
        "roc_auc": None,
    }
    if present < n_classes:
        return {**metrics, "reason": f"roc_auc needs every class; {present} of {n_classes} are in this split"}
    scores = probabilities[:, 1] if binary else probabilities
    metrics["roc_auc"] = float(roc_auc_score(target, scores, multi_class="ovr", average="macro"))
    return metrics


def judge(assessment: Assessment, targets: np.ndarray, names: Sequence[str], n_validation: int) -> Metrics:
    """How good what is said of predictions is.

    Args:
        assessment: of crystals that were neither learned from nor calibrated on.
        targets: ``[n, n_targets]`` original units.
        names: one a target.
        n_validation: crystals the intervals were calibrated on.

    Returns:
        ``intervals`` (not of classes): the coverage ``asked`` for, the share of the targets ``covered`` and the
        ``median_width`` in original units, by target where there are several; ``n_outside_domain``: crystals unlike
        the training crystals.
    """
    metrics: Metrics = {"n_outside_domain": sum(map(bool, assessment.domain or ()))}
    if assessment.lower is None or assessment.upper is None:
        return metrics
    held = (assessment.lower <= targets) & (targets <= assessment.upper)
    widths = np.median(assessment.upper - assessment.lower, axis=0)
    each = {
        name: {"covered": float(held[:, column].mean()), "median_width": _finite(widths[column])}
        for column, name in enumerate(names)
    }
    found = next(iter(each.values())) if len(each) == 1 else {"covered": float(held.mean()), "per_target": each}
    fewest = fewest_errors(COVERAGE)
    reason = f"finite intervals need {fewest} validation crystals" if n_validation < fewest else None
    intervals = {"asked": COVERAGE, "n_validation": n_validation, **found, **({"reason": reason} if reason else {})}
    return {"intervals": intervals, **metrics}


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
