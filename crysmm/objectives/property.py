"""Supervised training on one property, on several, or on classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crysmm.config.training import Criterion
from crysmm.data.batch import CrystalBatch, labels_per_crystal
from crysmm.data.scaler import TargetScaler, varies
from crysmm.engines.linear import precise
from crysmm.models.networks import PropertyNetwork
from crysmm.objectives.objective import Objective

CRITERIA: dict[Criterion, Callable[..., Tensor]] = {
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "huber": functional.huber_loss,
}


@dataclass(frozen=True)
class TargetWeights:
    """Weights of several targets, which a crystal may lack, in the loss and in the validation score.

    The score is the mean over targets of the mean absolute error, in units of the target's standard deviation. As the
    training loop averages over crystals, the factors of the errors contain how often the target occurs.

    Args:
        loss: Weight of each target in the loss, 1 on average, ``[n_targets]``.
        score: Factor of each absolute error in original units in the score, ``[n_targets]``; 0 for a target that no
            validation crystal has.
        labels_per_crystal: Mean number of targets that a validation crystal has; None if none is missing.
    """

    loss: np.ndarray
    score: np.ndarray
    labels_per_crystal: float | None


def fit_weights(weights: Sequence[float] | None, train: np.ndarray, validation: np.ndarray) -> TargetWeights | None:
    """Return the weights for several targets, or None for one.

    Args:
        weights: Weight of each target in the loss; None for equal ones.
        train: Targets of the training split, NaN where missing, ``[n, n_targets]``.
        validation: Targets of the validation split, ``[m, n_targets]``.
    """
    n_targets = train.shape[1]
    if n_targets == 1:
        return None
    loss = np.ones(n_targets) if weights is None else np.array(weights) / np.mean(weights)
    deviation, mean = np.nanstd(train, axis=0), np.nanmean(train, axis=0)
    fraction = (~np.isnan(validation)).mean(axis=0)
    scored = fraction > 0
    scale = np.where(varies(deviation, mean), deviation, 1.0) * np.where(scored, fraction, 1.0) * scored.sum()
    return TargetWeights(loss, scored / scale, labels_per_crystal(validation))


class PropertyObjective(Objective):
    """A criterion between network outputs and encoded targets, or cross-entropy for classes.

    Of several targets, a crystal may lack some: the loss of a batch is the mean over the labels that are there.

    The metrics are ``loss``, the criterion itself, and ``mae``, the absolute error in the units of the input. For
    several targets there is ``mae_over_std`` instead, the mean over the targets of their mean absolute errors, each
    divided by the standard deviation of its labels in the training split. For classes the metrics are ``loss`` and
    ``error``, the fraction of misclassified crystals.

    Args:
        network: Network from a batch to ``[n_crystals, n_outputs]``.
        scaler: Conversion between the units of the input and those of the network.
        criterion: Regression loss, computed on standardized targets if the scaler standardizes.
        weights: Weights of several targets; without them, all weigh the same and ``mae`` is the mean over targets.
    """

    network: PropertyNetwork

    def __init__(
        self,
        network: PropertyNetwork,
        scaler: TargetScaler,
        criterion: Criterion,
        weights: TargetWeights | None = None,
    ):
        metric = "mae" if weights is None else "mae_over_std"
        super().__init__(network, monitor=metric if scaler.classes is None else "loss")
        self.scaler = scaler
        self.criterion = criterion
        self.weights = weights

    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Return the mean loss of the batch plus the penalty of the backbone."""
        return self.label_losses(self.network(batch), batch).mean() + self.network.backbone.penalty()

    def metrics(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return ``loss`` and the error per crystal."""
        return self.label_metrics(self.network(batch), batch)

    def label_losses(self, outputs: Tensor, batch: CrystalBatch) -> Tensor:
        """Return the loss per crystal, ``[n_crystals]``, in fp32, or in fp64 if the outputs are.

        With missing targets, that of a crystal is the sum over its labels, divided by the mean number of labels per
        crystal. The mean over the crystals of a batch, of all processes together, is then the mean over its labels.

        Args:
            outputs: Outputs of the network, ``[n_crystals, n_outputs]``.
            batch: Batch with targets.

        Raises:
            ValueError: The batch has no targets.
        """
        if batch.targets is None:
            raise ValueError("a batch without targets has no loss; read the crystals with their targets")
        # Losses of bf16 outputs are computed in fp32, those of metrics in fp64.
        outputs, encoded = precise(outputs), self.scaler.encode(batch.targets)
        if self.scaler.classes is not None:
            return functional.cross_entropy(outputs, encoded, reduction="none")
        encoded = encoded.to(outputs.dtype)
        # NaN is replaced before the criterion and not after it: 0 times the gradient of NaN would be NaN
        present = ~encoded.isnan()
        losses = CRITERIA[self.criterion](outputs, torch.where(present, encoded, 0), reduction="none")
        if self.weights is not None:
            losses = losses * torch.from_numpy(self.weights.loss).to(losses)
        if batch.labels_per_crystal is None:
            return losses.mean(1)
        return torch.where(present, losses, 0).sum(1) / batch.labels_per_crystal

    def label_metrics(self, outputs: Tensor, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return the metrics for given network outputs; for the arguments see :meth:`label_losses`."""
        outputs = outputs.double()
        if self.weights is not None:  # so that the mean over all batches is that over all labels
            batch = replace(batch, labels_per_crystal=self.weights.labels_per_crystal)
        losses = self.label_losses(outputs, batch)  # refuses a batch without targets
        assert batch.targets is not None
        if self.scaler.classes is not None:
            wrong = outputs.argmax(1) != self.scaler.encode(batch.targets)
            return {"loss": losses, "error": wrong.double()}
        errors = (self.scaler.decode(outputs) - batch.targets).abs()
        if self.weights is None:
            return {"loss": losses, "mae": errors.mean(1)}
        errors = torch.where(batch.targets.isnan(), 0, errors)
        return {"loss": losses, "mae_over_std": errors @ torch.from_numpy(self.weights.score).to(errors)}


def baseline(scaler: TargetScaler, train: np.ndarray, validation: np.ndarray) -> float:
    """Return the monitored metric of a constant prediction, the score that a network has to beat.

    Args:
        scaler: Scaler fitted on the training split.
        train: Targets of the training split, ``[n, n_targets]``.
        validation: Targets of the validation split, ``[m, n_targets]``.

    Returns:
        The mean absolute error of the mean of the training split; for several targets, the mean over targets of this
        error divided by the standard deviation in the training split; or for classes the cross-entropy of their
        frequencies in the training split.
    """
    if scaler.classes is None:
        mean = np.nanmean(train, axis=0)
        errors = np.abs(validation - mean)
        errors[~varies(errors, mean)] = 0.0  # the mean of equal numbers is rounded
        weights = fit_weights(None, train, validation)
        return float(errors.mean() if weights is None else np.nan_to_num(errors).mean(axis=0) @ weights.score)
    classes = scaler.encode(torch.from_numpy(train))
    counts = torch.bincount(classes, minlength=len(scaler.classes)).double()
    # A class that only occurs in the validation split would have an infinite cross-entropy.
    frequencies = (counts / counts.sum()).clamp_min(torch.finfo(torch.float64).tiny)
    return float(-frequencies.log()[scaler.encode(torch.from_numpy(validation))].mean())
