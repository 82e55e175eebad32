"""Tables of an explanation: contributions summed by crystal, element and feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from crysmm.data.batch import CrystalBatch
from crysmm.elements import SYMBOLS
from crysmm.explain.attribution import Contributions
from crysmm.explain.feature_names import Feature

HEADERS = {
    "crystals.csv": ("id", "prediction", "baseline", "contributions", "residual"),
    "atoms.csv": ("id", "atom", "element", "contribution"),
    "elements.csv": ("id", "element", "n_atoms", "contribution"),
    "features_by_crystal.csv": (
        "id", "feature", "name", "feature_group", "lower", "upper", "unit", "n_atoms", "contribution",
    ),
}  # fmt: skip

Rows = dict[str, list[tuple[Any, ...]]]  # rows of each of these tables


@dataclass(frozen=True)
class BatchTables:
    """Contributions in a batch by crystal and feature, and by crystal and element.

    Args:
        features: Sums over the atoms of each crystal, ``[n_crystals, F]``.
        present: Number of atoms with each feature, ``[n_crystals, F]``.
        element_crystals: Crystal of each pair of a crystal and one of its elements, ``[n]``.
        element_numbers: Atomic number of the element, ``[n]``.
        element_atoms: Number of atoms of the element in the crystal, ``[n]``.
        element_contributions: Sum of the contributions of these atoms, ``[n]``.
    """

    features: np.ndarray
    present: np.ndarray
    element_crystals: np.ndarray
    element_numbers: np.ndarray
    element_atoms: np.ndarray
    element_contributions: np.ndarray

    @classmethod
    def of(cls, batch: CrystalBatch, contributions: Contributions) -> BatchTables:
        """Sum the contributions in a batch."""
        n_atoms, numbers = batch.n_atoms.numpy(), batch.atomic_numbers.numpy()
        first = np.cumsum(n_atoms) - n_atoms
        crystal = np.repeat(np.arange(len(n_atoms)), n_atoms)
        # One integer per pair of crystal and element, in the order of the crystals.
        pairs, pair = np.unique(crystal * len(SYMBOLS) + numbers, return_inverse=True)
        return cls(
            features=np.add.reduceat(contributions.features, first),
            present=np.add.reduceat(batch.atom_features.numpy() != 0, first, dtype=np.int64),
            element_crystals=pairs // len(SYMBOLS),
            element_numbers=pairs % len(SYMBOLS),
            element_atoms=np.bincount(pair),
            element_contributions=np.bincount(pair, weights=contributions.features.sum(1)),
        )


class Totals:
    """Sums over all batches.

    Args:
        n_features: Number of columns of the atom features.

    Attributes:
        n_crystals, n_atoms: Numbers of crystals and atoms so far.
        feature_atoms: Number of atoms with each feature, ``[F]``.
        feature_sums, feature_sizes: Sums over the crystals of contributions and of their absolute values, ``[F]``.
        element_crystals, element_atoms, element_sums: Numbers of crystals and atoms and sums of contributions by
            atomic number, ``[104]``.
        largest_residual: Largest absolute residual of a crystal.
        largest_change: Largest absolute change from baseline to prediction.
    """

    def __init__(self, n_features: int):
        # All in 64 bits: a data set may have hundreds of thousands of crystals.
        self.n_crystals = self.n_atoms = 0
        self.feature_atoms = np.zeros(n_features, dtype=np.int64)
        self.feature_sums, self.feature_sizes = np.zeros(n_features), np.zeros(n_features)
        self.element_crystals = np.zeros(len(SYMBOLS), dtype=np.int64)
        self.element_atoms = np.zeros(len(SYMBOLS), dtype=np.int64)
        self.element_sums = np.zeros(len(SYMBOLS))
        self.largest_residual = self.largest_change = 0.0

    def add(self, contributions: Contributions, tables: BatchTables) -> None:
        """Add a batch."""
        self.n_crystals += len(tables.features)
        self.n_atoms += len(contributions.features)
        self.feature_atoms += tables.present.sum(0)
        self.feature_sums += tables.features.sum(0)
        self.feature_sizes += np.abs(tables.features).sum(0)
        # Unlike +=, add.at counts every crystal of the batch that contains an element.
        np.add.at(self.element_crystals, tables.element_numbers, 1)
        np.add.at(self.element_atoms, tables.element_numbers, tables.element_atoms)
        np.add.at(self.element_sums, tables.element_numbers, tables.element_contributions)
        change = np.abs(contributions.predictions - contributions.baselines)
        self.largest_residual = max(self.largest_residual, float(np.abs(contributions.residuals).max()))
        self.largest_change = max(self.largest_change, float(change.max()))

    def element_rows(self) -> list[dict[str, Any]]:
        """Return the row of each element for ``elements_of_all.csv``, by atomic number."""
        return [
            {
                "element": SYMBOLS[number],
                "n_crystals": int(self.element_crystals[number]),
                "n_atoms": int(self.element_atoms[number]),
                "mean_contribution": float(self.element_sums[number] / self.element_crystals[number]),
                "mean_contribution_of_an_atom": float(self.element_sums[number] / self.element_atoms[number]),
            }
            for number in np.flatnonzero(self.element_atoms).tolist()
        ]


@dataclass(frozen=True)
class FeatureRow:
    """One feature in the explanation of a model.

    Args:
        index: Column of the atom features.
        feature: Name and range.
        weight: Weight in CrysXPP's feature selector; None for other backbones.
        in_training: True if an element of the training crystals has the feature.
        fraction_of_atoms: Fraction of the explained atoms that have the feature.
        mean_contribution: Mean contribution per crystal, in the unit of the prediction.
        mean_size: Mean absolute contribution per crystal.
    """

    index: int
    feature: Feature
    weight: float | None
    in_training: bool
    fraction_of_atoms: float
    mean_contribution: float
    mean_size: float

    @property
    def importance(self) -> float:
        """Absolute weight, or mean absolute contribution for backbones without weights."""
        if self.weight is None:
            return self.mean_size
        # Predictions for the training crystals do not depend on the other weights, which are not trained on labels.
        return abs(self.weight) if self.in_training else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the row for ``features.csv``."""
        return {
            "feature": self.index,
            "name": self.feature.name,
            "feature_group": self.feature.group,
            "lower": self.feature.lower,
            "upper": self.feature.upper,
            "unit": self.feature.unit,
            **({} if self.weight is None else {"weight": self.weight}),
            "in_training": self.in_training,
            "fraction_of_atoms": self.fraction_of_atoms,
            "mean_contribution": self.mean_contribution,
            "mean_absolute_contribution": self.mean_size,
        }


def feature_rows(
    features: Sequence[Feature], totals: Totals, weights: np.ndarray | None, in_training: np.ndarray
) -> list[FeatureRow]:
    """Return the rows of all features, most important first.

    Args:
        features: Features in the order of the columns.
        totals: Sums over all crystals.
        weights: Weights of CrysXPP, ``[F]``; None for other backbones.
        in_training: True for features that an element of the training crystals has, ``[F]``.
    """
    rows = [
        FeatureRow(
            index,
            feature,
            None if weights is None else float(weights[index]),
            bool(in_training[index]),
            float(totals.feature_atoms[index] / totals.n_atoms),
            float(totals.feature_sums[index] / totals.n_crystals),
            float(totals.feature_sizes[index] / totals.n_crystals),
        )
        for index, feature in enumerate(features)
    ]
    return sorted(rows, key=lambda row: -row.importance)


def crystal_rows(
    batch: CrystalBatch, contributions: Contributions, tables: BatchTables, features: Sequence[Feature]
) -> Rows:
    """Return the rows of a batch for each table in ``HEADERS``.

    Args:
        batch: Crystals with ids.
        contributions: Contributions in the batch.
        tables: Their sums.
        features: Features in the order of the columns.
    """
    ids, sums, n_atoms = np.array(batch.ids, dtype=object), tables.features.sum(1), batch.n_atoms.numpy()
    atom = np.concatenate([np.arange(count) for count in n_atoms])
    symbols = np.array(SYMBOLS, dtype=object)
    crystal, feature = np.nonzero(tables.present)
    # Sort by crystal, then by the size of the contributions.
    order = np.lexsort((-np.abs(tables.features[crystal, feature]), crystal))
    crystal, feature = crystal[order], feature[order]
    described = np.array([(one.name, one.group, one.lower, one.upper, one.unit) for one in features], dtype=object)
    columns = {
        "crystals.csv": (ids, contributions.predictions, contributions.baselines, sums, contributions.residuals),
        "atoms.csv": (
            np.repeat(ids, n_atoms),
            atom,
            symbols[batch.atomic_numbers.numpy()],
            contributions.features.sum(1),
        ),
        "elements.csv": (
            ids[tables.element_crystals],
            symbols[tables.element_numbers],
            tables.element_atoms,
            tables.element_contributions,
        ),
        "features_by_crystal.csv": (
            ids[crystal],
            feature,
            *described[feature].T,
            tables.present[crystal, feature],
            tables.features[crystal, feature],
        ),
    }
    return {name: list(zip(*(column.tolist() for column in table), strict=True)) for name, table in columns.items()}


@dataclass(frozen=True)
class CrystalExplanation:
    """Explanation of the prediction for one crystal, for ``explanation.json`` and the plots.

    Args:
        id: Id of the crystal.
        prediction: Prediction.
        baseline: Prediction for the same bonds between atoms without features.
        contributions: Sum of the contributions.
        residual: Prediction minus baseline minus this sum.
        atoms: Rows of ``atoms.csv`` without the id.
        elements: Rows of ``elements.csv`` without the id.
        features: Rows of ``features_by_crystal.csv`` without the id.
    """

    id: str
    prediction: float
    baseline: float
    contributions: float
    residual: float
    atoms: list[dict[str, Any]]
    elements: list[dict[str, Any]]
    features: list[dict[str, Any]]

    @classmethod
    def of(cls, rows: Rows) -> CrystalExplanation:
        """Make the explanation from the rows of a batch with one crystal."""
        named = {name: [dict(zip(HEADERS[name], row, strict=True)) for row in table] for name, table in rows.items()}
        (numbers,) = named.pop("crystals.csv")
        for row in chain.from_iterable(named.values()):
            del row["id"]
        return cls(
            **numbers,
            atoms=named["atoms.csv"],
            elements=named["elements.csv"],
            features=named["features_by_crystal.csv"],
        )
