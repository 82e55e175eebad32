"""Reconstruction losses that CrysAE and CrysGNN share: atom features, connectivity and bond lengths."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.pretraining import CrysAEConfig, CrysGNNConfig
from crysmm.data.batch import CrystalBatch
from crysmm.engines.blocked import BlockedGraph
from crysmm.engines.linear import Linear, linear, precise
from crysmm.models.backbone import GaussianExpansion, repeat_for_atoms
from crysmm.objectives.corruption import Example
from crysmm.objectives.scores import ClassAccuracy, FeatureAccuracy, HeldOut, HeldOutScore, MeanScore
from crysmm.objectives.terms import Term, mean_losses, over_atoms, over_edges

CLASSES = 6  # 0 to 4 edges from one atom to the other, and 5 or more
CLASS_WEIGHTS = (0.1, 1.0, 1.0, 1.0, 1.0, 1.0)  # most pairs are not bonded
NO_PAIR = -1

EXPANSION_BINS = 41


class AtomFeatureTerm(Term):
    """Atom features, one bit each, decoded from the embedding by a linear layer; binary cross-entropy.

    The loss is a mean over features and atoms. If atoms are hidden, only they count.

    Args:
        weight: Factor of the loss in the objective.
        node_features: Width of the embeddings.
        atom_features: Number of features per atom, each 0 or 1.
        pooled: See :func:`~crysmm.objectives.terms.mean_losses`.
    """

    def __init__(self, weight: float, node_features: int, atom_features: int, pooled: bool):
        super().__init__(weight)
        self.decoder = Linear(node_features, atom_features)
        self.pooled = pooled

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss of the clean features per crystal, ``[n_crystals]``."""
        logits = self.decode(nodes)
        bits = example.clean.atom_features.to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, bits, reduction="none").mean(1)
        return over_atoms(losses, example.hidden, example.clean.n_atoms, self.pooled)

    def decode(self, nodes: Tensor) -> Tensor:
        """Return the logits of the features, ``[n, atom_features]``, of embedded atoms, ``[n, d]``."""
        return precise(self.decoder(nodes))

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the accuracies of bits and elements, of all atoms and of hidden ones."""
        return [FeatureAccuracy(self.decode, of_hidden=False), FeatureAccuracy(self.decode, of_hidden=True)]


class PairClassifier(nn.Module):
    """Classes of ordered pairs of atoms: a bilinear form per class, then a linear layer over the classes.

    This is the decoder of CrysAE and CrysGNN. As the linear layer acts on the values of the forms, both together are
    one bilinear form per class, ``scores_c = first . F_c . second + bias_c``. Its forms ``F_c`` are computed once per
    batch, so that scores of pairs are matrix products without an intermediate array of pairs by forms.

    Args:
        features: Width of the embeddings.
        classes: Number of classes.
    """

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.bilinear = nn.Bilinear(features, features, classes)
        self.output = nn.Linear(classes, classes)

    def project(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply first atoms by the forms.

        Args:
            nodes: Embeddings of the first atoms, ``[n, d]``.

        Returns:
            The products, ``[n, classes, d]``, whose dot products with second atoms are the scores up to the biases,
            ``[classes]``.
        """
        forms = torch.einsum("ck,kde->dce", self.output.weight, self.bilinear.weight)
        projected = linear(nodes, forms.flatten(1).t()).view(len(nodes), *forms.shape[1:])
        return projected, self.output(self.bilinear.bias)


class PairGrid(NamedTuple):
    """Scores and classes of ordered pairs of atoms: a grid of S by S pairs for each crystal.

    Args:
        scores: Scores of the pairs, ``[n_crystals * S, CLASSES, S]``.
        classes: True classes, ``[n_crystals * S, S]`` int64, ``NO_PAIR`` where a crystal has fewer than S atoms.
        fractions: Probability of each pair of a crystal to be in the grid, ``[n_crystals]``.
        weights: Sum of the class weights over all pairs of a crystal, in the grid or not, ``[n_crystals]``.
    """

    scores: Tensor
    classes: Tensor
    fractions: Tensor
    weights: Tensor


class ConnectivityTerm(Term):
    """Number of edges from atom i to atom j, 5 or more as one class, for every ordered pair of a crystal, i = j too.

    The loss is the cross-entropy with :data:`CLASS_WEIGHTS`, a weighted mean. An edge goes from a neighbor to the atom
    whose neighbor it is. The authors write it the other way round, which exchanges the arguments of the bilinear forms.

    In a cell with more than ``max_pairs`` pairs, as many atoms as that allows are drawn for i and, independently, for
    j. So every pair is equally likely, and the sum of the losses is divided by the probability of a pair. The weights
    are always summed over all pairs, for which the edges suffice. The expected loss of a batch is therefore the loss
    over all pairs, at bounded memory.

    Args:
        weight: Factor of the loss in the objective.
        node_features: Width of the embeddings.
        max_pairs: Largest number of pairs of a crystal to compute.
        pooled: See :func:`~crysmm.objectives.terms.mean_losses`; CrysAE averages per crystal, CrysGNN over all pairs.
    """

    class_weights: Tensor

    def __init__(self, weight: float, node_features: int, max_pairs: int, pooled: bool):
        super().__init__(weight)
        self.decoder = PairClassifier(node_features, CLASSES)
        self.largest_cell = isqrt(max_pairs)
        self.pooled = pooled
        self.register_buffer("class_weights", torch.tensor(CLASS_WEIGHTS), persistent=False)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss of the clean connectivity per crystal, ``[n_crystals]``."""
        grid = self.grid(nodes, example.clean, generator)
        weights = self.class_weights.to(grid.scores.dtype)
        losses = functional.cross_entropy(grid.scores, grid.classes, weights, ignore_index=NO_PAIR, reduction="none")
        # Division by the probability of a pair makes the sum over a sample an unbiased estimate of that over all pairs.
        sums = losses.view(len(grid.fractions), -1).sum(1) / grid.fractions
        return mean_losses(sums, grid.weights, self.pooled)

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the accuracy of the classes."""
        return [ClassAccuracy(name, CLASSES, self.classify)]

    def classify(self, held_out: HeldOut) -> tuple[Tensor, Tensor]:
        """Return the true and the predicted class of each pair of atoms, or of a sample in large cells."""
        grid = self.grid(held_out.nodes, held_out.example.clean, held_out.generator)
        is_pair = grid.classes != NO_PAIR
        return grid.classes[is_pair], grid.scores.argmax(1)[is_pair]

    def grid(self, nodes: Tensor, batch: CrystalBatch, generator: torch.Generator | None = None) -> PairGrid:
        """Compute scores and classes of pairs, all of them or a random sample in large cells.

        Args:
            nodes: Embeddings of the atoms, ``[n_atoms_in_all, d]``.
            batch: Batch with the true edges.
            generator: Source of random numbers, by default torch's global one.
        """
        n_crystals, n_nodes = len(batch), len(nodes)
        crystal = repeat_for_atoms(torch.arange(n_crystals, device=nodes.device), batch.n_atoms, n_nodes)
        largest = int(batch.n_atoms.max())
        size = min(largest, self.largest_cell)
        first, second = (_places(batch.n_atoms, crystal, size < largest, generator) for _ in range(2))

        # One batched product per batch of [S * CLASSES, d] with [d, S]: cells smaller than S are padded with zeros.
        projected, bias = self.decoder.project(nodes)
        projected = _lay_out(projected, crystal, first, n_crystals, size).flatten(1, 2)
        products = projected @ _lay_out(nodes, crystal, second, n_crystals, size).mT
        scores = precise(products.view(n_crystals * size, CLASSES, size) + bias[:, None])

        # Class of every pair with an edge; all other pairs of a crystal have class 0.
        edges = batch.connectivity
        pairs, counts = torch.unique(edges.source * n_nodes + edges.destination, return_counts=True)
        source, destination, edge_classes = pairs // n_nodes, pairs % n_nodes, counts.clamp_max(CLASSES - 1)
        n_placed = batch.n_atoms.clamp_max(size)
        occupied = torch.arange(size, device=nodes.device) < n_placed[:, None]
        classes = torch.where(occupied[:, :, None] & occupied[:, None], 0, NO_PAIR).flatten()
        in_grid = (first[source] < size) & (second[destination] < size)
        cells = (crystal * size + first)[source] * size + second[destination]
        classes[cells[in_grid]] = edge_classes[in_grid]

        # Class weights over all pairs: n^2 times that of class 0, corrected at the pairs with an edge. In fp64, as
        # the pairs of a batch are many and the correction is a difference.
        class_weights = self.class_weights.double()
        excess = class_weights[edge_classes] - class_weights[0]
        weights = (class_weights[0] * batch.n_atoms.double() ** 2).index_add(0, crystal[source], excess)
        fractions = (n_placed / batch.n_atoms).to(scores.dtype) ** 2
        return PairGrid(scores, classes.view(-1, size), fractions, weights.to(scores.dtype))


def _places(n_atoms: Tensor, crystal: Tensor, draw: bool, generator: torch.Generator | None) -> Tensor:
    """Number the atoms of each crystal from 0, ``[n_atoms_in_all]``.

    Args:
        n_atoms: Number of atoms per crystal, ``[n_crystals]``.
        crystal: Crystal of each atom, ``[n_atoms_in_all]``.
        draw: True to number them in random order, False to keep their order.
        generator: Source of random numbers.
    """
    first_atom = n_atoms.cumsum(0) - n_atoms
    places = torch.arange(len(crystal), device=crystal.device) - first_atom[crystal]
    if not draw:
        return places
    # A stable sort by crystal of a permutation of all atoms permutes the atoms within each crystal.
    order = torch.randperm(len(crystal), generator=generator).to(crystal.device)
    order = order[crystal[order].argsort(stable=True)]
    return torch.empty_like(places).index_copy(0, order, places)


def _lay_out(rows: Tensor, crystal: Tensor, places: Tensor, n_crystals: int, size: int) -> Tensor:
    """Put rows of atoms at their places: ``[n_atoms_in_all, ...]`` to ``[n_crystals, size, ...]``, padded with zeros.

    Atoms with places beyond ``size`` are left out.
    """
    # Slots that no atom is copied to, those of smaller cells, stay zero.
    chosen = places < size
    slots = (crystal * size + places)[chosen]
    empty = rows.new_zeros(n_crystals * size, *rows.shape[1:])
    return empty.index_copy(0, slots, rows[chosen]).view(n_crystals, size, *rows.shape[1:])


class DistanceTerm(Term):
    """Bond length before noise, from the embeddings of both atoms and the noisy length.

    The decoder is a layer of the embeddings and of the length expanded in Gaussians, SiLU, and a linear layer. Its
    target is ``(clean - seen) / distance_noise``; the loss is smooth L1, a mean over bonds. Neither paper has this
    loss.

    Args:
        weight: Factor of the loss in the objective.
        node_features: Width of the embeddings.
        cutoff: Center of the last Gaussian, Angstrom.
        distance_noise: See :class:`~crysmm.objectives.corruption.Corruption`.
        pooled: See :func:`~crysmm.objectives.terms.mean_losses`.
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
        """Return the loss of the clean bond lengths per crystal, ``[n_crystals]``."""
        # In units of the noise, the target has a variance of about 1 for every noise level.
        target = (example.clean.bond_lengths() - example.seen.bond_lengths()) / self.distance_noise
        losses = functional.smooth_l1_loss(self.corrections(nodes, example.seen), target, reduction="none")
        return over_edges(losses, example.clean, self.pooled)

    def corrections(self, nodes: Tensor, seen: CrystalBatch) -> Tensor:
        """Return the predicted corrections of the bond lengths, ``[n_edges]``, in units of the noise.

        Args:
            nodes: Embeddings of the atoms, ``[n_atoms_in_all, d]``.
            seen: Batch with noisy bond lengths.
        """
        lengths = self.expansion(seen.bond_lengths())
        graph = BlockedGraph(seen.connectivity, len(nodes))
        # The first layer acts on [source, destination, length]. Its product with the atoms is computed before they are
        # gathered for bonds, and its bias is added to atoms, of which there are fewer.
        destination = self.destination(nodes) + self.length.bias
        hidden = functional.silu(graph.add(self.source(nodes), destination, lengths, self.length.weight))
        return precise(self.output(hidden).squeeze(1))

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the error of the corrected bond lengths."""
        return [MeanScore("distance_error", self.errors)]

    def errors(self, held_out: HeldOut) -> tuple[Tensor, Tensor]:
        """Return how far each bond length is from the true one after correction and before, ``[n_edges]``, Angstrom."""
        seen = held_out.example.seen
        noise = held_out.example.clean.bond_lengths() - seen.bond_lengths()
        left = noise - self.distance_noise * self.corrections(held_out.seen_nodes, seen)
        return left.abs(), noise.abs()


def reconstruction_terms(
    method: CrysAEConfig | CrysGNNConfig, node_features: int, atom_features: int, cutoff: float, *, pooled: bool
) -> dict[str, Term]:
    """Build the terms of this file with a nonzero weight, by name.

    Args:
        method: Weights and corruption.
        node_features: Width of the encoder's embeddings.
        atom_features: Number of features per atom.
        cutoff: Cutoff of the neighbor search, Angstrom.
        pooled: See :func:`~crysmm.objectives.terms.mean_losses`.
    """
    terms: dict[str, Term] = {}
    if method.feature_weight:
        terms["features"] = AtomFeatureTerm(method.feature_weight, node_features, atom_features, pooled)
    if method.connectivity_weight:
        terms["connectivity"] = ConnectivityTerm(method.connectivity_weight, node_features, method.max_pairs, pooled)
    if method.distance_noise and method.distance_weight:
        terms["distances"] = DistanceTerm(method.distance_weight, node_features, cutoff, method.distance_noise, pooled)
    return terms
