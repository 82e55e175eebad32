"""Layers shared by several backbones: Gaussian expansions, and sums over the atoms of each crystal."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from crysmm.engines.linear import precise

SMALLEST_EXPONENT = -126.0  # base-2 exponent of the smallest normal fp32 number; subnormals are several times slower


class GaussianExpansion(nn.Module):
    """Expand a scalar in Gaussians with evenly spaced centers, ``exp(-sharpness (x - center)^2)``.

    Args:
        lowest: First center.
        highest: Last center.
        bins: Number of centers.
        squared_spacing: Use a sharpness of 1/spacing^2 (CGCNN) instead of 1/spacing (ALIGNN).
    """

    centers: Tensor

    def __init__(self, lowest: float, highest: float, bins: int, squared_spacing: bool):
        super().__init__()
        self.register_buffer("centers", torch.linspace(lowest, highest, bins), persistent=False)
        spacing = (highest - lowest) / (bins - 1)
        self.sharpness = 1 / spacing**2 if squared_spacing else 1 / spacing

    def forward(self, values: Tensor) -> Tensor:
        """Expand ``[n]`` to ``[n, bins]``."""
        # exp2 takes a quarter of the time of exp, and the sharpness absorbs the change of base.
        exponents = (values[:, None] - self.centers).square_().mul_(-self.sharpness / math.log(2))
        return exponents.clamp_(min=SMALLEST_EXPONENT).exp2_()


def crystal_sum(atoms: Tensor, n_atoms: Tensor) -> Tensor:
    """Sum ``[n_atoms_in_all, d]`` over the atoms of each crystal in fp32 or better, ``[n_crystals, d]``."""
    return torch.segment_reduce(precise(atoms), "sum", lengths=n_atoms, unsafe=True)


def crystal_mean(atoms: Tensor, n_atoms: Tensor) -> Tensor:
    """Average ``[n_atoms_in_all, d]`` over the atoms of each crystal in fp32 or better, ``[n_crystals, d]``."""
    return crystal_sum(atoms, n_atoms) / n_atoms[:, None]


def spread(crystals: Tensor, n_atoms: Tensor, n_rows: int) -> Tensor:
    """Repeat each crystal's row of ``[n_crystals, d]`` for each of its atoms, ``[n_rows, d]``."""
    # Given the size, PyTorch need not wait for the GPU to sum the counts.
    return crystals.repeat_interleave(n_atoms, dim=0, output_size=n_rows)


def crystal_softmax(scores: Tensor, n_atoms: Tensor) -> Tensor:
    """Compute a softmax over the atoms of each crystal in fp32 or better, ``[n_atoms_in_all, d]``."""
    scores = precise(scores)
    # The largest score of a crystal is subtracted, so that exp cannot overflow. It cancels in the result and therefore
    # needs no gradient.
    largest = torch.segment_reduce(scores.detach(), "max", lengths=n_atoms, unsafe=True)
    weights = torch.exp(scores - spread(largest, n_atoms, len(scores)))
    return weights / spread(crystal_sum(weights, n_atoms), n_atoms, len(scores))
