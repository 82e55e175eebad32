"""What each atom and each of its features contributes to a prediction, for any backbone.

Integrated gradients (Sundararajan, Taly and Yan 2017), through Captum: the gradient of the prediction by the atom
features x, averaged along the straight line from the baseline to the crystal,

    contribution_if = x_if * integral over t in [0, 1] of d prediction(t x) / d x_if

The baseline has the same bonds and no feature at all: atoms of which nothing is known. Contributions and the
baseline's prediction add up to the prediction, in the units of the file whatever the scaler, log10 or link, or as a
probability of a class; how nearly they do is the residual. What a backbone reads besides the features is in the
baseline too: bonds, and for GATGNN's pooling the composition.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.errors import MissingDependencyError
from crysmm.models.layers import crystal_sum
from crysmm.models.networks import PropertyNetwork

STEPS = (32, 64, 128)  # of the integral; more are taken until the residuals are small
LARGEST_RESIDUAL = 1e-4  # of the largest change from baseline to prediction in a batch


@dataclass(frozen=True)
class Contributions:
    """Contributions to one predicted quantity.

    Args:
        features: ``[n_atoms_in_all, F]``, of each feature of each atom.
        predictions: ``[n_crystals]``.
        baselines: ``[n_crystals]``, predictions for the same bonds between atoms without features.
        residuals: ``[n_crystals]``, what prediction minus baseline has more than the sum of contributions.
    """

    features: np.ndarray
    predictions: np.ndarray
    baselines: np.ndarray
    residuals: np.ndarray


class Explainer:
    """A frozen copy of a network, on the CPU in 64 bits, that tells what its predictions are made of.

    Args:
        network: is copied.
        scaler: from its outputs to original units.
        column: which target, or which class' probability, is explained.

    Raises:
        MissingDependencyError: captum is not installed.
    """

    def __init__(self, network: PropertyNetwork, scaler: TargetScaler, column: int):
        self.column = column
        self._scaler = scaler
        self._network = deepcopy(network).to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
        self._integrated_gradients = import_captum().IntegratedGradients

    def predict(self, batch: CrystalBatch, removed: np.ndarray | None = None) -> np.ndarray:
        """``[n_crystals, n_targets]`` in original units, or ``[n_crystals, n_classes]`` probabilities.

        Args:
            batch: the crystals.
            removed: columns of the atom features that are set to zero.
        """
        batch = batch.double()
        features = batch.atom_features
        if removed is not None:
            features = features.index_fill(1, torch.from_numpy(removed), 0)
        with torch.inference_mode():
            return self._decode(batch, features).numpy()

    def contributions(self, batch: CrystalBatch) -> Contributions:
        """Contributions to the explained column of the prediction."""
        batch = batch.double()
        features = batch.atom_features
        with torch.inference_mode():
            prediction = self._decode(batch, features)[:, self.column]
            baseline = self._decode(batch, torch.zeros_like(features))[:, self.column]
        change = prediction - baseline
        for steps in STEPS:
            contributions = self._integrate(batch, steps)
            residuals = change - crystal_sum(contributions.sum(1, keepdim=True), batch.n_atoms)[:, 0]
            if residuals.abs().max() <= LARGEST_RESIDUAL * change.abs().max():
                break
        return Contributions(contributions.numpy(), prediction.numpy(), baseline.numpy(), residuals.numpy())

    def _integrate(self, batch: CrystalBatch, steps: int) -> Tensor:
        """``[n_atoms_in_all, F]``; crystals do not see each other, so that one sum over them serves them all."""

        def total(points: Tensor) -> Tensor:
            return torch.stack([self._decode(batch, features)[:, self.column].sum() for features in points])

        method = self._integrated_gradients(total)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="captum")  # it sets requires_grad, and says so
            result: Tensor = method.attribute(
                batch.atom_features[None], baselines=0.0, n_steps=steps, internal_batch_size=1
            )
        return result[0].detach()

    def _decode(self, batch: CrystalBatch, features: Tensor) -> Tensor:
        return self._scaler.decode(self._network(replace(batch, atom_features=features)))


def import_captum() -> Any:
    """The module ``captum.attr``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module("captum.attr")
    except ImportError as error:
        raise MissingDependencyError(
            f"explanations need the captum package, which cannot be imported here ({error}). Install it with\n"
            '    pip install "captum>=0.7"'
        ) from error
