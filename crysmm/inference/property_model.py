"""A model that predicts properties, or an ensemble of such models, on its device and with its calibration."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from crysmm.data.batch import CrystalBatch
from crysmm.inference.assessment import Assessor
from crysmm.inference.frozen_network import Inference, InferencePrecision, Outputs
from crysmm.inference.intervals import Calibration, read_calibration
from crysmm.inference.saved_models import LoadedModel, load_members
from crysmm.zoo import resolve


class PropertyModel:
    """Outputs and assessments of a model or an ensemble for batches of crystals.

    Args:
        members: The model, or the members of an ensemble.
        calibration: Calibration of the model or ensemble, if there is one.
        device: Device to compute on.
        precision: ``32`` or ``bf16``.
    """

    def __init__(
        self,
        members: Sequence[LoadedModel],
        calibration: Calibration | None = None,
        device: torch.device | str = "cpu",
        precision: InferencePrecision = "32",
    ):
        self.members, self.calibration, self.precision = members, calibration, precision
        self.description, self.scaler = members[0].description, members[0].scaler
        self._inferences = [Inference(member.network, self.scaler, device, precision) for member in members]

    @classmethod
    def load(cls, folder: Path | str, device: torch.device, precision: InferencePrecision) -> PropertyModel:
        """Load a model folder and check that its predictions have not changed.

        Raises:
            ModelFolderError: The folder is damaged or was not written by crysmm, or the predictions for its reference
                structures have changed since it was written.
        """
        members, checksum = load_members(folder)
        # Other versions of the libraries may change numbers; the references show it before anything is predicted.
        for member in members:
            member.check_references()
        width = sum(member.network.backbone.node_features for member in members)
        calibration = read_calibration(resolve(folder), checksum, members[0].scaler, width)
        return cls(members, calibration, device, precision)

    @cached_property
    def checksum(self) -> str:
        """Checksum of the weights, the settings and the calibration."""
        descriptions = [member.description.model_dump_json() for member in self.members]  # with that of the weights
        content = hashlib.sha256("".join(descriptions).encode())
        if self.calibration is not None:
            content.update(self.calibration.to_bytes(""))
        return content.hexdigest()

    def outputs(self, batch: CrystalBatch | None) -> Outputs:
        """Compute outputs for a batch; for None they have no rows, but the shape of the model's outputs."""
        if batch is None:
            width = self.members[0].network.backbone.node_features
            empty = Outputs(np.empty((0, self.scaler.n_outputs)), np.empty((0, width)))
            return Outputs.combine([empty] * len(self.members))
        return Outputs.combine([inference.outputs(batch) for inference in self._inferences])

    def embed(self, batch: CrystalBatch) -> np.ndarray:
        """Compute pooled embeddings, float64 ``[n, d]``, concatenated over members; no texts are needed."""
        return np.concatenate([inference.embed(batch) for inference in self._inferences], axis=1)

    def assessor(self, coverage: float) -> Assessor:
        """Return the assessor, which turns the outputs into assessments.

        Args:
            coverage: Fraction of the targets inside the intervals.

        Raises:
            InputError: The coverage is not between 0 and 1.
        """
        return Assessor(self.scaler, self.description.elements, self.calibration, coverage)
