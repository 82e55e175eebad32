"""CrysXPP: Das, Samanta, Goyal, Lee, Bhattacharjee and Ganguly, npj Comput. Mater. 8, 43 (2022).

CGCNN behind a feature selector, with one trainable weight ``w_f`` for each atom feature. All atoms share the weights,
which start at 1, so that training begins as that of CGCNN:

    v_i = W (w * x_i) + b,    loss = error + sparsity * mean_f |w_f|

Its convolutions have CGCNN's names, so that ``init_from`` loads those of a CrysAE encoder. The authors' last code loads
only these and initializes the embedding W again; here W is loaded as well where it fits, and ``init_from`` reports it.

Choices where the authors' code and paper differ:

- The last code has the penalty (LASSO) of the paper commented out. Here it is on, as a mean over the features with
  weight 0.01, like the code closest to the paper; ``sparsity`` 0 switches it off.
- The default is the network of the last code, CGCNN and the selector and nothing else; 80,925 parameters with a scalar
  output. ``as_first_published`` with ``fc_layers`` 2 and ``fc_features`` 64 is that of the first code: no bias in W,
  atom embeddings scaled to length 1 before pooling, no softplus between pooling and readout.
- The authors' code never reads its switch for the selector. Here ``cgcnn`` is the network without it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import CrysXPPConfig
from crysmm.config.run import Engine
from crysmm.models.backbone import GraphInput
from crysmm.models.cgcnn import CGCNN


class FeatureSelector(nn.Module):
    """Trainable weight for each atom feature."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, atom_features: Tensor) -> Tensor:
        """Multiply each column of ``[n, features]`` by its weight."""
        return atom_features * self.weight


class CrysXPP(CGCNN):
    """CGCNN with a feature selector.

    Args:
        config: Widths, depths, and the weight of the penalty.
        atom_input_features: Number of features of each atom.
        cutoff: Center of the last Gaussian in which bond lengths are expanded, Angstrom.
        engine: Engine that passes the messages.
    """

    config: CrysXPPConfig

    def __init__(self, config: CrysXPPConfig, atom_input_features: int, cutoff: float, engine: Engine = "blocked"):
        super().__init__(config, atom_input_features, cutoff, engine)
        self.selector = FeatureSelector(atom_input_features)
        if config.as_first_published:
            self.embedding.register_parameter("bias", None)  # after construction: the random weights stay CGCNN's

    def penalty(self) -> Tensor:
        """Return ``sparsity`` times the mean absolute feature weight."""
        return self.config.sparsity * self.selector.weight.abs().mean()

    def embed_atoms(self, inputs: GraphInput) -> Tensor:
        """Embed the atoms by CGCNN, from their weighted features."""
        return super().embed_atoms(replace(inputs, atom_features=self.selector(inputs.atom_features)))

    def pool(self, nodes: Tensor, inputs: GraphInput) -> Tensor:
        """Average over the atoms; as first published, over embeddings scaled to length 1."""
        return super().pool(functional.normalize(nodes, dim=1) if self.config.as_first_published else nodes, inputs)

    def readout(self) -> tuple[nn.Sequential, int]:
        """Make CGCNN's readout; as first published, without its first softplus."""
        layers, features = super().readout()
        return nn.Sequential(*list(layers)[1:]) if self.config.as_first_published else layers, features
