"""Size of the error that is to be expected of a prediction, fitted to the errors on the validation split.

Errors grow with the distance from the training crystals. They depend on the size of the cell, as small cells of unusual
elements are often predicted worse per atom than large ones, and on the prediction itself, as a band gap predicted as 0
is seldom wrong. The absolute error of a crystal with ``n`` atoms and the prediction ``y`` at the distance ``d`` is
taken to be exponentially distributed with the mean

    s(d, n, y) = exp(a) (d / d0 + 0.01)^b n^c (max(y - y0, 0) / sigma + 0.01)^f,

in which ``d0`` is the usual distance between training crystals, ``y0`` the first percentile of the predictions, and
``sigma`` their standard deviation. The coefficients maximize the likelihood, which is a convex problem. A normal prior
for the exponents keeps ``s`` nearly constant where validation crystals are few.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

OFFSET = 0.01  # added before the logarithm to relative distances and heights, which may be 0, as in the training split
LOWEST = 0.01  # quantile of the predictions from which their height is measured; the least may be an outlier
PRIOR = 5.0  # precision of the exponents of standardized features, times 1/2; it weighs as much as ten crystals
N_FOLDS = 5  # few fits, each to 80% of the validation crystals


@dataclass(frozen=True)
class ErrorScale:
    """Coefficients of the expected errors.

    Args:
        coefficients: Values of ``a``, ``b``, ``c`` and ``f`` per target, float64 ``[n_targets, 4]``.
        n_atoms: Smallest and largest number of atoms in a validation crystal, float64 ``[2]``; other cells count as
            these.
        predictions: Values of ``y0`` and ``sigma`` per target, float64 ``[n_targets, 2]``.
    """

    coefficients: np.ndarray
    n_atoms: np.ndarray
    predictions: np.ndarray

    @classmethod
    def fit(cls, errors: np.ndarray, distances: np.ndarray, n_atoms: np.ndarray, predictions: np.ndarray) -> ErrorScale:
        """Fit the coefficients of each target.

        Args:
            errors: Absolute errors of the validation crystals, NaN where missing, ``[n_val, n_targets]``.
            distances: Relative distances from the training crystals, ``[n_val]``.
            n_atoms: Numbers of atoms, ``[n_val]``.
            predictions: Predictions in the units of the errors, ``[n_val, n_targets]``.
        """
        sizes = np.array([n_atoms.min(), n_atoms.max()], dtype=np.float64)
        levels = np.stack([np.quantile(predictions, LOWEST, axis=0), predictions.std(axis=0)], axis=1)
        scale = cls(np.zeros((errors.shape[1], 4)), sizes, levels)
        known = ~np.isnan(errors)
        coefficients = [
            _fit(scale._features(target, distances, n_atoms, predictions)[rows], errors[rows, target])
            for target, rows in enumerate(known.T)
        ]
        return cls(np.array(coefficients), sizes, levels)

    def expected(self, distances: np.ndarray, n_atoms: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the expected absolute errors, in the units of the errors fitted to, ``[n, n_targets]``.

        Args:
            distances: Relative distances from the training crystals, ``[n]``.
            n_atoms: Numbers of atoms, ``[n]``.
            predictions: Predictions, ``[n, n_targets]``.
        """
        logarithms = [
            own[0] + self._features(target, distances, n_atoms, predictions) @ own[1:]
            for target, own in enumerate(self.coefficients)
        ]
        return np.exp(np.stack(logarithms, axis=1))

    def _features(self, target: int, distances: np.ndarray, n_atoms: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the logarithms that the exponents of a target multiply, ``[n, 3]``."""
        lowest, deviation = self.predictions[target]
        height = np.maximum(predictions[:, target] - lowest, 0) / (deviation or 1.0)
        # A power law fitted to some sizes says nothing about others, and would make intervals of huge cells vanish.
        sizes = np.clip(n_atoms, *self.n_atoms)
        return np.stack([np.log(distances + OFFSET), np.log(sizes), np.log(height + OFFSET)], axis=1)


def fit_error_scale(
    errors: np.ndarray, distances: np.ndarray, n_atoms: np.ndarray, predictions: np.ndarray
) -> tuple[ErrorScale, np.ndarray]:
    """Fit the expected errors of each target; return them, and the ratio of each error to an expectation.

    The ratio of an error to an expectation that it took part in is too small, and intervals would be too narrow. So
    that of each crystal is fitted to the crystals of other folds. A target with a fold whose others have no label, or
    no error, has the same expected error, 1, everywhere.

    Args:
        errors: As in :meth:`ErrorScale.fit`.
        distances: As in :meth:`ErrorScale.fit`.
        n_atoms: As in :meth:`ErrorScale.fit`.
        predictions: As in :meth:`ErrorScale.fit`.

    Returns:
        The expected errors, and the ratios, NaN where there is no error, ``[n_val, n_targets]``.
    """
    fold = np.arange(len(errors)) % N_FOLDS  # the order of a split is random, or the user's own
    expected = np.ones_like(errors)
    can_be_fitted = np.ones(errors.shape[1], dtype=bool)
    for number in range(N_FOLDS):
        others, own = fold != number, fold == number
        if own.any():
            can_be_fitted &= np.nansum(errors[others], axis=0) > 0
        if own.any() and others.any():
            scale = ErrorScale.fit(errors[others], distances[others], n_atoms[others], predictions[others])
            expected[own] = scale.expected(distances[own], n_atoms[own], predictions[own])
    scale = ErrorScale.fit(errors, distances, n_atoms, predictions)
    coefficients = np.where(can_be_fitted[:, None], scale.coefficients, 0.0)
    return replace(scale, coefficients=coefficients), errors / np.where(can_be_fitted, expected, 1.0)


def _fit(features: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return a target's coefficients, ``[4]``, from features ``[n, 3]`` and errors ``[n]``; zeros without errors."""
    level = errors.mean() if len(errors) else 0.0
    if level == 0.0:
        return np.zeros(4)
    mean, std = features.mean(axis=0), features.std(axis=0)
    std[std < 1e-9] = np.inf  # equal features differ by rounding and carry no information: their exponents become 0
    standardized = (features - mean) / std
    relative = errors / level

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative log-likelihood per crystal with the prior, and its gradient."""
        logarithm = parameters[0] + standardized @ parameters[1:]
        ratio = relative * np.exp(-logarithm)
        slope = (1.0 - ratio) / len(errors)
        prior = PRIOR / len(errors) * parameters[1:]
        gradient = np.concatenate([[slope.sum()], standardized.T @ slope + 2.0 * prior])
        return float((logarithm + ratio).mean() + prior @ parameters[1:]), gradient

    level_of_mean, *slopes = minimize(loss, np.zeros(4), jac=True, method="L-BFGS-B").x
    exponents = slopes / std
    return np.array([np.log(level) + level_of_mean - exponents @ mean, *exponents])
