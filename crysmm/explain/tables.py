"""Contributions of many crystals summed up by feature and by element, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from crysmm.data.batch import CrystalBatch
from crysmm.elements import SYMBOLS
from crysmm.explain.attribution import Contributions
from crysmm.explain.feature_names import Feature
from crysmm.files import table_replacing, write_csv_atomic


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


HEADERS = {
    "crystals.csv": ("id", "prediction", "baseline", "contributions", "residual"),
    "atoms.csv": ("id", "atom", "element", "contribution"),
    "elements.csv": ("id", "element", "n_atoms", "contribution"),
    "features_by_crystal.csv": (
        "id", "feature", "name", "feature_group", "lower", "upper", "unit", "n_atoms", "contribution",
    ),
}  # fmt: skip

Rows = dict[str, list[tuple[Any, ...]]]  # of each of these tables


@dataclass(frozen=True)
class FeatureRow:
    """One feature in the explanation of a model.

    Args:
        index: column of the atom features.
        feature: its name and range.
        weight: CrysXPP's weight of it; None for a backbone without.
        in_training: whether an element of the training crystals has it.
        share: of the atoms explained that have it.
        mean_contribution: over the crystals explained, in the unit of the prediction.
        mean_size: the same of the absolute contribution.
    """

    index: int
    feature: Feature
    weight: float | None
    in_training: bool
    share: float
    mean_contribution: float
    mean_size: float

    @property
    def importance(self) -> float:
        """What it is ranked by: the size of its weight, or for a backbone without weights of its contribution.

        A weight that no training crystal has moved says nothing.
        """
        if self.weight is None:
            return self.mean_size
        return abs(self.weight) if self.in_training else 0.0

    @property
    def matters(self) -> bool:
        """Whether there is anything to show of it."""
        return self.importance > 0

    def to_dict(self) -> dict[str, Any]:
        """For the tables."""
        return {
            "feature": self.index,
            "name": self.feature.name,
            "feature_group": self.feature.group,
            "lower": self.feature.lower,
            "upper": self.feature.upper,
            "unit": self.feature.unit,
            **({} if self.weight is None else {"weight": self.weight}),
            "in_training": self.in_training,
            "share_of_atoms": self.share,
            "mean_contribution": self.mean_contribution,
            "mean_absolute_contribution": self.mean_size,
        }


def feature_rows(
    features: Sequence[Feature], totals: Totals, weights: np.ndarray | None, in_training: np.ndarray
) -> list[FeatureRow]:
    """Every feature, the most important first."""
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


def element_rows(totals: Totals) -> list[dict[str, Any]]:
    """Every element over all crystals, in the order of the periodic table."""
    return [
        {
            "element": SYMBOLS[number],
            "n_crystals": int(totals.element_crystals[number]),
            "n_atoms": int(totals.element_atoms[number]),
            "mean_contribution": float(totals.element_sums[number] / totals.element_crystals[number]),
            "mean_contribution_of_an_atom": float(totals.element_sums[number] / totals.element_atoms[number]),
        }
        for number in totals.elements
    ]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A table of rows that have the same keys."""
    write_csv_atomic(path, list(rows[0]), (list(row.values()) for row in rows))


def crystal_rows(
    batch: CrystalBatch, contributions: Contributions, tables: BatchTables, features: Sequence[Feature]
) -> Rows:
    """What a batch adds to each of the tables with rows for single crystals."""
    ids, sums, n_atoms = np.array(batch.ids, dtype=object), tables.features.sum(1), batch.n_atoms.numpy()
    atom = np.concatenate([np.arange(count) for count in n_atoms])
    symbols = np.array(SYMBOLS, dtype=object)
    crystal, feature = _sorted_features(tables)
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


def _sorted_features(tables: BatchTables) -> tuple[np.ndarray, np.ndarray]:
    """Crystal and column of every feature that is present, crystal by crystal, the largest contribution first."""
    crystal, feature = np.nonzero(tables.present)
    order = np.lexsort((-np.abs(tables.features[crystal, feature]), crystal))
    return crystal[order], feature[order]


@dataclass(frozen=True)
class CrystalExplanation:
    """The rows of one crystal, for ``explanation.json`` and the pictures.

    Args:
        id: of the crystal.
        prediction: for it.
        baseline: the prediction for its bonds between atoms without features.
        contributions: their sum.
        residual: what prediction minus baseline has more than that.
        atoms: rows of ``atoms.csv``, without the id.
        elements: rows of ``elements.csv``.
        features: rows of ``features_by_crystal.csv``.
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
        """From the rows of a batch of one crystal."""
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

    def to_dict(self) -> dict[str, Any]:
        """For ``explanation.json``."""
        return asdict(self)


class CrystalTables:
    """The tables with rows for each crystal, written as crystals come; they appear when all are whole.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._open = ExitStack()
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name, header in HEADERS.items():
            self._writers[name] = self._open.enter_context(table_replacing(self._folder / name, header))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, rows: Rows) -> None:
        """The rows of a batch."""
        for name, writer in self._writers.items():
            writer.writerows(rows[name])
