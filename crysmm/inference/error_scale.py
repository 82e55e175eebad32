"""Size of the error that is to be expected of a prediction, learned from the errors on the validation split.

Errors grow with the distance from the training crystals, and depend on the size of the cell: small cells of unusual
elements are often predicted worse per atom than large ones. The absolute error ``e`` of a crystal at the distance ``d``
with ``n`` atoms is taken to be exponentially distributed with the mean

    s(d, n) = exp(a) (d / d0 + 0.01)^b n^c,

in which ``d0`` is the usual distance between training crystals. The coefficients maximize the likelihood, which is a
convex problem. A normal prior for the exponents keeps ``s`` nearly constant where validation crystals are few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

CLOSEST = 0.01  # added to relative distances: a crystal that is in the training split has the distance 0
PRIOR = 5.0  # precision of the exponents of standardized features, times 1/2
N_FOLDS = 5


@dataclass(frozen=True)
class ErrorScale:
    """Coefficients of the expected errors.

    Args:
        coefficients: Values of ``a``, ``b`` and ``c`` per target, float64 `[n_targets, 3]`.
        n_atoms: Smallest and largest number of atoms in a validation crystal, float64 `[2]`; other cells count as
            these.
    """

    coefficients: np.ndarray
    n_atoms: np.ndarray

    @classmethod
    def fit(cls, errors: np.ndarray, distances: np.ndarray, n_atoms: np.ndarray) -> ErrorScale:
        """Fit the coefficients of each target.

        Args:
            errors: Absolute errors of the validation crystals, NaN where missing, `[n_val, n_targets]`.
            distances: Relative distances from the training crystals, `[n_val]`.
            n_atoms: Numbers of atoms, `[n_val]`.
        """
        scale = cls(np.zeros((errors.shape[1], 3)), np.array([n_atoms.min(), n_atoms.max()], dtype=np.float64))
        features = scale._features(distances, n_atoms)
        known = ~np.isnan(errors)
        each = [_fit(features[rows], own[rows]) for own, rows in zip(errors.T, known.T, strict=True)]
        return cls(np.array(each), scale.n_atoms)

    def expected(self, distances: np.ndarray, n_atoms: np.ndarray) -> np.ndarray:
        """Return the expected absolute errors, in the units of the errors fitted to, `[n, n_targets]`.

        Args:
            distances: Relative distances from the training crystals, `[n]`.
            n_atoms: Numbers of atoms, `[n]`.
        """
        features = self._features(distances, n_atoms)
        return np.exp(self.coefficients[:, 0] + features @ self.coefficients[:, 1:].T)

    def _features(self, distances: np.ndarray, n_atoms: np.ndarray) -> np.ndarray:
        """Return the logarithms that the exponents multiply, `[n, 2]`."""
        smallest, largest = self.n_atoms
        # A power law fitted to some sizes says nothing about others, and would make intervals of huge cells vanish.
        return np.stack([np.log(distances + CLOSEST), np.log(np.clip(n_atoms, smallest, largest))], axis=1)


def cross_fitted(errors: np.ndarray, distances: np.ndarray, n_atoms: np.ndarray) -> np.ndarray:
    """Return the expected error of each validation crystal from coefficients fitted to others, `[n_val, n_targets]`.

    The ratio of an error to an expectation that it took part in is too small, and intervals would be too narrow.

    Args:
        errors: As in :meth:`ErrorScale.fit`.
        distances: As in :meth:`ErrorScale.fit`.
        n_atoms: As in :meth:`ErrorScale.fit`.
    """
    fold = np.arange(len(errors)) % N_FOLDS  # the order of a split is random, or the user's own
    expected = np.empty_like(errors)
    for number in range(N_FOLDS):
        others, own = fold != number, fold == number
        if others.any() and own.any():
            scale = ErrorScale.fit(errors[others], distances[others], n_atoms[others])
            expected[own] = scale.expected(distances[own], n_atoms[own])
        else:  # a single validation crystal
            expected[own] = 1.0
    return expected


def _fit(features: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return ``a``, ``b`` and ``c`` of one target from features `[n, 2]` and errors `[n]`; zeros without errors."""
    level = errors.mean() if len(errors) else 0.0
    if level == 0.0:
        return np.zeros(3)
    mean, std = features.mean(axis=0), features.std(axis=0)
    # Equal features differ by rounding, and tell nothing.
    standardized = np.where(std > 1e-9, (features - mean) / np.where(std > 1e-9, std, 1.0), 0.0)
    relative = errors / level

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative log-likelihood per crystal with the prior, and its gradient."""
        logarithm = parameters[0] + standardized @ parameters[1:]
        ratio = relative * np.exp(-logarithm)
        slope = (1.0 - ratio) / len(errors)
        prior = PRIOR / len(errors) * parameters[1:]
        gradient = np.concatenate([[slope.sum()], standardized.T @ slope + 2.0 * prior])
        return float((logarithm + ratio).mean() + prior @ parameters[1:]), gradient

    level_of_mean, *exponents = minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B").x
    exponents = np.where(std > 1e-9, exponents / np.where(std > 1e-9, std, 1.0), 0.0)
    return np.array([np.log(level) + level_of_mean - exponents @ mean, *exponents])
