"""Giving back who is bonded to whom, and how often."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.data.batch import CrystalBatch
from crysmm.engines.blocked import BlockedGraph
from crysmm.engines.linear import Linear, linear, precise
from crysmm.models.layers import GaussianExpansion
from crysmm.objectives.corruption import Example, bond_lengths
from crysmm.objectives.terms import Term, crystals_of_atoms, mean_losses, over_atoms, over_edges

CLASSES = 6  # 0 to 4 edges from one atom to the other, and 5 or more
CLASS_WEIGHTS = (0.1, 1.0, 1.0, 1.0, 1.0, 1.0)  # most pairs are not bonded
NO_PAIR = -1


class PairGrid(NamedTuple):
    """Some ordered pairs of atoms of each crystal, S by S of them, their scores and their classes.

    ``scores`` is ``[n_crystals * S, CLASSES, S]`` and ``classes`` ``[n_crystals * S, S]`` int64, ``NO_PAIR`` where a
    crystal has fewer than S atoms. Every pair of a crystal is there with the same probability, ``shares
    [n_crystals]``; ``weights [n_crystals]`` sums the weights of the classes of all its pairs.
    """

    scores: Tensor
    classes: Tensor
    shares: Tensor
    weights: Tensor


class ConnectivityTerm(Term):
    """The number of edges from atom i to atom j, 5 meaning more too, for every ordered pair of a crystal, i = j too.

    Cross-entropy with :data:`CLASS_WEIGHTS`, a weighted mean. An edge goes from a neighbour to the atom whose
    neighbour it is; the authors write it the other way round, which exchanges the arguments of the bilinear forms.

    Of a cell with more than ``max_pairs`` pairs, as many atoms as that allows are drawn for i and, independently,
    for j, so that every pair is as likely as any other, and the sum over the pairs that are there is divided by
    that probability. The weights of all classes are summed over all pairs always, which takes the edges alone. So
    the loss of a batch is on average what all pairs give, and memory is bounded.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
        max_pairs: most pairs of a crystal that are looked at.
        pooled: see :func:`mean_losses`; CrysAE averages crystal by crystal, CrysGNN over all pairs of a batch.
    """

    class_weights: Tensor

    def __init__(self, weight: float, node_features: int, max_pairs: int, pooled: bool):
        super().__init__(weight)
        self.decoder = PairClassifier(node_features, CLASSES)
        self.largest_cell = isqrt(max_pairs)
        self.pooled = pooled
        self.register_buffer("class_weights", torch.tensor(CLASS_WEIGHTS), persistent=False)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        grid = self.grid(nodes, example.clean, generator)
        weights = self.class_weights.to(grid.scores.dtype)
        losses = functional.cross_entropy(grid.scores, grid.classes, weights, ignore_index=NO_PAIR, reduction="none")
        return mean_losses(losses.view(len(grid.shares), -1).sum(1) / grid.shares, grid.weights, self.pooled)

    def grid(self, nodes: Tensor, batch: CrystalBatch, generator: torch.Generator | None = None) -> PairGrid:
        """Scores and classes of the pairs that are looked at."""
        crystal = crystals_of_atoms(batch.n_atoms, len(nodes))
        largest = int(batch.n_atoms.max())
        size = min(largest, self.largest_cell)
        first, second = (_places(batch.n_atoms, crystal, size < largest, generator) for _ in range(2))
        scores = self.decoder(
            _lay_out(self.decoder.project(nodes), crystal, first, len(batch), size),
            _lay_out(nodes, crystal, second, len(batch), size),
        )
        source, target, classes = _bonded_pairs(batch)
        there = batch.n_atoms.clamp_max(size)
        occupied = torch.arange(size, device=nodes.device) < there[:, None]
        targets = torch.where(occupied[:, :, None] & occupied[:, None], 0, NO_PAIR).flatten()
        looked_at = (first[source] < size) & (second[target] < size)
        places = (crystal * size + first)[source] * size + second[target]
        targets[places[looked_at]] = classes[looked_at]
        scores = precise(scores)
        weights = self._weights(batch.n_atoms, crystal[source], classes).to(scores.dtype)
        return PairGrid(scores, targets.view(-1, size), (there / batch.n_atoms).to(scores.dtype) ** 2, weights)

    def _weights(self, n_atoms: Tensor, crystal: Tensor, classes: Tensor) -> Tensor:
        """``[n_crystals]`` sums of the class weights of all pairs, of which those of these classes are bonded."""
        excess = self.class_weights.double()[classes] - self.class_weights[0].double()
        unbonded = self.class_weights[0].double() * n_atoms.double() ** 2
        return unbonded.index_add(0, crystal, excess)


def _places(n_atoms: Tensor, crystal: Tensor, draw: bool, generator: torch.Generator | None) -> Tensor:
    """``[n_atoms_in_all]``: the atoms of each crystal numbered from 0, in their order or in one that is drawn."""
    first_atom = n_atoms.cumsum(0) - n_atoms
    places = torch.arange(len(crystal), device=crystal.device) - first_atom[crystal]
    if not draw:
        return places
    order = torch.randperm(len(crystal), generator=generator).to(crystal.device)
    order = order[crystal[order].argsort(stable=True)]
    return torch.empty_like(places).index_copy(0, order, places)


def _lay_out(rows: Tensor, crystal: Tensor, places: Tensor, n_crystals: int, size: int) -> Tensor:
    """``[n_crystals, size, ...]`` from ``[n_atoms_in_all, ...]``: rows at their places, zeros where there are none."""
    chosen = places < size
    slots = (crystal * size + places)[chosen]
    empty = rows.new_zeros(n_crystals * size, *rows.shape[1:])
    return empty.index_copy(0, slots, rows[chosen]).view(n_crystals, size, *rows.shape[1:])


def _bonded_pairs(batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Source, destination and class of every ordered pair with an edge, each ``[n_pairs]``."""
    n_atoms = len(batch.atom_features)
    edges = batch.connectivity
    pairs, counts = torch.unique(edges.source * n_atoms + edges.destination, return_counts=True)
    return pairs // n_atoms, pairs % n_atoms, counts.clamp_max(CLASSES - 1)


class AtomFeatureTerm(Term):
    """Each feature of an atom, a bit, from its embedding: one linear layer, binary cross-entropy.

    The loss is a mean over features and atoms; where atoms are hidden, over those alone.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
        atom_features: number of features of an atom, 0 or 1 each.
        pooled: see :func:`mean_losses`.
    """

    def __init__(self, weight: float, node_features: int, atom_features: int, pooled: bool):
        super().__init__(weight)
        self.decoder = Linear(node_features, atom_features)
        self.pooled = pooled

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        logits = precise(self.decoder(nodes))
        bits = example.clean.atom_features.to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, bits, reduction="none").mean(1)
        return over_atoms(losses, example.hidden, example.clean.n_atoms, self.pooled)


class PairClassifier(nn.Module):
    """A bilinear form a class, then a linear layer over the classes, as CrysAE's decoders have it.

    Both are linear in the form's values, so that together they are one bilinear form a class. That is what is
    computed, with matrix products and without a copy of the weights' products for every pair.

    Args:
        features: width of the embeddings.
        classes: number of classes.
    """

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.classes = classes
        self.bilinear = nn.Bilinear(features, features, classes)
        self.output = nn.Linear(classes, classes)

    def project(self, nodes: Tensor) -> Tensor:
        """``[n, classes, d]``: the products of the first atom's embedding with the forms."""
        forms = torch.einsum("ck,kde->dce", self.output.weight, self.bilinear.weight)
        return linear(nodes, forms.flatten(1).t()).view(len(nodes), *forms.shape[1:])

    def bias(self) -> Tensor:
        """``[classes]``, to be added to the products."""
        return self.output(self.bilinear.bias)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scores of every pair of a first and a second atom of a crystal.

        Args:
            first: ``[n_crystals, S, classes, d]``, projected.
            second: ``[n_crystals, T, d]``.

        Returns:
            ``[n_crystals * S, classes, T]``.
        """
        n_crystals, n_first, classes, _ = first.shape
        products = first.flatten(1, 2) @ second.mT
        return products.view(n_crystals * n_first, classes, second.shape[1]) + self.bias()[:, None]


LENGTH_CLASSES = 5  # up to 1 Angstrom, 2, 3, 4, and 5 or more, rounded
EXPANSION_BINS = 41


class BondLengthTerm(Term):
    """The length of a bond, rounded to 1, 2, 3, 4 or 5 Angstrom (less and more too), from its two atoms' embeddings.

    Cross-entropy, a mean over each crystal's bonds. CrysAE's first version had this decoder, with classes of which
    the fourth was never reached and lengths that round to 0 were put in the last; here they are as meant.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = PairClassifier(node_features, LENGTH_CLASSES)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        losses = functional.cross_entropy(
            self.scores(nodes, example.clean), length_classes(example.clean), reduction="none"
        )
        return over_edges(losses, example.clean, pooled=False)

    def scores(self, nodes: Tensor, batch: CrystalBatch) -> Tensor:
        """``[n_edges, LENGTH_CLASSES]``."""
        graph = BlockedGraph(batch.connectivity, len(nodes))
        projected = graph.at_source(self.decoder.project(nodes).flatten(1)).view(-1, LENGTH_CLASSES, nodes.shape[1])
        return precise((projected @ graph.at_destination(nodes)[:, :, None]).squeeze(2) + self.decoder.bias())


def length_classes(batch: CrystalBatch) -> Tensor:
    """``[n_edges]`` int64, the class of each bond's length."""
    return bond_lengths(batch.bond_vectors).round().clamp(1, LENGTH_CLASSES).long() - 1


class DistanceTerm(Term):
    """The length a bond had before noise, from its atoms' embeddings and the length with it.

    A layer of the embeddings and of the length in Gaussians, SiLU, a linear layer; what is asked for is ``(clean -
    seen) / distance_noise``, by the smooth L1 loss, a mean over bonds. It is none of the papers' losses.

    Args:
        weight: see :class:`Term`.
        node_features: width of the embeddings.
        cutoff: the last of the Gaussians, Angstrom.
        distance_noise: see :class:`~crysmm.objectives.corruption.Corruption`.
        pooled: see :func:`~crysmm.objectives.terms.mean_losses`.
    """

    def __init__(self, weight: float, node_features: int, cutoff: float, distance_noise: float, pooled: bool):
        super().__init__(weight)
        self.distance_noise = distance_noise
        self.pooled = pooled
        self.expansion = GaussianExpansion(0, cutoff, EXPANSION_BINS, squared_spacing=True)
        self.source = Linear(node_features, node_features, bias=False)
        self.destination = Linear(node_features, node_features, bias=False)
        self.length = nn.Linear(EXPANSION_BINS, node_features)
        self.output = Linear(node_features, 1)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`Term`."""
        asked = bond_lengths(example.clean.bond_vectors) - bond_lengths(example.seen.bond_vectors)
        losses = functional.smooth_l1_loss(
            self.corrections(nodes, example.seen), asked / self.distance_noise, reduction="none"
        )
        return over_edges(losses, example.clean, self.pooled)

    def corrections(self, nodes: Tensor, seen: CrystalBatch) -> Tensor:
        """``[n_edges]``: what is to be added to the lengths, in units of the noise."""
        lengths = self.expansion(bond_lengths(seen.bond_vectors))
        graph, of_destination = BlockedGraph(seen.connectivity, len(nodes)), self.destination(nodes) + self.length.bias
        hidden = functional.silu(graph.add(self.source(nodes), of_destination, lengths, self.length.weight))
        return precise(self.output(hidden).squeeze(1))
