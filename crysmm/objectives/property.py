"""Supervised training on one property, on several, or on classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.engines.linear import precise
from crysmm.models.networks import PropertyNetwork
from crysmm.objectives.base import Objective

Criterion = Literal["l1", "mse", "huber"]

CRITERIA: dict[Criterion, Callable[..., Tensor]] = {
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "huber": functional.huber_loss,
}


class PropertyObjective(Objective):
    """A criterion between network outputs and encoded targets, or cross-entropy for classes.

    The metrics are ``loss``, the criterion itself, and ``mae``, the absolute error in the units of the input, averaged
    over the targets. For classes they are ``loss`` and ``error``, the fraction of misclassified crystals.

    Args:
        network: Network from a batch to ``[n_crystals, n_outputs]``.
        scaler: Conversion between the units of the input and those of the network.
        criterion: Regression loss, computed on standardized targets if the scaler standardizes.
    """

    network: PropertyNetwork

    def __init__(self, network: PropertyNetwork, scaler: TargetScaler, criterion: Criterion):
        super().__init__(network, monitor="mae" if scaler.classes is None else "loss")
        self.scaler = scaler
        self.criterion = criterion

    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Return the mean loss of the batch plus the penalty of the backbone."""
        return self.label_losses(self.network(batch), batch).mean() + self.network.backbone.penalty()

    def metrics(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return ``loss``, and ``mae`` or ``error``, per crystal."""
        return self.label_metrics(self.network(batch), batch)

    def label_losses(self, outputs: Tensor, batch: CrystalBatch) -> Tensor:
        """Return the loss per crystal, ``[n_crystals]``, in fp32, or in fp64 if the outputs are.

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
        return CRITERIA[self.criterion](outputs, encoded.to(outputs.dtype), reduction="none").mean(1)

    def label_metrics(self, outputs: Tensor, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return the metrics for given network outputs; for the arguments see :meth:`label_losses`."""
        outputs = outputs.double()
        losses = self.label_losses(outputs, batch)  # refuses a batch without targets
        assert batch.targets is not None
        if self.scaler.classes is not None:
            wrong = outputs.argmax(1) != self.scaler.encode(batch.targets)
            return {"loss": losses, "error": wrong.double()}
        return {"loss": losses, "mae": (self.scaler.decode(outputs) - batch.targets).abs().mean(1)}


def baseline(scaler: TargetScaler, train: np.ndarray, validation: np.ndarray) -> float:
    """Return the monitored metric of a constant prediction, the score that a network has to beat.

    Args:
        scaler: Scaler fitted on the training split.
        train: Targets of the training split, ``[n, n_targets]``.
        validation: Targets of the validation split, ``[m, n_targets]``.

    Returns:
        The mean absolute error of the mean of the training split, or for classes the cross-entropy of their
        frequencies in the training split.
    """
    if scaler.classes is None:
        return float(np.abs(validation - train.mean(0)).mean())
    classes = scaler.encode(torch.from_numpy(train))
    counts = torch.bincount(classes, minlength=len(scaler.classes)).double()
    # A class that only occurs in the validation split would have an infinite cross-entropy.
    frequencies = (counts / counts.sum()).clamp_min(torch.finfo(torch.float64).tiny)
    return float(-frequencies.log()[scaler.encode(torch.from_numpy(validation))].mean())
