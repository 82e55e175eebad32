"""Learning one property, several, or classes, from labels alone."""

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
    """A criterion between the network's outputs and the encoded targets; cross-entropy for classes.

    Measures: ``loss``, the criterion itself, and ``mae``, the absolute error in the file's units, a mean over the
    targets; for classes ``loss`` and ``error``, the share of crystals put in the wrong class.

    Args:
        network: from a batch to ``[n_crystals, n_outputs]``.
        scaler: between the file's units and the network's.
        criterion: loss of regression; of the standardised targets where the scaler standardises.
    """

    network: PropertyNetwork

    def __init__(self, network: PropertyNetwork, scaler: TargetScaler, criterion: Criterion):
        super().__init__(network, monitor="mae" if scaler.classes is None else "loss")
        self.scaler = scaler
        self.criterion = criterion

    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Mean loss of the batch, and the backbone's penalty."""
        return self.label_losses(self.network(batch), batch).mean() + self.network.backbone.penalty()

    def measures(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """``loss``, and ``mae`` or ``error``, of each crystal."""
        return self.label_measures(self.network(batch), batch)

    def label_losses(self, outputs: Tensor, batch: CrystalBatch) -> Tensor:
        """``[n_crystals]`` losses of the network's outputs."""
        return self._losses(precise(outputs), self.scaler.encode(self._targets(batch)))

    def label_measures(self, outputs: Tensor, batch: CrystalBatch) -> dict[str, Tensor]:
        """The measures of the network's outputs."""
        outputs, targets = outputs.double(), self._targets(batch)
        encoded = self.scaler.encode(targets)
        losses = self._losses(outputs, encoded)
        if self.scaler.classes is not None:
            return {"loss": losses, "error": (outputs.argmax(1) != encoded).double()}
        return {"loss": losses, "mae": (self.scaler.decode(outputs) - targets).abs().mean(1)}

    def _targets(self, batch: CrystalBatch) -> Tensor:
        if batch.targets is None:
            raise ValueError("a batch without targets has no loss; read the crystals with their targets")
        return batch.targets

    def _losses(self, outputs: Tensor, encoded: Tensor) -> Tensor:
        """``[n_crystals]``."""
        if self.scaler.classes is not None:
            return functional.cross_entropy(outputs, encoded, reduction="none")
        return CRITERIA[self.criterion](outputs, encoded.to(outputs.dtype), reduction="none").mean(1)


def baseline(scaler: TargetScaler, train: np.ndarray, validation: np.ndarray) -> float:
    """What an objective's monitored measure would be without a network: the score to beat.

    Args:
        scaler: fitted on the training split.
        train: ``[n, n_targets]``, targets of the training split.
        validation: ``[m, n_targets]``, targets of the validation split.

    Returns:
        The mean absolute error of predicting the mean of the training split; for classes the cross-entropy of
        predicting their frequencies there.
    """
    if scaler.classes is None:
        return float(np.abs(validation - train.mean(0)).mean())
    classes = scaler.encode(torch.from_numpy(train))
    counts = torch.bincount(classes, minlength=len(scaler.classes)).double()
    frequencies = (counts / counts.sum()).clamp_min(torch.finfo(torch.float64).tiny)
    return float(-frequencies.log()[scaler.encode(torch.from_numpy(validation))].mean())
