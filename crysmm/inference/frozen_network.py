"""A trained network's predictions, the same whatever stands beside a crystal in its batch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.models.networks import PropertyNetwork

InferencePrecision = Literal["32", "bf16"]


@dataclass(frozen=True)
class Outputs:
    """What a model gives out for some crystals, a row each.

    Args:
        predictions: float64 ``[n, n_targets]`` in original units, or ``[n, n_classes]`` probabilities.
        embeddings: float64 ``[n, d]`` pooled embeddings.
        spread: as ``predictions``: deviation of an ensemble's members (n - 1 in the denominator); None for one model.
    """

    predictions: np.ndarray
    embeddings: np.ndarray
    spread: np.ndarray | None = None

    @classmethod
    def together(cls, members: Sequence[Outputs]) -> Outputs:
        """Those of an ensemble: the mean of the predictions, the embeddings side by side. One member is itself."""
        if len(members) == 1:
            return members[0]
        predictions = np.stack([member.predictions for member in members])
        embeddings = np.concatenate([member.embeddings for member in members], axis=1)
        return cls(predictions.mean(axis=0), embeddings, predictions.std(axis=0, ddof=1))

    @classmethod
    def joined(cls, parts: Sequence[Outputs]) -> Outputs:
        """Those of some crystals after those of others."""
        spreads = [part.spread for part in parts if part.spread is not None]
        return cls(
            np.concatenate([part.predictions for part in parts]),
            np.concatenate([part.embeddings for part in parts]),
            np.concatenate(spreads) if spreads else None,
        )


class Inference:
    """A frozen copy of a network with its scaler.

    Weights and graphs have 32 bits. Matrix products of 32 bits round differently with the number of their rows, by
    1e-6 of the spread of the target (measured), which is any multiple of a prediction near zero; so on a CPU, where
    that costs little, the arithmetic has 64 bits. On a GPU it has 32, since many have few units for 64: there
    predictions agree to 1e-6 of the spread. With ``bf16`` it has 16 where that is faster, and no such promise.

    Args:
        network: is copied and put into evaluation mode.
        scaler: from its outputs to original units.
        device: where to compute.
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

    def predict(self, batch: CrystalBatch) -> np.ndarray:
        """float64 ``[n_crystals, n_targets]`` in original units, or ``[n_crystals, n_classes]`` probabilities."""
        return self.outputs(batch).predictions

    def outputs(self, batch: CrystalBatch) -> Outputs:
        """Predictions and embeddings at once."""
        with torch.inference_mode(), self._autocast():
            batch = self._prepare(batch)
            embedding = self._network.embed(batch)
            predictions = self._scaler.decode(self._network.read(embedding, batch))
            return Outputs(_to_numpy(predictions), _to_numpy(embedding.graph))

    def embed(self, batch: CrystalBatch) -> np.ndarray:
        """float64 ``[n_crystals, d]`` pooled embeddings."""
        with torch.inference_mode(), self._autocast():
            return _to_numpy(self._network.embed(self._prepare(batch)).graph)

    def _prepare(self, batch: CrystalBatch) -> CrystalBatch:
        batch = batch.to(self.device)
        return batch.double() if self._double else batch

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def _to_numpy(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
