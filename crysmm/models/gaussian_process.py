"""Regression on a potential's features without a graph network: what a graph network has to beat.

The features of a crystal are the means over its atoms, each standardized over the training crystals. A Gaussian process
with a Matern kernel of smoothness 3/2 and with noise predicts each target on its own (Rasmussen and Williams, *Gaussian
Processes for Machine Learning*, 2006, sections 2.2 and 4.2). Scikit-learn finds the length scale and the noise by the
marginal likelihood of a few hundred labels.

Up to ``MOST_KEPT`` training crystals are kept, and the process is then exact. Of more, a random sample is kept, and the
labels of all count (the subset of regressors, section 8.3.1 there).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from crysmm.models.backbone import Backbone, Embedding, GraphInput

MOST_KEPT = 3000  # training crystals
LABELS_OF_KERNEL = 500  # more of them change no error beyond the seeds
ROWS_AT_ONCE = 4096  # training crystals compared with those that are kept
JITTER = 1e-8  # added to the diagonal of a kernel, so that equal crystals leave it invertible


class PooledFeatures(Backbone):
    """Backbone without message passing: its embeddings are the features added to zeros.

    Args:
        features: Number of features per atom.
    """

    def __init__(self, features: int):
        super().__init__("blocked")
        self.node_features = features

    def embed_atoms(self, inputs: GraphInput) -> Tensor:
        """Return zeros, ``[n_nodes, node_features]``."""
        return inputs.atom_features.new_zeros(len(inputs.atom_features), self.node_features)

    def readout(self) -> tuple[nn.Sequential, int]:
        """Make no hidden layers."""
        return nn.Sequential(), self.node_features


class GaussianProcessHead(nn.Module):
    """Gaussian processes, one per target, as a head that is fitted at once.

    It is in float64 whatever the rest of a network is in: where noise is weak, its large weights nearly cancel.

    Args:
        features: Width of the crystal embeddings.
        n_kept: Number of training crystals that are kept.
        n_outputs: Number of targets.
    """

    mean: Tensor
    deviation: Tensor
    kept: Tensor
    lengths: Tensor
    weights: Tensor

    def __init__(self, features: int, n_kept: int, n_outputs: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(features, dtype=torch.float64))
        self.register_buffer("kept", torch.zeros(n_kept, features, dtype=torch.float64))
        self.register_buffer("lengths", torch.ones(n_outputs, dtype=torch.float64))
        self.register_buffer("weights", torch.zeros(n_outputs, n_kept, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow ``to`` to a device, but not to another precision."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)

    def forward(self, embedding: Embedding, texts: Tensor | None, shift: Tensor | float = 0.0) -> Tensor:
        """Predict ``[n_crystals, n_outputs]`` float64; texts are not read."""
        crystals = (embedding.graph.double() - self.mean) / self.deviation
        # Distances by matrix products would depend on the other crystals of the batch.
        distances = torch.cdist(crystals, self.kept, compute_mode="donot_use_mm_for_euclid_dist")
        processes = zip(self.lengths, self.weights, strict=True)
        return torch.stack([matern(distances / length) @ weights for length, weights in processes], dim=1) + shift

    def fit(self, crystals: np.ndarray, targets: np.ndarray, seed: int) -> None:
        """Fit the processes.

        Args:
            crystals: Embeddings of the training crystals, ``[n, features]``.
            targets: Standardized targets, NaN where missing, ``[n, n_outputs]``.
            seed: Seed of the choice of crystals, where there are more than are used.
        """
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(crystals)
        inputs = torch.from_numpy(scaler.transform(crystals))
        order = np.random.default_rng(seed).permutation(len(inputs))
        kept = inputs[np.sort(order[: len(self.kept)])]
        self.mean.copy_(torch.from_numpy(scaler.mean_))
        self.deviation.copy_(torch.from_numpy(scaler.scale_))
        self.kept.copy_(kept)
        for target, values in enumerate(torch.from_numpy(targets.T)):
            labeled = order[~values[order].isnan().numpy()]
            few = labeled[:LABELS_OF_KERNEL]
            length, noise = fit_kernel(inputs[few].numpy(), values[few].numpy())
            self.lengths[target] = length
            self.weights[target] = solve(inputs[labeled], values[labeled], kept, length, noise)


def matern(distances: Tensor) -> Tensor:
    """Return the Matern kernel of smoothness 3/2 for distances in units of its length scale."""
    scaled = math.sqrt(3) * distances
    return (1 + scaled) * torch.exp(-scaled)


def fit_kernel(inputs: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Return the length scale of the kernel, and the variance of the noise over that of the process.

    Args:
        inputs: Features of crystals, ``[n, features]``.
        targets: Their targets, ``[n]``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    usual = math.sqrt(2 * inputs.shape[1])  # distance of two crystals whose features are independent
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(usual, (0.01 * usual, 100 * usual), nu=1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound is as good as any value for few labels
        found = GaussianProcessRegressor(kernel + WhiteKernel(0.1, (1e-4, 10.0))).fit(inputs, targets).kernel_
    return found.k1.k2.length_scale, found.k2.noise_level / found.k1.k1.constant_value


def solve(inputs: Tensor, targets: Tensor, kept: Tensor, length: float, noise: float) -> Tensor:
    """Return the weights of the kernels around the crystals that are kept, ``[n_kept]`` float64.

    With ``kernel(kept, kept) = L L^T`` and ``basis = L^-1 kernel(kept, inputs)``, they are
    ``L^-T (basis basis^T + noise)^-1 basis targets``. If all labeled crystals are kept, these are the weights of the
    exact process, and 0 for those without a label.

    Args:
        inputs: Features of the labeled crystals, ``[n, features]`` float64.
        targets: Their targets, ``[n]`` float64.
        kept: Features of the crystals that are kept, ``[n_kept, features]`` float64.
        length: Length scale of the kernel.
        noise: Variance of the noise over that of the process.
    """
    identity = torch.eye(len(kept), dtype=torch.float64)
    factor = torch.linalg.cholesky(matern(torch.cdist(kept, kept) / length) + JITTER * identity)
    matrix, vector = noise * identity, torch.zeros(len(kept), dtype=torch.float64)
    for some, values in zip(inputs.split(ROWS_AT_ONCE), targets.split(ROWS_AT_ONCE), strict=True):
        kernel = matern(torch.cdist(kept, some) / length)
        basis = torch.linalg.solve_triangular(factor, kernel, upper=False)
        matrix, vector = matrix + basis @ basis.T, vector + basis @ values
    solution = torch.cholesky_solve(vector[:, None], torch.linalg.cholesky(matrix))
    return torch.linalg.solve_triangular(factor.T, solution, upper=True)[:, 0]
