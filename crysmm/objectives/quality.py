"""What a pre-trained encoder knows of crystals held out, beside what is right without looking at them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch
from crysmm.data.space_groups import CRYSTAL_SYSTEMS, crystal_system
from crysmm.elements import CGCNN_LAST_ELEMENT, feature_table
from crysmm.engines.linear import precise
from crysmm.models.layers import crystal_mean
from crysmm.objectives.corruption import Example, bond_lengths
from crysmm.objectives.crysgnn import SPACE_GROUPS, SpaceGroupTerm
from crysmm.objectives.decoys import DecoyTerm, ReplacedAtomTerm, decoys, replaced_atoms
from crysmm.objectives.pretraining import PretrainingObjective
from crysmm.objectives.reconstruction import (
    CLASSES,
    LENGTH_CLASSES,
    NO_PAIR,
    AtomFeatureTerm,
    BondLengthTerm,
    ConnectivityTerm,
    DistanceTerm,
    length_classes,
)

NEIGHBORS = 10
MOST_POOLED = 10_000  # crystals whose pooled embeddings are compared, each with all others
WORKING_MEMORY = 64  # MiB of distances at a time


class EncoderQuality:
    """Adds up batches of crystals held out.

    The encoder sees the crystals as they are, but for the scores that begin with ``hidden_`` (atoms whose features it
    did not see), ``distance_`` (bonds whose lengths were changed), ``replaced_`` and ``decoy_`` (atoms with another
    element, and their crystals), with the corruption it was trained with.

    Args:
        objective: with the encoder and its decoders; only what they are asked about is judged.
        n_crystals: that will be added; of more than ``MOST_POOLED``, every second, third, ... is kept to be compared.
    """

    def __init__(self, objective: PretrainingObjective, n_crystals: int):
        self.objective = objective
        self._every = -(-n_crystals // MOST_POOLED)
        self._n_added = 0
        terms = objective.network.terms().values()
        self._features = _Bits() if any(isinstance(term, AtomFeatureTerm) for term in terms) else None
        self._hidden = _Bits() if self._features and objective.corruption.mask_ratio else None
        sizes = {
            ConnectivityTerm: CLASSES, BondLengthTerm: LENGTH_CLASSES, SpaceGroupTerm: SPACE_GROUPS,
            ReplacedAtomTerm: 2, DecoyTerm: 2,
        }  # fmt: skip
        self._classes = {
            name: _Confusion(size)
            for name, term in objective.network.terms().items()
            for kind, size in sizes.items()
            if isinstance(term, kind)
        }
        self._distances = np.zeros(3)  # errors of the lengths given back, of those seen, and bonds
        self._pooled: list[np.ndarray] = []
        self._systems: list[np.ndarray] = []

    @torch.no_grad()
    def add(self, batch: CrystalBatch) -> None:
        """Judge some crystals more."""
        network = self.objective.network
        training = network.training
        network.eval()
        nodes = network(batch).nodes
        example, generator = self.objective.corrupt_again(batch)
        nodes_of_seen = nodes if example.seen is batch else network(example.seen).nodes
        for name, term in network.terms().items():
            if isinstance(term, AtomFeatureTerm):
                self._add_features(term, nodes, nodes_of_seen, example)
            elif isinstance(term, ConnectivityTerm):
                grid = term.grid(nodes, batch, generator)
                asked = grid.classes != NO_PAIR
                self._classes[name].add(grid.classes[asked], grid.scores.argmax(1)[asked])
            elif isinstance(term, BondLengthTerm):
                self._classes[name].add(length_classes(batch), term.scores(nodes, batch).argmax(1))
            elif isinstance(term, SpaceGroupTerm) and batch.space_groups is not None:
                known = batch.space_groups > 0
                predicted = term.scores(nodes, batch.n_atoms).argmax(1)
                self._classes[name].add(batch.space_groups[known] - 1, predicted[known])
            elif isinstance(term, ReplacedAtomTerm):
                self._classes[name].add(replaced_atoms(example).long(), (term.scores(nodes_of_seen) > 0).long())
            elif isinstance(term, DecoyTerm):
                seems = term.scores(nodes_of_seen, batch.n_atoms) > 0
                self._classes[name].add(decoys(example).long(), seems.long())
            elif isinstance(term, DistanceTerm):
                self._add_distances(term, nodes_of_seen, example)
        self._add_pooled(crystal_mean(nodes, batch.n_atoms), batch)
        network.train(training)

    def _add_features(self, term: AtomFeatureTerm, nodes: Tensor, nodes_of_seen: Tensor, example: Example) -> None:
        assert self._features is not None
        features, numbers = example.clean.atom_features, example.clean.atomic_numbers
        self._features.add(precise(term.decoder(nodes)), features, numbers)
        if example.hidden is not None and self._hidden is not None:
            logits = precise(term.decoder(nodes_of_seen[example.hidden]))
            self._hidden.add(logits, features[example.hidden], numbers[example.hidden])

    def _add_distances(self, term: DistanceTerm, nodes: Tensor, example: Example) -> None:
        asked = bond_lengths(example.clean.bond_vectors) - bond_lengths(example.seen.bond_vectors)
        left = asked - term.distance_noise * term.corrections(nodes, example.seen)
        self._distances += [float(left.abs().sum()), float(asked.abs().sum()), len(asked)]

    def _add_pooled(self, pooled: Tensor, batch: CrystalBatch) -> None:
        if batch.space_groups is not None:
            places = self._n_added + torch.arange(len(pooled), device=pooled.device)
            self._n_added += len(pooled)
            known = (batch.space_groups > 0) & (places % self._every == 0)
            self._pooled.append(pooled[known].float().cpu().numpy())
            self._systems.append(crystal_system(batch.space_groups[known]).cpu().numpy())

    def result(self) -> dict[str, float]:
        """The scores by name; each ``..._baseline`` is what the score before it would be without looking.

        ``feature_accuracy``: bits given back right; ``element_accuracy``: atoms whose likeliest element by these bits
        has the right ones. ``connectivity_``, ``bond_lengths_``, ``space_group_``, ``replaced_`` and
        ``decoy_accuracy``, and their balanced accuracies, means over the classes there are. ``distance_error``:
        Angstrom that the lengths given back are off, beside those seen. ``knn_purity``: share of the 10 nearest
        crystals, or of the nearest quarter of fewer than 40, by the cosine of the pooled embeddings, that have the same
        crystal system, among at most ``MOST_POOLED`` crystals. Where nothing was asked, scores are left out.
        """
        scores: dict[str, float] = {}
        for prefix, bits in (("", self._features), ("hidden_", self._hidden)):
            if bits is not None and bits.n_atoms:
                scores.update({prefix + name: score for name, score in bits.scores().items()})
        for name, confusion in self._classes.items():
            if confusion.counts.any():
                scores.update({f"{name}_{score}": value for score, value in confusion.scores().items()})
        left, changed, n_bonds = self._distances
        if n_bonds:
            scores.update(distance_error=float(left / n_bonds), distance_error_baseline=float(changed / n_bonds))
        return scores | self._purity()

    def _purity(self) -> dict[str, float]:
        pooled = np.concatenate(self._pooled) if self._pooled else np.empty((0, 1))
        n_neighbors = min(NEIGHBORS, (len(pooled) - 1) // 4)  # all others would be as pure whatever the encoder
        if n_neighbors < 1:
            return {}
        from sklearn import config_context
        from sklearn.neighbors import NearestNeighbors

        systems = np.concatenate(self._systems)
        neighbors = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine").fit(pooled)
        with config_context(working_memory=WORKING_MEMORY):
            nearest = neighbors.kneighbors(return_distance=False)
        counts = np.bincount(systems, minlength=len(CRYSTAL_SYSTEMS)).astype(float)
        chance = (counts * (counts - 1)).sum() / (len(systems) * (len(systems) - 1))
        purity = (systems[nearest] == systems[:, None]).mean()
        return {"knn_purity": float(purity), "knn_purity_baseline": float(chance)}


class _Confusion:
    """Counts of true and predicted classes."""

    def __init__(self, n_classes: int):
        self.counts = np.zeros((n_classes, n_classes), dtype=np.int64)

    def add(self, truth: Tensor, predicted: Tensor) -> None:
        """Args: ``[n]`` classes each."""
        n_classes = len(self.counts)
        cells = torch.bincount(truth * n_classes + predicted, minlength=n_classes**2)
        self.counts += cells.view(n_classes, n_classes).cpu().numpy()

    def scores(self) -> dict[str, float]:
        """Accuracy and balanced accuracy, each beside that of always predicting the most frequent class."""
        truth = self.counts.sum(1)
        right = self.counts.diagonal()
        present = truth > 0
        return {
            "accuracy": float(right.sum() / truth.sum()),
            "accuracy_baseline": float(truth.max() / truth.sum()),
            "balanced_accuracy": float((right[present] / truth[present]).mean()),
            "balanced_accuracy_baseline": float(1 / present.sum()),
        }


class _Bits:
    """Counts of atoms, of their features given back right, and of their elements."""

    def __init__(self) -> None:
        table = feature_table("cgcnn")
        self._elements = torch.tensor(table[: CGCNN_LAST_ELEMENT + 1])
        self.n_atoms = 0
        self._right = self._right_elements = 0
        self._ones = np.zeros(table.shape[1], dtype=np.int64)
        self._numbers = np.zeros(len(table), dtype=np.int64)

    def add(self, logits: Tensor, features: Tensor, atomic_numbers: Tensor) -> None:
        """Args: ``[n, F]``, ``[n, F]`` and ``[n]``."""
        elements = self._elements.to(logits)
        likeliest = elements[1 + (logits @ elements[1:].T).argmax(1)]  # log-likelihood but for what all have
        self.n_atoms += len(logits)
        self._right += int(((logits > 0) == (features > 0)).sum())
        self._right_elements += int((likeliest == features).all(1).sum())
        self._ones += (features > 0).sum(0).cpu().numpy()
        self._numbers += torch.bincount(atomic_numbers, minlength=len(self._numbers)).cpu().numpy()

    def scores(self) -> dict[str, float]:
        """Of bits and of elements; without looking: each bit's more frequent value, and the most frequent element."""
        n_bits = self.n_atoms * len(self._ones)
        return {
            "feature_accuracy": self._right / n_bits,
            "feature_accuracy_baseline": float(np.maximum(self._ones, self.n_atoms - self._ones).sum() / n_bits),
            "element_accuracy": self._right_elements / self.n_atoms,
            "element_accuracy_baseline": float(self._numbers.max() / self.n_atoms),
        }
