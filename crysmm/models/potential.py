"""Features of the atoms by a universal potential, fused with the embeddings of a backbone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class PotentialFusion(nn.Module):
    """Linear layer from a potential's features, standardized, to rows that are added to the atom embeddings.

    Args:
        features: Number of features per atom by the potential.
        node_features: Width of the atom embeddings.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int, node_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.projection = nn.Linear(features, node_features)

    def standardize_by(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Set mean and standard deviation of each feature, ``[features]`` each."""
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(deviation))

    def forward(self, features: Tensor) -> Tensor:
        """Project ``[n_atoms_in_all, features]`` to ``[n_atoms_in_all, node_features]``."""
        projected: Tensor = self.projection((features - self.mean) / self.deviation)
        return projected
