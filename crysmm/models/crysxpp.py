"""CrysXPP: Das, Samanta, Goyal, Lee, Bhattacharjee and Ganguly, npj Comput. Mater. 8, 43 (2022).

CGCNN behind a feature selector: one trainable weight ``w_f`` for each atom feature, the same for all atoms and 1 at the
start, so that training begins as CGCNN's does:

    v_i = W (w * x_i) + b,    loss = error + sparsity * mean_f |w_f|

Its convolutions have CGCNN's names, so that ``init_from`` takes over those of a CrysAE encoder. The authors' last code
keeps only those and draws the embedding W anew; here W is taken over too where it fits, and ``init_from`` says so.

Where the authors' code and paper differ:

- The last code has the penalty commented out, though the paper has it (LASSO). Here it is on, a mean over the features
  with weight 0.01 as in the code nearest the paper; ``sparsity`` 0 switches it off.
- The network of the last code is the default: CGCNN and the selector, so that the two differ in nothing else; 80,925
  parameters with a scalar output. ``as_first_published`` with ``fc_layers`` 2 and ``fc_features`` 64 is that of the
  first code: no bias in W, atom embeddings scaled to length 1 before pooling, no softplus between pooling and readout.
- The authors' switch that should turn the selector off is never read. Here ``cgcnn`` is the network without it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import CrysXPPConfig
from crysmm.models.backbone import Engine, GraphInput
from crysmm.models.cgcnn import CGCNN


class FeatureSelector(nn.Module):
    """One weight for each atom feature."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, atom_features: Tensor) -> Tensor:
        """``[n, features]``, each column times its weight."""
        return atom_features * self.weight


class CrysXPP(CGCNN):
    """CGCNN with a feature selector.

    Args:
        config: widths, depths, and the weight of the penalty.
        atom_input_features: features an atom carries.
        cutoff: the last of the Gaussians bond lengths are expanded in, Angstrom.
        engine: see :class:`Backbone`.
    """

    config: CrysXPPConfig

    def __init__(self, config: CrysXPPConfig, atom_input_features: int, cutoff: float, engine: Engine = "blocked"):
        super().__init__(config, atom_input_features, cutoff, engine)
        self.selector = FeatureSelector(atom_input_features)
        if config.as_first_published:
            self.embedding.register_parameter("bias", None)

    def penalty(self) -> Tensor:
        """The mean size of the feature weights, times ``sparsity``."""
        return self.config.sparsity * self.selector.weight.abs().mean()

    def embed_atoms(self, inputs: GraphInput) -> Tensor:
        """See :class:`Backbone`."""
        return super().embed_atoms(replace(inputs, atom_features=self.selector(inputs.atom_features)))

    def pool(self, nodes: Tensor, inputs: GraphInput) -> Tensor:
        """The mean over the atoms, of embeddings of length 1 as first published."""
        return super().pool(functional.normalize(nodes, dim=1) if self.config.as_first_published else nodes, inputs)

    def readout(self) -> tuple[nn.Sequential, int]:
        """CGCNN's, without its first softplus as first published."""
        layers, features = super().readout()
        return nn.Sequential(*list(layers)[1:]) if self.config.as_first_published else layers, features
