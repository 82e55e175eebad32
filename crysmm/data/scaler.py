"""From targets to what a network learns, and back: log10, standardisation, classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, first_of

ROUNDING = 1e-12  # a relative deviation below this is rounding: all targets are equal


class TargetScaler(BaseModel):
    """How targets are encoded for the network; plain data, kept in the model folder.

    Values: ``z = (f(y) - mean) / std`` a target, where f is log10 or nothing, and mean and std (of the training
    split alone) apply where ``standardize`` holds. Classes: ``z`` is the index of the class.

    Args:
        n_targets: targets a crystal.
        transform: ``log10`` or ``none``.
        standardize: whether mean and std are applied; a link other than identity switches it off.
        mean: mean of f(y) over the training split, one a target; empty for classes.
        std: deviation (population) of f(y) over the training split, 1 where all targets are equal.
        threshold: targets above it are class 1, the others class 0.
        classes: the target value of each class, or None where values are predicted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_targets: int
    transform: Literal["none", "log10"] = "none"
    standardize: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    threshold: float | None = None
    classes: tuple[float, ...] | None = None

    @classmethod
    def fit(cls, targets: np.ndarray, train: Sequence[int], config: TrainingConfig) -> TargetScaler:
        """The scaler of a data set.

        Args:
            targets: ``[n, n_targets]`` float64, every readable row; only the classes there are, are learned from
                rows outside the training split.
            train: the rows of the training split.
            config: the target settings are read.

        Raises:
            InputError: classes were asked for, and there are several targets, fewer than two classes, or a
                class without a training row.
        """
        if config.is_classification:
            return cls._fit_classes(targets, train, config.classification_threshold)
        values = np.asarray(targets, dtype=np.float64)[np.asarray(train)]
        if config.target_transform == "log10":
            values = np.log10(values)
        mean, std = values.mean(axis=0), values.std(axis=0)
        return cls(
            n_targets=values.shape[1],
            transform=config.target_transform,
            standardize=config.standardize_target and config.model.link == "identity",
            mean=tuple(mean.tolist()),
            std=tuple(np.where(std > ROUNDING * np.abs(mean), std, 1.0).tolist()),
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
        """Outputs the network needs: one a target, or one a class."""
        return len(self.classes) if self.classes is not None else self.n_targets

    def encode(self, targets: Tensor) -> Tensor:
        """What the network learns.

        Args:
            targets: ``[n, n_targets]``, original units.

        Returns:
            ``[n, n_targets]`` of the same dtype; for classes ``[n]`` int64 indices.
        """
        if self.classes is not None:
            if self.threshold is not None:
                # the threshold is rounded as the target was: a target equal to it must not come out above it
                return (targets[:, 0] > torch.tensor(self.threshold, dtype=targets.dtype)).long()
            values = torch.tensor(self.classes, dtype=torch.float64, device=targets.device)
            return (targets.double() - values).abs().argmin(dim=1)
        values = targets.double().log10() if self.transform == "log10" else targets.double()
        if self.standardize:
            values = (values - self._row(self.mean, values)) / self._row(self.std, values)
        return values.to(targets.dtype)

    def class_indices(self, targets: np.ndarray) -> np.ndarray:
        """``[n]`` class indices of targets ``[n, 1]``, where classes were learned."""
        return self.encode(torch.from_numpy(np.asarray(targets, dtype=np.float64))).numpy()

    def decode(self, outputs: Tensor) -> Tensor:
        """Predictions from raw network outputs ``[n, n_outputs]``.

        Returns:
            float64: ``[n, n_targets]`` in original units, or ``[n, n_classes]`` probabilities.
        """
        if self.classes is not None:
            return outputs.double().softmax(dim=1)
        values = self.decode_transformed(outputs)
        return 10**values if self.transform == "log10" else values

    def decode_transformed(self, outputs: Tensor) -> Tensor:
        """``[n, n_targets]`` float64 predictions of f(y): of log10 of the target where that was learned."""
        values = outputs.double()
        if self.standardize:
            values = values * self._row(self.std, values) + self._row(self.mean, values)
        return values

    def drift(self, prediction: np.ndarray, reference: np.ndarray) -> float:
        """Largest difference of two decoded predictions: of probabilities, or in deviations of f(y)."""
        if self.classes is not None:
            return float(np.abs(prediction - reference).max())
        if self.transform == "log10":
            prediction, reference = np.log10(prediction), np.log10(reference)
        return float((np.abs(prediction - reference) / np.array(self.std)).max())

    @staticmethod
    def _row(numbers: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=like.device)

    def to_dict(self) -> dict[str, Any]:
        """For ``model.json``; floats keep every bit."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> TargetScaler:
        """The scaler :meth:`to_dict` described.

        Raises:
            pydantic.ValidationError: it describes none.
        """
        return cls.model_validate(content)


def class_label(value: float) -> str:
    """A class as people write it: ``1`` rather than ``1.0``."""
    return str(int(value)) if value.is_integer() else repr(value)
