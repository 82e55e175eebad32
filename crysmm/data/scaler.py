"""Scaling of targets for the network and back: log10, standardization, classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from crysmm.config.training import TargetTransform, TrainingConfig
from crysmm.errors import InputError, count, first_of

ROUNDING = 1e-12  # a relative deviation below this is rounding


def varies(deviation: ArrayLike, mean: ArrayLike) -> Any:
    """Return whether targets differ, by their standard or mean absolute deviation and their mean."""
    return np.greater(deviation, ROUNDING * np.abs(mean))


class TargetScaler(BaseModel):
    """Encoding of targets for the network; plain data that is stored in the model folder.

    For values, ``z = (f(y) - mean) / std`` per target, with f either log10 or the identity, and with mean and std from
    the training split if ``standardize`` is set. For classes, ``z`` is the index of the class.

    Args:
        n_targets: Number of targets per crystal.
        transform: Transform f, ``log10`` or ``none``.
        standardize: True to apply mean and std; a link other than identity switches it off.
        mean: Mean of f(y) over the crystals of the training split that have the target, one per target; empty for
            classes.
        std: Population standard deviation of f(y) over the training split; 1 where all targets are equal.
        lowest: Smallest possible value of each target, where intervals end; None if there is none, empty if unknown.
        threshold: Threshold above which a target is class 1 instead of class 0.
        classes: Target value of each class, or None for regression.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_targets: int
    transform: TargetTransform = "none"
    standardize: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    lowest: tuple[float | None, ...] = ()
    threshold: float | None = None
    classes: tuple[float, ...] | None = None

    @classmethod
    def fit(cls, targets: np.ndarray, train: Sequence[int], config: TrainingConfig) -> TargetScaler:
        """Fit the scaler to the training split.

        Args:
            targets: Targets of every readable row, NaN where missing, ``[n, n_targets]`` float64. Rows outside the
                training split contribute the set of classes, nothing else.
            train: Rows of the training split.
            config: Training settings for the target.

        Raises:
            InputError: Classification with several targets, fewer than two classes, a class or target without
                training rows, or a number of weights that is not that of the targets.
        """
        weights, n_targets = config.target_weights, targets.shape[1]
        if weights is not None and len(weights) != n_targets:
            raise InputError(
                f"--target_weights: {count(len(weights), 'number')} given; expected {n_targets}, one for each target"
            )
        if config.is_classification:
            return cls._fit_classes(targets, train, config.classification_threshold)
        original = np.asarray(targets, dtype=np.float64)[np.asarray(train)]
        values = np.log10(original) if config.target_transform == "log10" else original
        n_without = int(np.isnan(values).all(axis=0).sum())
        if n_without:
            raise InputError(
                f"{n_without} of {n_targets} targets have no value in the training split; leave them out of "
                "target_key, or add data (crysmm check counts the values)"
            )
        mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        if config.target_min == "auto":
            may_end = config.target_transform != "log10"  # whose intervals end above 0 anyway
            lowest = tuple(0.0 if may_end and smallest >= 0 else None for smallest in np.nanmin(original, axis=0))
        else:
            lowest = (None if config.target_min == "none" else config.target_min,) * n_targets
        return cls(
            n_targets=n_targets,
            transform=config.target_transform,
            standardize=config.standardize_target and config.model.link == "identity",
            mean=tuple(mean.tolist()),
            std=tuple(np.where(varies(std, mean), std, 1.0).tolist()),
            lowest=lowest,
        )

    @classmethod
    def _fit_classes(cls, targets: np.ndarray, train: Sequence[int], threshold: float | None) -> TargetScaler:
        if targets.shape[1] != 1:
            raise InputError(f"classes need one target, got {targets.shape[1]}; choose one with target_key")
        values = np.asarray(targets, dtype=np.float64)[:, 0]
        if threshold is not None:
            values = (values > threshold).astype(np.float64)
        classes = [0.0, 1.0] if threshold is not None else np.unique(values).tolist()
        absent = sorted(set(classes) - set(values[np.asarray(train)].tolist()))
        if len(classes) < 2 or absent:
            remedy = (
                "choose another classification_threshold"
                if threshold is not None
                else "the distinct values of the target are the classes: give classification_threshold for a quantity"
            )
            named = first_of(list(map(class_label, absent)))
            found = f"{len(absent)} of {len(classes)} have no crystal in the training split ({named})"
            raise InputError(
                f"classes cannot be learned, {found if absent else 'all targets are equal'}; {remedy}, or another split"
            )
        return cls(n_targets=1, standardize=False, threshold=threshold, classes=tuple(classes))

    @property
    def n_outputs(self) -> int:
        """Number of network outputs: one per target or per class."""
        return len(self.classes) if self.classes is not None else self.n_targets

    def encode(self, targets: Tensor) -> Tensor:
        """Encode targets for the network.

        Args:
            targets: Targets in original units, ``[n, n_targets]``.

        Returns:
            Encoded values, ``[n, n_targets]`` of the same dtype; class indices, ``[n]`` int64, for classes.
        """
        if self.classes is not None:
            if self.threshold is not None:
                # round the threshold like the targets: a target equal to it must not compare as greater
                return (targets[:, 0] > torch.tensor(self.threshold, dtype=targets.dtype)).long()
            values = torch.tensor(self.classes, dtype=torch.float64, device=targets.device)
            return (targets.double() - values).abs().argmin(dim=1)
        values = targets.double().log10() if self.transform == "log10" else targets.double()
        if self.standardize:
            mean, std = torch.tensor([self.mean, self.std], dtype=torch.float64, device=values.device)
            values = (values - mean) / std
        return values.to(targets.dtype)

    def class_indices(self, targets: np.ndarray) -> np.ndarray:
        """Return the class indices, ``[n]``, of targets, ``[n, 1]``."""
        return self.encode(torch.from_numpy(np.asarray(targets, dtype=np.float64))).numpy()

    def decode(self, outputs: Tensor) -> Tensor:
        """Convert raw network outputs, ``[n, n_outputs]``, to predictions.

        Returns:
            Values in original units, ``[n, n_targets]`` float64, or probabilities, ``[n, n_classes]`` float64.
        """
        if self.classes is not None:
            return outputs.double().softmax(dim=1)
        values = outputs.double()
        if self.standardize:
            mean, std = torch.tensor([self.mean, self.std], dtype=torch.float64, device=values.device)
            values = values * std + mean
        return 10**values if self.transform == "log10" else values

    def drift(self, prediction: np.ndarray, reference: np.ndarray) -> float:
        """Return the largest difference between two decoded predictions, in standard deviations of f(y) for values."""
        if self.classes is not None:
            return float(np.abs(prediction - reference).max())
        if self.transform == "log10":
            prediction, reference = np.log10(prediction), np.log10(reference)
        return float((np.abs(prediction - reference) / np.array(self.std)).max())


def class_label(value: float) -> str:
    """Format a class value: ``1`` instead of ``1.0``."""
    return str(int(value)) if value.is_integer() else repr(value)
