"""Contributions of atoms and their features to a prediction, for any backbone.

Integrated gradients (Sundararajan, Taly and Yan 2017), computed by Captum: the gradient of the prediction with respect
to the atom features x, averaged along the straight line from the baseline to the crystal,

    contribution_if = x_if * integral over t in [0, 1] of d prediction(t x) / d x_if

The baseline has the same bonds, but all features are zero, as for an unknown element. Baseline and contributions add up
to the prediction in original units, whatever the scaler, logarithm or link, or to the probability of a class; the
residual measures the error of the numerical integral. Other inputs of a backbone are part of the baseline: the bonds,
and the composition in the pooling of GATGNN.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.errors import MissingDependencyError
from crysmm.models.backbone import crystal_sum
from crysmm.models.networks import PropertyNetwork

STEPS = (16, 32, 64, 128)  # of the integral, doubled until the residuals are small
LARGEST_RESIDUAL = 1e-4  # relative to the largest change from baseline to prediction in a batch


@dataclass(frozen=True)
class Contributions:
    """Contributions to one predicted quantity.

    Args:
        features: Contribution of each feature of each atom, ``[n_atoms_in_all, F]``.
        predictions: Predictions, ``[n_crystals]``.
        baselines: Predictions for the same bonds between atoms without features, ``[n_crystals]``.
        residuals: Prediction minus baseline minus the sum of the contributions, ``[n_crystals]``.
    """

    features: np.ndarray
    predictions: np.ndarray
    baselines: np.ndarray
    residuals: np.ndarray


class Explainer:
    """Attribution of predictions to atom features, on a frozen 64-bit copy of a network on the CPU.

    Args:
        network: Trained network; it is copied.
        scaler: Scaler from its outputs to original units.
        column: Index of the target or the class to explain.

    Raises:
        MissingDependencyError: captum is not installed.
    """

    def __init__(self, network: PropertyNetwork, scaler: TargetScaler, column: int):
        try:
            attr = import_module("captum.attr")
        except ImportError as error:
            raise MissingDependencyError(
                f"explanations need the captum package, which cannot be imported here ({error}). Install it with\n"
                '    pip install "captum>=0.7"'
            ) from error
        self.column = column
        self._scaler = scaler
        # In 32 bits, rounding errors of the integral are as large as small contributions.
        self._network = deepcopy(network).to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
        self._integrated_gradients = attr.IntegratedGradients

    def predict(self, batch: CrystalBatch, removed: np.ndarray | None = None) -> np.ndarray:
        """Return values in original units, ``[n_crystals, n_targets]``, or probabilities, ``[n_crystals, n_classes]``.

        Args:
            batch: Crystals.
            removed: Columns of the atom features to set to zero.
        """
        # Bonds and composition stay: only what the network reads from the atom features is removed.
        batch = batch.double()
        features = batch.atom_features
        if removed is not None:
            features = features.index_fill(1, torch.from_numpy(removed), 0)
        with torch.inference_mode():
            values = self._decode(batch, features)
        return values.numpy()

    def contributions(self, batch: CrystalBatch) -> Contributions:
        """Compute the contributions of the atom features to the explained prediction.

        Where the batch merges equivalent atoms, the network reads the features of one for all of them, whose
        contribution is shared equally among them.
        """
        batch = batch.double()
        features = batch.atom_features
        with torch.inference_mode():
            prediction = self._decode(batch, features)[:, self.column]
            baseline = self._decode(batch, torch.zeros_like(features))[:, self.column]
        change = prediction - baseline

        def total(points: Tensor) -> Tensor:
            # Crystals do not interact, so the gradient of the sum holds the gradient of each.
            return torch.stack([self._decode(batch, point)[:, self.column].sum() for point in points])

        method = self._integrated_gradients(total)
        for steps in STEPS:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="captum")  # it sets requires_grad and warns about it
                # One step at a time bounds the memory; captum would otherwise repeat the batch for every step.
                result = method.attribute(features[None], baselines=0.0, n_steps=steps, internal_batch_size=1)
            contributions = result[0].detach()
            if batch.merged is not None:
                classes = batch.merged.atoms
                sums, counts = classes.sum(contributions), classes.sum(torch.ones_like(contributions[:, :1]))
                contributions = (sums / counts)[classes.node]
            residuals = change - crystal_sum(contributions.sum(1, keepdim=True), batch.n_atoms)[:, 0]
            if residuals.abs().max() <= LARGEST_RESIDUAL * change.abs().max():
                break
        return Contributions(contributions.numpy(), prediction.numpy(), baseline.numpy(), residuals.numpy())

    def _decode(self, batch: CrystalBatch, features: Tensor) -> Tensor:
        """Predict with other atom features, in original units."""
        return self._scaler.decode(self._network(replace(batch, atom_features=features)))
