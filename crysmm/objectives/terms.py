"""Terms of a pre-training objective: a decoder for the atom embeddings, with its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from crysmm.data.batch import CrystalBatch
from crysmm.models.backbone import crystal_sum
from crysmm.objectives.corruption import Example
from crysmm.objectives.scores import HeldOutScore


class Term(nn.Module, ABC):
    """A decoder with its loss.

    Args:
        weight: Factor of the loss in the objective.
    """

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight

    @abstractmethod
    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return ``[n_crystals]`` losses, in fp32 or better, whose mean is the loss of the batch.

        Args:
            nodes: Embeddings of the atoms of ``example.seen``, ``[n_atoms_in_all, d]``.
            example: Batch before and after corruption.
            generator: Source of random numbers, by default torch's global one; most terms draw none.
        """

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the scores of its predictions for held-out crystals; none by default.

        Args:
            name: Name of the term in its objective.
        """
        return []


def mean_losses(sums: Tensor, totals: Tensor, pooled: bool) -> Tensor:
    """Return ``[n_crystals]`` losses from weighted sums per crystal.

    Pooled, every crystal gets the mean over the batch, ``sums.sum() / totals.sum()``, in which larger crystals weigh
    more. Otherwise each crystal gets its own mean, so that all weigh the same. A crystal with nothing to predict gets
    the mean of the others, which leaves the mean of the batch unchanged. The loss is 0 if no crystal has anything to
    predict.

    Args:
        sums: Sums of weighted losses, ``[n_crystals]``.
        totals: Sums of the weights, ``[n_crystals]``.
        pooled: True for one mean over the batch, False for one mean per crystal.
    """
    # Zero totals become 1 before the division: dividing by 0 and masking afterwards would make gradients NaN.
    if pooled:
        total = totals.sum()
        return (sums.sum() / torch.where(total > 0, total, 1)).expand(len(sums))
    counted = totals > 0
    losses = sums / torch.where(counted, totals, 1)
    mean = torch.where(counted, losses, 0).sum() / counted.sum().clamp_min(1)
    return torch.where(counted, losses, mean)


def over_atoms(losses: Tensor, counted: Tensor | None, n_atoms: Tensor, pooled: bool) -> Tensor:
    """Average losses of atoms; see :func:`mean_losses`.

    Args:
        losses: Loss per atom, ``[n_atoms_in_all]``.
        counted: Mask of the atoms that count, ``[n_atoms_in_all]`` bool, or ``None`` for all.
        n_atoms: Number of atoms per crystal, ``[n_crystals]``.
        pooled: See :func:`mean_losses`.
    """
    weights = torch.ones_like(losses) if counted is None else counted.to(losses.dtype)
    return mean_losses(crystal_sum(losses * weights, n_atoms), crystal_sum(weights, n_atoms), pooled)


def over_edges(losses: Tensor, batch: CrystalBatch, pooled: bool) -> Tensor:
    """Average losses of edges; see :func:`mean_losses`.

    Args:
        losses: Loss per edge in the order of the batch's connectivity, ``[n_edges]``.
        batch: Batch with these edges.
        pooled: See :func:`mean_losses`.
    """
    incoming = batch.connectivity.by_destination
    # Every edge has one destination: sums over incoming edges, then over atoms, count each edge once. Both steps are
    # segment reductions in a fixed order and therefore deterministic, unlike an index_add over edges on a GPU.
    sums = crystal_sum(incoming.sum(losses), batch.n_atoms)
    totals = crystal_sum(incoming.sum(torch.ones_like(losses)), batch.n_atoms)
    return mean_losses(sums, totals, pooled)


def space_groups_of(batch: CrystalBatch) -> Tensor:
    """Return the space group numbers of a batch, ``[n_crystals]`` int64, 0 where unknown.

    Raises:
        ValueError: The batch comes from a store without space groups.
    """
    if batch.space_groups is None:
        raise ValueError("a batch without space groups has no symmetry loss; build its store with symprec")
    return batch.space_groups
