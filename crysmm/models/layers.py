"""Layers that several backbones share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from crysmm.engines.linear import precise

SMALLEST_EXPONENT = -126.0  # of 2 in normal fp32 numbers; below, processors are several times slower


class GaussianExpansion(nn.Module):
    """A scalar in a basis of Gaussians with evenly spaced centres: ``exp(-sharpness (x - centre)^2)``.

    Args:
        lowest: first centre.
        highest: last centre.
        bins: number of centres.
        squared_spacing: sharpness is 1/spacing^2 (CGCNN) instead of 1/spacing (ALIGNN).
    """

    centers: Tensor

    def __init__(self, lowest: float, highest: float, bins: int, squared_spacing: bool):
        super().__init__()
        self.register_buffer("centers", torch.linspace(lowest, highest, bins), persistent=False)
        spacing = (highest - lowest) / (bins - 1)
        self.sharpness = 1 / spacing**2 if squared_spacing else 1 / spacing

    def forward(self, values: Tensor) -> Tensor:
        """``[n]`` to ``[n, bins]``."""
        exponents = (values[:, None] - self.centers).square_().mul_(-self.sharpness / math.log(2))
        return exponents.clamp_(min=SMALLEST_EXPONENT).exp2_()  # takes a quarter of the time of exp_


def crystal_sum(atoms: Tensor, n_atoms: Tensor) -> Tensor:
    """``[n_crystals, d]`` sums of ``[n_atoms_in_all, d]`` over the atoms of each crystal, in fp32 or better."""
    return torch.segment_reduce(precise(atoms), "sum", lengths=n_atoms, unsafe=True)


def crystal_mean(atoms: Tensor, n_atoms: Tensor) -> Tensor:
    """``[n_crystals, d]`` means of ``[n_atoms_in_all, d]`` over the atoms of each crystal, in fp32 or better."""
    return crystal_sum(atoms, n_atoms) / n_atoms[:, None]


def spread(crystals: Tensor, n_atoms: Tensor, n_rows: int) -> Tensor:
    """``[n_rows, d]``: each crystal's row of ``[n_crystals, d]``, once an atom."""
    return crystals.repeat_interleave(n_atoms, dim=0, output_size=n_rows)


def crystal_softmax(scores: Tensor, n_atoms: Tensor) -> Tensor:
    """``[n_atoms_in_all, d]`` softmax over the atoms of each crystal, in fp32 or better."""
    scores = precise(scores)
    largest = torch.segment_reduce(scores.detach(), "max", lengths=n_atoms, unsafe=True)
    weights = torch.exp(scores - spread(largest, n_atoms, len(scores)))
    return weights / spread(crystal_sum(weights, n_atoms), n_atoms, len(scores))
