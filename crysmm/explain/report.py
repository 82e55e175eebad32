"""What an explanation writes: tables, a JSON file, and the lines on the screen."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from crysmm.atomic_files import replacing, write_csv_atomic
from crysmm.data.batch import CrystalBatch
from crysmm.elements import SYMBOLS
from crysmm.explain.atoms import Contributions
from crysmm.explain.features import Feature
from crysmm.explain.totals import BatchTables, Totals

HEADERS = {
    "crystals.csv": ("id", "prediction", "baseline", "contributions", "residual"),
    "atoms.csv": ("id", "atom", "element", "contribution"),
    "elements.csv": ("id", "element", "n_atoms", "contribution"),
    "features_by_crystal.csv": ("id", "feature", "name", "n_atoms", "contribution"),
}


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
            "property": self.feature.property,
            "low": self.feature.low,
            "high": self.feature.high,
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


class CrystalTables:
    """The tables with rows for each crystal, written as crystals come; they appear when all are whole.

    Args:
        folder: where they are written.
        features: names of the columns of the atom features.
    """

    def __init__(self, folder: Path, features: Sequence[Feature]):
        self._folder = folder
        self._names = [feature.name for feature in features]
        self._open = ExitStack()
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name, header in HEADERS.items():
            self._writers[name] = self._open.enter_context(_table(self._folder / name, header))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, batch: CrystalBatch, contributions: Contributions, tables: BatchTables) -> None:
        """The rows of a batch."""
        ids, sums = np.array(batch.ids, dtype=object), tables.features.sum(1)
        numbers = (contributions.predictions, contributions.baselines, sums, contributions.residuals)
        self._write("crystals.csv", ids, *numbers)
        n_atoms = batch.n_atoms.numpy()
        atom = np.concatenate([np.arange(count) for count in n_atoms])
        symbols = np.array(SYMBOLS, dtype=object)
        elements = symbols[batch.atomic_numbers.numpy()]
        self._write("atoms.csv", np.repeat(ids, n_atoms), atom, elements, contributions.features.sum(1))
        self._write(
            "elements.csv",
            ids[tables.element_crystals],
            symbols[tables.element_numbers],
            tables.element_atoms,
            tables.element_contributions,
        )
        crystal, feature = self._sorted_features(tables)
        self._write(
            "features_by_crystal.csv",
            ids[crystal],
            feature,
            np.array(self._names, dtype=object)[feature],
            tables.present[crystal, feature],
            tables.features[crystal, feature],
        )

    def _sorted_features(self, tables: BatchTables) -> tuple[np.ndarray, np.ndarray]:
        """Crystal and column of every feature that is present, crystal by crystal, the largest contribution first."""
        crystal, feature = np.nonzero(tables.present)
        order = np.lexsort((-np.abs(tables.features[crystal, feature]), crystal))
        return crystal[order], feature[order]

    def _write(self, name: str, *columns: np.ndarray) -> None:
        self._writers[name].writerows(zip(*(column.tolist() for column in columns), strict=True))


@contextmanager
def _table(path: Path, header: Sequence[str]) -> Iterator[Any]:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        yield writer
