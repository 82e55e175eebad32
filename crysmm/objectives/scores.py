"""Scores of what a pre-training term predicts for held-out crystals, with baselines that do not look at them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crysmm.elements import CGCNN_LAST_ELEMENT, feature_table
from crysmm.objectives.corruption import Example


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out batch, embedded by the encoder before and after corruption.

    Args:
        example: Batch before and after corruption.
        nodes: Embeddings of the atoms of ``example.clean``, ``[n_atoms_in_all, d]``.
        seen_nodes: Embeddings of the atoms of ``example.seen``.
        generator: Source of further random numbers.
    """

    example: Example
    nodes: Tensor
    seen_nodes: Tensor
    generator: torch.Generator


class HeldOutScore(ABC):
    """Sums over held-out batches, and the scores that follow from them."""

    @abstractmethod
    def add(self, held_out: HeldOut) -> None:
        """Add a batch."""

    @abstractmethod
    def result(self) -> dict[str, float]:
        """Return scores by name, each followed by its ``..._baseline``; none without any prediction."""


class ClassAccuracy(HeldOutScore):
    """Accuracy, and the mean accuracy over the classes that occur; the baselines predict the most frequent class.

    Args:
        name: What is classified, before ``_accuracy`` and ``_balanced_accuracy``.
        n_classes: Number of classes.
        classify: Returns true and predicted classes of a batch, ``[n]`` int64 each.
    """

    def __init__(self, name: str, n_classes: int, classify: Callable[[HeldOut], tuple[Tensor, Tensor]]):
        self._name, self._classify = name, classify
        self._confusion = np.zeros((n_classes, n_classes), dtype=np.int64)  # rows are true classes

    def add(self, held_out: HeldOut) -> None:
        """Add the classes of a batch."""
        true, predicted = self._classify(held_out)
        cells = torch.bincount(true * len(self._confusion) + predicted, minlength=self._confusion.size)
        self._confusion += cells.view(self._confusion.shape).cpu().numpy()

    def result(self) -> dict[str, float]:
        """Return both accuracies."""
        true, right = self._confusion.sum(1), self._confusion.diagonal()
        present = true > 0
        if not present.any():
            return {}
        return {
            f"{self._name}_accuracy": float(right.sum() / true.sum()),
            f"{self._name}_accuracy_baseline": float(true.max() / true.sum()),
            f"{self._name}_balanced_accuracy": float((right[present] / true[present]).mean()),
            f"{self._name}_balanced_accuracy_baseline": float(1 / present.sum()),
        }


class FeatureAccuracy(HeldOutScore):
    """Fraction of correct bits of atom features, and of atoms whose likeliest element has the right features.

    The baselines predict the more frequent value of each bit, and the most frequent element.

    Args:
        decode: Returns the logits of the features of embedded atoms, ``[n, F]``.
        of_hidden: True for the atoms whose features were hidden from the encoder alone, embedded as it saw them.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], *, of_hidden: bool):
        table = feature_table("cgcnn")
        self._decode, self._of_hidden = decode, of_hidden
        self._elements = torch.tensor(table[: CGCNN_LAST_ELEMENT + 1])
        self._n_atoms = self._right = self._right_elements = 0
        self._ones = np.zeros(table.shape[1], dtype=np.int64)
        self._numbers = np.zeros(len(table), dtype=np.int64)

    def add(self, held_out: HeldOut) -> None:
        """Add the atoms of a batch."""
        batch, hidden, nodes = held_out.example.clean, held_out.example.hidden, held_out.nodes
        features, numbers = batch.atom_features, batch.atomic_numbers
        if self._of_hidden:
            if hidden is None:
                return
            nodes, features, numbers = held_out.seen_nodes[hidden], features[hidden], numbers[hidden]
        logits = self._decode(nodes)
        elements = self._elements.to(logits)
        # The log-likelihood of an element's bits is their product with the logits plus a term without the element.
        likeliest = elements[1 + (logits @ elements[1:].T).argmax(1)]
        self._n_atoms += len(logits)
        self._right += int(((logits > 0) == (features > 0)).sum())
        self._right_elements += int((likeliest == features).all(1).sum())
        self._ones += (features > 0).sum(0).cpu().numpy()
        self._numbers += torch.bincount(numbers, minlength=len(self._numbers)).cpu().numpy()

    def result(self) -> dict[str, float]:
        """Return the accuracies of bits and elements."""
        if not self._n_atoms:
            return {}
        n_bits, prefix = self._n_atoms * len(self._ones), "hidden_" if self._of_hidden else ""
        return {
            f"{prefix}feature_accuracy": self._right / n_bits,
            f"{prefix}feature_accuracy_baseline": float(
                np.maximum(self._ones, self._n_atoms - self._ones).sum() / n_bits
            ),
            f"{prefix}element_accuracy": self._right_elements / self._n_atoms,
            f"{prefix}element_accuracy_baseline": float(self._numbers.max() / self._n_atoms),
        }


class MeanScore(HeldOutScore):
    """Mean of one number over whatever has it, such as atoms or bonds, and the mean of its baseline.

    Args:
        name: Name of the score.
        measure: Returns the number and its baseline for each of a batch, ``[n]`` each.
    """

    def __init__(self, name: str, measure: Callable[[HeldOut], tuple[Tensor, Tensor]]):
        self._name, self._measure = name, measure
        self._total = self._baseline = 0.0
        self._n = 0

    def add(self, held_out: HeldOut) -> None:
        """Add the numbers of a batch."""
        values, baselines = self._measure(held_out)
        self._total += float(values.sum())
        self._baseline += float(baselines.sum())
        self._n += len(values)

    def result(self) -> dict[str, float]:
        """Return the mean."""
        if not self._n:
            return {}
        return {self._name: self._total / self._n, f"{self._name}_baseline": self._baseline / self._n}
