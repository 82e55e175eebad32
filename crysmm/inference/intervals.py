"""Intervals that hold the target as often as they say: split conformal prediction.

The half-width is a quantile of the errors on crystals the network has not learned from, the validation split, with
the correction for their finite number (Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018)). On new crystals that are
exchangeable with these, the intervals hold at least the coverage asked for, whatever the model and the errors are.
Errors are divided by a width of each crystal before they are compared (locally weighted, section 5.2 there), so that
crystals far from the training crystals have wider intervals. They are taken in the units learned in: where that is
log10, intervals are asymmetric in original units.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from crysmm.data.scaler import TargetScaler

FINEST = 10**6  # coverages are read as fractions with at most this denominator, so that 0.7 of 10 is 7


def absolute_errors(scaler: TargetScaler, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """``[n, n_targets]`` in the units learned in, of targets and predictions ``[n, n_targets]`` in original units."""
    return np.abs(_learned(scaler, targets) - _learned(scaler, predictions))


def conformal_quantile(errors: np.ndarray, coverage: float) -> np.ndarray:
    """What the error of a new crystal stays below, in the share of cases asked for.

    Args:
        errors: ``[n, n_targets]`` of other crystals, ascending for each target.
        coverage: share of the targets that the intervals are to hold, between 0 and 1.

    Returns:
        ``[n_targets]``: the error of rank ``ceil((n + 1) coverage)``; infinite where there are not so many.
    """
    rank = math.ceil((len(errors) + 1) * _fraction(coverage))
    return errors[rank - 1] if rank <= len(errors) else np.full(errors.shape[1], np.inf)


def is_coverage(number: float) -> bool:
    """Whether intervals can be asked to hold that share of the targets: more than none, and not all."""
    return 0 < number < 1 and 0 < _fraction(number) < 1


def fewest_errors(coverage: float) -> int:
    """The smallest number of errors that gives finite intervals."""
    share = _fraction(coverage)
    return math.ceil(share / (1 - share))


def intervals_about(scaler: TargetScaler, predictions: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends ``[n, n_targets]`` in original units.

    Args:
        scaler: says whether log10 was learned.
        predictions: ``[n, n_targets]`` original units.
        radius: ``[n, n_targets]`` half-widths in the units learned in.
    """
    center = _learned(scaler, predictions)
    if scaler.transform == "log10":
        return 10 ** (center - radius), 10 ** (center + radius)
    return center - radius, center + radius


def _learned(scaler: TargetScaler, values: np.ndarray) -> np.ndarray:
    return np.log10(values) if scaler.transform == "log10" else values


def _fraction(coverage: float) -> Fraction:
    return Fraction(coverage).limit_denominator(FINEST)
