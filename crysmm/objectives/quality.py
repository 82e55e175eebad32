"""Quality of a pre-trained encoder on held-out crystals, with baselines that do not look at them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crysmm.data.batch import CrystalBatch
from crysmm.data.space_groups import CRYSTAL_SYSTEMS, crystal_system
from crysmm.elements import CGCNN_LAST_ELEMENT, feature_table
from crysmm.engines.linear import precise
from crysmm.models.backbone import crystal_mean
from crysmm.objectives.imitation import ImitationTerm
from crysmm.objectives.pretraining import PretrainingObjective
from crysmm.objectives.reconstruction import AtomFeatureTerm, DistanceTerm

NEIGHBORS = 10
MOST_POOLED = 10_000  # crystals whose pooled embeddings are compared, each with all others
WORKING_MEMORY = 64  # MiB of distances at a time


class EncoderQuality:
    """Accumulates scores of an encoder and its decoders over batches of held-out crystals.

    The encoder sees clean crystals, except for the scores that begin with ``hidden_`` (atoms with hidden features),
    ``distance_`` (bonds with noise), ``replaced_`` and ``decoy_`` (atoms with another element, and their crystals).
    For these it sees the corruption it was trained with.

    Args:
        objective: Encoder with its decoders; only what they predict is evaluated.
        n_crystals: Number of crystals that will be added. If there are more than ``MOST_POOLED``, only every second,
            third, ... is compared with its neighbors.
    """

    def __init__(self, objective: PretrainingObjective, n_crystals: int):
        self.objective = objective
        self._every = -(-n_crystals // MOST_POOLED)
        self._n_added = 0
        terms = objective.network.terms()
        reconstructs_features = any(isinstance(term, AtomFeatureTerm) for term in terms.values())
        self._features = _FeatureCounts() if reconstructs_features else None
        self._hidden = _FeatureCounts() if reconstructs_features and objective.corruption.mask_ratio else None
        self._confusions = {
            name: np.zeros((term.n_classes, term.n_classes), dtype=np.int64)
            for name, term in terms.items()
            if term.n_classes is not None
        }
        self._distances = np.zeros(3)  # sum of errors after correction, sum before it, number of bonds
        self._cosines = np.zeros(2)  # sum over atoms, their number
        self._pooled: list[np.ndarray] = []
        self._systems: list[np.ndarray] = []

    @torch.no_grad()
    def add(self, batch: CrystalBatch) -> None:
        """Add the crystals of a batch."""
        network = self.objective.network
        was_training = network.training
        network.eval()
        example, generator = self.objective.corrupt_reproducibly(batch)
        nodes = network(batch).nodes
        seen_nodes = nodes if example.seen is batch else network(example.seen).nodes
        for name, term in network.terms().items():
            if isinstance(term, AtomFeatureTerm):
                assert self._features is not None
                features, numbers, hidden = batch.atom_features, batch.atomic_numbers, example.hidden
                self._features.add(precise(term.decoder(nodes)), features, numbers)
                if hidden is not None and self._hidden is not None:
                    self._hidden.add(precise(term.decoder(seen_nodes[hidden])), features[hidden], numbers[hidden])
            elif isinstance(term, DistanceTerm):
                noise = batch.bond_lengths() - example.seen.bond_lengths()
                left = noise - term.distance_noise * term.corrections(seen_nodes, example.seen)
                self._distances += [float(left.abs().sum()), float(noise.abs().sum()), len(noise)]
            elif isinstance(term, ImitationTerm):
                cosines = term.cosines(nodes, example)
                self._cosines += [float(cosines.sum()), len(cosines)]
            elif (classes := term.classified(nodes, seen_nodes, example, generator)) is not None:
                true, predicted = classes
                confusion = self._confusions[name]
                cells = torch.bincount(true * len(confusion) + predicted, minlength=confusion.size)
                confusion += cells.view(confusion.shape).cpu().numpy()
        if batch.space_groups is not None:
            pooled = crystal_mean(nodes, batch.n_atoms)
            numbers = self._n_added + torch.arange(len(pooled), device=pooled.device)
            self._n_added += len(pooled)
            kept = (batch.space_groups > 0) & (numbers % self._every == 0)
            self._pooled.append(pooled[kept].float().cpu().numpy())
            self._systems.append(crystal_system(batch.space_groups[kept]).cpu().numpy())
        network.train(was_training)

    def result(self) -> dict[str, float]:
        """Return the scores by name, each followed by its ``..._baseline``.

        - ``feature_accuracy``: Fraction of correct bits of the atom features.
        - ``element_accuracy``: Fraction of the atoms whose likeliest element given the predicted bits has the right
          features.
        - ``connectivity_``, ``bond_lengths_``, ``space_group_``, ``replaced_`` and ``decoy_accuracy``, and
          ``..._balanced_accuracy``: Accuracy, and the mean accuracy over the classes that occur.
        - ``distance_error``: Mean error of the corrected bond lengths, Angstrom; the baseline is the noise.
        - ``imitation_cosine``: Mean cosine of the predicted and the teacher's features of an atom; the baseline, 0, is
          that of random directions.
        - ``knn_purity``: Fraction of the 10 nearest crystals (or the nearest quarter, if there are fewer than 40
          others) of the same crystal system, by the cosine of pooled embeddings, among at most ``MOST_POOLED``.

        Scores without any prediction are left out.
        """
        scores: dict[str, float] = {}
        for prefix, counts in (("", self._features), ("hidden_", self._hidden)):
            if counts is not None and counts.n_atoms:
                scores.update({prefix + name: score for name, score in counts.scores().items()})
        for name, confusion in self._confusions.items():
            if confusion.any():
                scores.update({f"{name}_{score}": value for score, value in _accuracies(confusion).items()})
        corrected, noisy, n_bonds = self._distances
        if n_bonds:
            scores.update(distance_error=float(corrected / n_bonds), distance_error_baseline=float(noisy / n_bonds))
        total, n_atoms = self._cosines
        if n_atoms:
            scores.update(imitation_cosine=float(total / n_atoms), imitation_cosine_baseline=0.0)
        return scores | self._purity()

    def _purity(self) -> dict[str, float]:
        """Return ``knn_purity`` and its baseline, or nothing for too few crystals."""
        pooled = np.concatenate(self._pooled) if self._pooled else np.empty((0, 1))
        # With all others as neighbors, every encoder would have the same purity.
        n_neighbors = min(NEIGHBORS, (len(pooled) - 1) // 4)
        if n_neighbors < 1:
            return {}
        from sklearn import config_context
        from sklearn.neighbors import NearestNeighbors

        systems = np.concatenate(self._systems)
        neighbors = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine").fit(pooled)
        with config_context(working_memory=WORKING_MEMORY):
            nearest = neighbors.kneighbors(return_distance=False)  # without the crystal itself
        counts = np.bincount(systems, minlength=len(CRYSTAL_SYSTEMS)).astype(float)
        chance = (counts * (counts - 1)).sum() / (len(systems) * (len(systems) - 1))
        purity = (systems[nearest] == systems[:, None]).mean()
        return {"knn_purity": float(purity), "knn_purity_baseline": float(chance)}


def _accuracies(confusion: np.ndarray) -> dict[str, float]:
    """Return accuracy and balanced accuracy, with the baselines of predicting the most frequent class.

    Args:
        confusion: Number of predictions by true (row) and predicted (column) class, ``[n_classes, n_classes]``.
    """
    true = confusion.sum(1)
    right = confusion.diagonal()
    present = true > 0
    return {
        "accuracy": float(right.sum() / true.sum()),
        "accuracy_baseline": float(true.max() / true.sum()),
        "balanced_accuracy": float((right[present] / true[present]).mean()),
        "balanced_accuracy_baseline": float(1 / present.sum()),
    }


class _FeatureCounts:
    """Counts of atoms, of their correct feature bits and of their correct elements."""

    def __init__(self) -> None:
        table = feature_table("cgcnn")
        self._elements = torch.tensor(table[: CGCNN_LAST_ELEMENT + 1])
        self.n_atoms = 0
        self._right = self._right_elements = 0
        self._ones = np.zeros(table.shape[1], dtype=np.int64)
        self._numbers = np.zeros(len(table), dtype=np.int64)

    def add(self, logits: Tensor, features: Tensor, atomic_numbers: Tensor) -> None:
        """Count atoms.

        Args:
            logits: Predicted features, ``[n, F]``.
            features: True features, ``[n, F]``, 0 or 1.
            atomic_numbers: Atomic numbers, ``[n]``.
        """
        elements = self._elements.to(logits)
        # The log-likelihood of an element's bits is their product with the logits plus a term without the element.
        likeliest = elements[1 + (logits @ elements[1:].T).argmax(1)]
        self.n_atoms += len(logits)
        self._right += int(((logits > 0) == (features > 0)).sum())
        self._right_elements += int((likeliest == features).all(1).sum())
        self._ones += (features > 0).sum(0).cpu().numpy()
        self._numbers += torch.bincount(atomic_numbers, minlength=len(self._numbers)).cpu().numpy()

    def scores(self) -> dict[str, float]:
        """Return the accuracies of bits and elements.

        The baselines predict the more frequent value of each bit, and the most frequent element.
        """
        n_bits = self.n_atoms * len(self._ones)
        return {
            "feature_accuracy": self._right / n_bits,
            "feature_accuracy_baseline": float(np.maximum(self._ones, self.n_atoms - self._ones).sum() / n_bits),
            "element_accuracy": self._right_elements / self.n_atoms,
            "element_accuracy_baseline": float(self._numbers.max() / self.n_atoms),
        }
