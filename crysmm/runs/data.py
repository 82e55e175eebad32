"""Crystals of a run, the rows that it uses, and their split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np

from crysmm.data.atom_rows import AtomRows
from crysmm.data.scaler import TargetScaler
from crysmm.data.split import Split
from crysmm.data.store import Store
from crysmm.elements import elements_in
from crysmm.io.source import SkippedRow
from crysmm.runs.run_folder import SPLITS
from crysmm.teachers.features import TeacherFeatures
from crysmm.text.embeddings import Texts


@dataclass(frozen=True)
class RunData:
    """Crystals of a run.

    Args:
        store: Store with every crystal that could be read.
        skipped: Rows that are not used, with the reasons.
        split: Rows of the store in each split.
        teacher_features: Teacher embeddings of the atoms in the training and validation splits.
        texts: Descriptions of the crystals as the network reads them.
        potential_features: Features of the atoms by a potential, which the network reads.
    """

    store: Store
    skipped: list[SkippedRow]
    split: Split
    teacher_features: AtomRows | None = field(default=None, kw_only=True)
    texts: Texts | None = field(default=None, kw_only=True)
    potential_features: TeacherFeatures | None = field(default=None, kw_only=True)

    def rows(self, split: str) -> list[int]:
        """Return the store rows in ``train``, ``val`` or ``test``."""
        return self.split.rows(split)

    def without(self, reasons: Mapping[int, str]) -> Self:
        """Return the data without some rows of the store, which are skipped for these reasons."""
        skipped = [SkippedRow(self.store.ids[row], self.store.files[row], reason) for row, reason in reasons.items()]
        split = Split(*([row for row in self.rows(name) if row not in reasons] for name in SPLITS))
        return replace(self, skipped=[*self.skipped, *skipped], split=split)

    def ids(self, split: str) -> list[str]:
        """Return the ids of the crystals in a split."""
        return [self.store.ids[row] for row in self.rows(split)]

    @property
    def elements(self) -> list[str]:
        """Symbols of the elements in the training split, lightest first."""
        return elements_in({self.store.formulas[row] for row in self.split.train})

    @cached_property
    def fingerprint(self) -> str:
        """Checksum of structures, targets and their names, splits, teacher and texts, compared on resuming a run."""
        digest = hashlib.sha256(f"{self.store.structures_sha256} {self.store.target_names!r}\n".encode())
        for split in SPLITS:
            rows = self.rows(split)
            digest.update("\n".join([split, *self.ids(split), ""]).encode())
            digest.update(self.store.targets[rows].tobytes() + self.store.n_edges[rows].tobytes())
        if self.teacher_features is not None:
            digest.update(self.teacher_features.source.encode())
        if self.texts is not None:
            digest.update(f"{self.texts.settings.model_dump_json()} {self.texts.checksum}".encode())
        if self.potential_features is not None:
            digest.update(self.potential_features.source.encode())
        return digest.hexdigest()


def split_sha256(store: Store, split: Split) -> str:
    """Return the checksum of the ids and compositions of the crystals in a split, by which they are known again.

    Coordinates are not part of it: their last digits differ between processors.
    """
    rows = (*split.train, *split.val, *split.test)
    crystals = [(store.ids[row], store.formulas[row], int(store.n_atoms[row])) for row in rows]
    return hashlib.sha256(repr(crystals).encode()).hexdigest()


@dataclass(frozen=True)
class TrainingData(RunData):
    """Crystals of a run with target values, and the scaler for these.

    Args:
        scaler: Target scaler, fitted to the training split.
        units: Unit of each target, None where unknown.
    """

    scaler: TargetScaler
    units: tuple[str | None, ...]

    def targets(self, split: str) -> np.ndarray:
        """Return the targets of a split in the units of the input, ``[n, n_targets]``."""
        return self.store.targets[self.rows(split)]
