"""Quality of a pre-trained encoder on held-out crystals: scores of its decoders, and purity of nearest neighbors."""

from __future__ import annotations

import numpy as np
import torch

from crysmm.data.batch import CrystalBatch
from crysmm.data.space_groups import CRYSTAL_SYSTEMS, crystal_system
from crysmm.models.backbone import crystal_mean
from crysmm.objectives.pretraining import PretrainingObjective
from crysmm.objectives.scores import HeldOut

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
        self._scores = [score for name, term in objective.network.terms().items() for score in term.scores(name)]
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
        held_out = HeldOut(example, nodes, seen_nodes, generator)
        for score in self._scores:
            score.add(held_out)
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
        scores = self._purity()
        for score in self._scores:
            scores |= score.result()
        return scores

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
