"""Contributions of many crystals summed up by feature and by element, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crysmm.data.batch import CrystalBatch
from crysmm.elements import SYMBOLS
from crysmm.explain.attribution import Contributions


@dataclass(frozen=True)
class BatchTables:
    """One batch's contributions by crystal and feature, and by crystal and element.

    Args:
        features: ``[n_crystals, F]``, sums over the atoms.
        present: ``[n_crystals, F]``, how many atoms have the feature.
        element_crystals: ``[n]``, the crystal of each pair of a crystal and one of its elements.
        element_numbers: ``[n]``, atomic numbers.
        element_atoms: ``[n]``, atoms of that element in that crystal.
        element_contributions: ``[n]``, their sum.
    """

    features: np.ndarray
    present: np.ndarray
    element_crystals: np.ndarray
    element_numbers: np.ndarray
    element_atoms: np.ndarray
    element_contributions: np.ndarray

    @classmethod
    def of(cls, batch: CrystalBatch, contributions: Contributions) -> BatchTables:
        """The tables of a batch."""
        n_atoms, numbers = batch.n_atoms.numpy(), batch.atomic_numbers.numpy()
        first = np.cumsum(n_atoms) - n_atoms
        crystal = np.repeat(np.arange(len(n_atoms)), n_atoms)
        pairs, place = np.unique(crystal * len(SYMBOLS) + numbers, return_inverse=True)
        return cls(
            features=np.add.reduceat(contributions.features, first),
            present=np.add.reduceat(batch.atom_features.numpy() != 0, first, dtype=np.int64),
            element_crystals=pairs // len(SYMBOLS),
            element_numbers=pairs % len(SYMBOLS),
            element_atoms=np.bincount(place),
            element_contributions=np.bincount(place, weights=contributions.features.sum(1)),
        )


class Totals:
    """Sums over all batches.

    Args:
        n_features: columns of the atom features.

    Attributes:
        n_crystals, n_atoms: seen so far.
        feature_atoms: ``[F]``, atoms that have each feature.
        feature_sums, feature_sizes: ``[F]``, sums over the crystals of contributions and of their absolute values.
        element_crystals, element_atoms, element_sums: ``[104]``, by atomic number.
        largest_residual: of any crystal.
        largest_change: from baseline to prediction of any crystal.
    """

    def __init__(self, n_features: int):
        self.n_crystals = self.n_atoms = 0
        self.feature_atoms = np.zeros(n_features, dtype=np.int64)
        self.feature_sums, self.feature_sizes = np.zeros(n_features), np.zeros(n_features)
        self.element_crystals = np.zeros(len(SYMBOLS), dtype=np.int64)
        self.element_atoms = np.zeros(len(SYMBOLS), dtype=np.int64)
        self.element_sums = np.zeros(len(SYMBOLS))
        self.largest_residual = self.largest_change = 0.0

    def add(self, contributions: Contributions, tables: BatchTables) -> None:
        """Count a batch in."""
        self.n_crystals += len(tables.features)
        self.n_atoms += len(contributions.features)
        self.feature_atoms += tables.present.sum(0)
        self.feature_sums += tables.features.sum(0)
        self.feature_sizes += np.abs(tables.features).sum(0)
        np.add.at(self.element_crystals, tables.element_numbers, 1)
        np.add.at(self.element_atoms, tables.element_numbers, tables.element_atoms)
        np.add.at(self.element_sums, tables.element_numbers, tables.element_contributions)
        change = np.abs(contributions.predictions - contributions.baselines)
        self.largest_residual = max(self.largest_residual, float(np.abs(contributions.residuals).max()))
        self.largest_change = max(self.largest_change, float(change.max()))

    @property
    def elements(self) -> list[int]:
        """Atomic numbers seen, ascending."""
        return np.flatnonzero(self.element_atoms).tolist()

    @property
    def symbols(self) -> list[str]:
        """Of the elements seen."""
        return [SYMBOLS[number] for number in self.elements]
