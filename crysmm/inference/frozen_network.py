"""A trained network with its scaler, frozen; predictions for a crystal do not depend on the others in its batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.models.networks import PropertyNetwork

InferencePrecision = Literal["32", "bf16"]


@dataclass(frozen=True)
class Outputs:
    """Outputs of a model for several crystals.

    Args:
        predictions: Predictions in original units, float64 ``[n, n_targets]``, or probabilities, ``[n, n_classes]``.
        embeddings: Pooled embeddings, float64 ``[n, d]``.
        spread: Standard deviation over the members of an ensemble (n - 1 in the denominator), shape of ``predictions``;
            None for a single model.
    """

    predictions: np.ndarray
    embeddings: np.ndarray
    spread: np.ndarray | None = None

    @classmethod
    def combine(cls, members: Sequence[Outputs]) -> Outputs:
        """Combine the outputs of an ensemble's members; those of a single model are returned unchanged.

        Predictions are averaged, embeddings are concatenated along the features.
        """
        if len(members) == 1:
            return members[0]
        predictions = np.stack([member.predictions for member in members])
        embeddings = np.concatenate([member.embeddings for member in members], axis=1)
        return cls(predictions.mean(axis=0), embeddings, predictions.std(axis=0, ddof=1))

    @classmethod
    def concatenate(cls, batches: Sequence[Outputs]) -> Outputs:
        """Concatenate the outputs of one model for several batches."""
        spreads = [batch.spread for batch in batches if batch.spread is not None]
        return cls(
            np.concatenate([batch.predictions for batch in batches]),
            np.concatenate([batch.embeddings for batch in batches]),
            np.concatenate(spreads) if spreads else None,
        )

    def take(self, rows: np.ndarray) -> Outputs:
        """Return the outputs for some of the crystals."""
        return Outputs(
            self.predictions[rows], self.embeddings[rows], None if self.spread is None else self.spread[rows]
        )


class Inference:
    """A frozen copy of a network with its scaler.

    Weights and graphs are float32. The rounding of float32 matrix products depends on the number of their rows: it
    changes predictions by 1e-6 of the standard deviation of the target (measured), which may be any multiple of a
    prediction near zero. On CPUs, where float64 costs little, the arithmetic is therefore float64. On GPUs, many of
    which have few float64 units, it is float32, and predictions agree to 1e-6 of the standard deviation. With ``bf16``
    it is bfloat16 where that is faster, without such a guarantee.

    Args:
        network: Trained network; it is copied and put into evaluation mode.
        scaler: Scaler from its outputs to original units.
        device: Device to compute on.
        precision: ``32`` or ``bf16``.
    """

    def __init__(
        self,
        network: PropertyNetwork,
        scaler: TargetScaler,
        device: torch.device | str = "cpu",
        precision: InferencePrecision = "32",
    ):
        self.device = torch.device(device)
        self.precision: InferencePrecision = precision
        self._scaler = scaler
        self._double = precision == "32" and self.device.type == "cpu"
        dtype = torch.float64 if self._double else torch.float32
        self._network = deepcopy(network).to(device=self.device, dtype=dtype).eval().requires_grad_(False)

    def outputs(self, batch: CrystalBatch) -> Outputs:
        """Compute predictions and pooled embeddings."""
        with self._prepared(batch) as batch:
            embedding = self._network.embed(batch)
            predictions = self._scaler.decode(self._network.read(embedding, batch))
        return Outputs(predictions.double().cpu().numpy(), embedding.graph.double().cpu().numpy())

    def embed(self, batch: CrystalBatch) -> np.ndarray:
        """Compute pooled embeddings, float64 ``[n, d]``; the head, which may need texts, is not evaluated."""
        with self._prepared(batch) as batch:
            embedding = self._network.embed(batch)
        return embedding.graph.double().cpu().numpy()

    @contextmanager
    def _prepared(self, batch: CrystalBatch) -> Iterator[CrystalBatch]:
        """Yield the batch on the device and in the precision of the weights, without gradients in the block."""
        bf16 = self.precision == "bf16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            batch = batch.to(self.device)
            yield batch.double() if self._double else batch
