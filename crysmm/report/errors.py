"""One number a crystal that says how far off its prediction is, and what the mean of these is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.data.scaler import TargetScaler
from crysmm.report.numbers import number


@dataclass(frozen=True)
class CrystalErrors:
    """How far off the predictions of a split are.

    Args:
        measure: what the mean over crystals is: ``MAE``, ``MAE / MAD`` or ``error rate``.
        explanation: the same as half a sentence.
        values: ``[n]`` an error a crystal; the worst has the largest.
        ranks: ``[n]`` what crystals are sorted by, worst last; of classes how sure the network was of a wrong one.
        column: ``[n]`` the target that contributes most to it.
    """

    measure: str
    explanation: str
    values: np.ndarray
    ranks: np.ndarray
    column: np.ndarray

    @property
    def mean(self) -> float:
        """Over all crystals."""
        return float(self.values.mean())

    def text(self, value: float) -> str:
        """A mean of some of the values, as people read it."""
        return f"{value:.0%}" if self.measure == "error rate" else number(value)

    def worst(self, n: int) -> list[int]:
        """Places of the crystals that are farthest off, the worst first; of classes, the wrong ones alone."""
        order = np.argsort(-self.ranks, kind="stable")
        return [int(place) for place in order[:n] if self.values[place] > 0]


def crystal_errors(
    scaler: TargetScaler, targets: np.ndarray, predictions: np.ndarray, train_targets: np.ndarray, names: Sequence[str]
) -> CrystalErrors:
    """The error of each crystal.

    One target: the absolute error in original units. Several: the mean over targets of the absolute error as a share
    of the target's mean absolute deviation in the training split. Classes: 1 where the most probable class is wrong.

    Args:
        scaler: says whether these are values or probabilities.
        targets: ``[n, n_targets]`` original units.
        predictions: ``[n, n_targets]``, or ``[n, n_classes]`` probabilities.
        train_targets: ``[n_train, n_targets]``.
        names: one a target.
    """
    if scaler.classes is not None:
        truth = scaler.class_indices(targets)
        wrong = (predictions.argmax(axis=1) != truth) * 1.0
        doubt = 1 - predictions[np.arange(len(truth)), truth]
        explanation = "share of crystals given the wrong class"
        return CrystalErrors("error rate", explanation, wrong, doubt, np.zeros(len(truth), dtype=int))
    errors = np.abs(predictions - targets)
    if len(names) == 1:
        explanation = f"mean absolute error of {names[0]}, in the unit of the input"
        return CrystalErrors("MAE", explanation, errors[:, 0], errors[:, 0], np.zeros(len(errors), dtype=int))
    deviation = np.abs(train_targets - train_targets.mean(axis=0)).mean(axis=0)
    shares = errors / np.where(deviation > 0, deviation, 1.0)
    mean = shares.mean(axis=1)
    explanation = "mean over targets of the absolute error, divided by the mean absolute deviation in training"
    return CrystalErrors("MAE / MAD", explanation, mean, mean, shares.argmax(axis=1))
