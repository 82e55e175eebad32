"""Atom embeddings of a teacher for a store: computed once, kept on disk and memory-mapped.

Their folder in the cache is named by the teacher's weights, the structures and the graph settings, so they cannot be
confused with other embeddings, and runs on different properties of one file share them. Crystals are grouped into
parts, one file each; parts that an interrupted computation completed are not computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crysmm.data.store import Store
from crysmm.errors import InputError

CRYSTALS_A_PART = 8192


class AtomRows(Protocol):
    """Rows of numbers for the atoms of a store's crystals.

    Attributes:
        width: Number of columns.
        source: What they are from; identifies them.
    """

    width: int

    @property
    def source(self) -> str: ...  # noqa: D102

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows of all atoms in some crystals, ``[n_atoms_in_all, width]`` float32."""
        ...


class AtomEmbeddings:
    """Atom embeddings of a store's crystals, each of length 1; read-only, and cheap to pickle.

    Args:
        folder: Folder with one array per part, ``[n_atoms_in_part, width]`` float32.
        n_atoms: Atoms per crystal in the store they were computed for, ``[n_crystals]``.
        width: Width of an embedding.
        rows: Row in that store for each row that is requested, -1 for none, ``[n_rows]``; by default the same row.
    """

    def __init__(self, folder: Path, n_atoms: np.ndarray, width: int, rows: np.ndarray | None = None):
        self.folder = folder
        self.width = width
        self._n_atoms = n_atoms
        self._first_atom = np.cumsum(n_atoms) - n_atoms
        self._rows = np.arange(len(n_atoms)) if rows is None else rows
        self._parts: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parts": {}}  # each process maps the files itself

    @property
    def source(self) -> str:
        """Teacher, structures and graph settings that they are from."""
        return self.folder.name

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the embeddings of all atoms in some crystals, crystal by crystal, ``[n_atoms_in_all, width]``."""
        crystals = self._rows[np.asarray(rows, dtype=np.int64)]
        n_atoms = self._n_atoms[crystals]
        shift = self._first_atom[crystals] - (np.cumsum(n_atoms) - n_atoms)
        atoms = np.arange(n_atoms.sum()) + np.repeat(shift, n_atoms)
        parts = np.repeat(crystals // CRYSTALS_A_PART, n_atoms)
        embeddings = np.empty((len(atoms), self.width), dtype=np.float32)
        for part in np.unique(parts).tolist():
            chosen = parts == part
            if part not in self._parts:
                self._parts[part] = np.load(part_path(self.folder, part), mmap_mode="r")
            embeddings[chosen] = self._parts[part][atoms[chosen] - self._first_atom[part * CRYSTALS_A_PART]]
        return embeddings

    def matched(self, teacher_store: Store, store: Store, rows: Sequence[int]) -> AtomEmbeddings:
        """Return the embeddings indexed by the rows of another store of the same structures.

        Args:
            teacher_store: Store they were computed for.
            store: Other store, which may have other graphs and lack other rows.
            rows: Rows of the other store that will be requested.

        Raises:
            InputError: A requested crystal is not in the teacher's store.
        """
        row_of = {identifier: row for row, identifier in enumerate(teacher_store.ids)}
        matching = np.array([row_of.get(identifier, -1) for identifier in store.ids], dtype=np.int64)
        missing = [row for row in rows if matching[row] < 0]
        if missing:
            identifier = store.ids[missing[0]]
            reasons = [skipped.reason for skipped in teacher_store.skipped if skipped.id == identifier]
            why = f" ({reasons[0]})" if reasons else ""
            more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise InputError(
                f"the teacher's graphs lack {identifier}{more}{why}; leave it out of the input, or take another teacher"
            )
        return AtomEmbeddings(self.folder, self._n_atoms, self.width, matching)


def part_path(folder: Path, number: int) -> Path:
    """Return the path of one part of the embeddings."""
    return folder / f"part-{number:05d}.npy"


def split_in_parts(n_crystals: int) -> list[np.ndarray]:
    """Return the rows of the crystals in each part."""
    return np.split(np.arange(n_crystals), range(CRYSTALS_A_PART, n_crystals, CRYSTALS_A_PART))
