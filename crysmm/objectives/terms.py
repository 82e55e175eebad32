"""A term of a pre-training objective: what is asked of the embeddings of atoms, and how wrong the answer is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from crysmm.data.batch import CrystalBatch
from crysmm.engines.linear import Linear
from crysmm.models.layers import crystal_sum
from crysmm.objectives.corruption import Example


class Term(nn.Module, ABC):
    """A decoder with its loss.

    Args:
        weight: what the loss is multiplied by in the objective.
    """

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight

    @abstractmethod
    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """``[n_crystals]`` losses, in fp32 or better, whose mean is the loss of the batch.

        Args:
            nodes: ``[n_atoms_in_all, d]``, embeddings of the atoms of ``example.seen``.
            example: what was embedded, and what it was before.
            generator: of random numbers, by default torch's global one; a term without chance leaves it alone.
        """


def mean_losses(sums: Tensor, totals: Tensor, pooled: bool) -> Tensor:
    """``[n_crystals]`` losses from sums over what is asked of each crystal.

    Pooled, the loss is ``sums.sum() / totals.sum()``, the same for every crystal, and a larger crystal counts for
    more. Otherwise each crystal has its own mean and counts alike; one that nothing is asked of takes the mean of
    the others, so that it does not change the batch's. Where nothing is asked of any, the loss is 0.

    Args:
        sums: ``[n_crystals]``, sums of weighted losses.
        totals: ``[n_crystals]``, sums of the weights.
        pooled: which of the two.
    """
    if pooled:
        return (sums.sum() / _positive(totals.sum())).expand(len(sums))
    asked = totals > 0
    losses = sums / _positive(totals)
    mean = torch.where(asked, losses, 0).sum() / _positive(asked.to(losses.dtype).sum())
    return torch.where(asked, losses, mean)


def _positive(totals: Tensor) -> Tensor:
    return torch.where(totals > 0, totals, 1)


def over_atoms(losses: Tensor, asked: Tensor | None, n_atoms: Tensor, pooled: bool) -> Tensor:
    """:func:`mean_losses` of ``[n_atoms_in_all]`` losses, of the atoms that are ``asked``, or of all."""
    weights = torch.ones_like(losses) if asked is None else asked.to(losses.dtype)
    return mean_losses(crystal_sum(losses * weights, n_atoms), crystal_sum(weights, n_atoms), pooled)


def over_edges(losses: Tensor, batch: CrystalBatch, pooled: bool) -> Tensor:
    """:func:`mean_losses` of ``[n_edges]`` losses, in the order of the batch's connectivity."""
    incoming = batch.connectivity.by_destination
    sums, totals = (crystal_sum(incoming.sum(part), batch.n_atoms) for part in (losses, torch.ones_like(losses)))
    return mean_losses(sums, totals, pooled)


def crystals_of_atoms(n_atoms: Tensor, n_rows: int) -> Tensor:
    """``[n_rows]`` int64: the crystal each atom belongs to."""
    crystals = torch.arange(len(n_atoms), device=n_atoms.device)
    return crystals.repeat_interleave(n_atoms, output_size=n_rows)


def space_groups_of(batch: CrystalBatch) -> Tensor:
    """``[n_crystals]`` int64, 0 where unknown.

    Raises:
        ValueError: the batch comes from a store without space groups.
    """
    if batch.space_groups is None:
        raise ValueError("a batch without space groups has no loss of symmetry; build its store with symprec")
    return batch.space_groups


def hidden_decoder(node_features: int, outputs: int) -> nn.Sequential:
    """A hidden layer as wide as the embeddings, softplus, and a linear layer."""
    return nn.Sequential(Linear(node_features, node_features), nn.Softplus(), Linear(node_features, outputs))
