"""What a run learns from: the store, the rows that are used, and their split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from crysmm.data.atom_embeddings import AtomEmbeddings
from crysmm.data.scaler import TargetScaler
from crysmm.data.split import Split
from crysmm.data.store import Store
from crysmm.elements import elements_in
from crysmm.io.source import SkippedRow
from crysmm.text.embeddings import Texts

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class RunData:
    """The crystals of a run.

    Args:
        store: every crystal that could be read.
        skipped: the rows that are not used, with the reasons.
        split: rows of the store.
        embeddings: a teacher's, of the atoms of the training and validation splits.
        texts: the crystals' descriptions as the network reads them.
    """

    store: Store
    skipped: list[SkippedRow]
    split: Split
    embeddings: AtomEmbeddings | None = field(default=None, kw_only=True)
    texts: Texts | None = field(default=None, kw_only=True)

    def rows(self, split: str) -> list[int]:
        """Rows of the store in ``train``, ``val`` or ``test``."""
        return {"train": self.split.train, "val": self.split.val, "test": self.split.test}[split]

    def ids(self, split: str) -> list[str]:
        """One a row."""
        return [self.store.ids[row] for row in self.rows(split)]

    @property
    def elements(self) -> list[str]:
        """Symbols of the elements in the training split, lightest first."""
        return elements_in({self.store.formulas[row] for row in self.split.train})

    @cached_property
    def fingerprint(self) -> str:
        """Tells whether a run that is resumed still learns from the same structures, splits, teacher and texts."""
        digest = hashlib.sha256(self.store.structures_sha256.encode())
        for split in SPLITS:
            rows = self.rows(split)
            digest.update("\n".join([split, *self.ids(split), ""]).encode())
            digest.update(self.store.targets[rows].tobytes() + self.store.n_edges[rows].tobytes())
        if self.embeddings is not None:
            digest.update(self.embeddings.folder.name.encode())
        if self.texts is not None:
            digest.update(f"{self.texts.settings.model_dump_json()} {self.texts.checksum}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class TrainingData(RunData):
    """The crystals of a run that learns properties.

    Args:
        scaler: fitted on the training split.
    """

    scaler: TargetScaler

    def targets(self, split: str) -> np.ndarray:
        """``[n, n_targets]``, the units of the input."""
        return self.store.targets[self.rows(split)]
