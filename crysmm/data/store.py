"""Store of crystals and their edges on disk, memory-mapped and read in any order.

Training on a million crystals takes little more memory than on a thousand: apart from ids, targets and counts, the
arrays stay in an Arrow file whose mapped pages the kernel drops under memory pressure. The store holds edges but no
line graphs, which are built per batch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import CrystalArrays, CrystalBatch, make_batch
from crysmm.data.building import SPACE_GROUP, in_parallel, write_arrow
from crysmm.errors import InputError
from crysmm.files import LOCK, cache_folder, naming, refuse_unwritable, working_folder
from crysmm.io.source import ReadingNote, SkippedRow, Source, StrictError, UnlabeledRow
from crysmm.progress import progress_bar

if TYPE_CHECKING:
    import datasets
    import pyarrow

CRYSTALS_READ = 1024  # at once, where all are gone through
FORMAT_VERSION = 6  # part of every fingerprint: raise it when graphs or columns change
ARROW_FILE, FACTS_FILE = "crystals.arrow", "store.json"


class Store:
    """Crystals with their edges and targets; read-only, and cheap to pickle.

    Args:
        path: Folder written by :func:`build_store`.

    Attributes:
        path: Folder of the store.
        settings: Graph settings.
        target_names: Names of the targets, ``[n_targets]``.
        skipped: Input rows that could not be used.
        unlabeled: Input rows without any of the targets, which are left out.
        notes: Notes on how crystals were read.
        n_crystals: Number of crystals that were written.
        n_formulas: Number of crystals whose file gives a chemical formula, with which the atoms agree.
    """

    def __init__(self, path: Path):
        self.path = path
        facts = json.loads((path / FACTS_FILE).read_text(encoding="utf-8"))
        self.settings = GraphSettings(**facts["settings"])
        self.target_names: tuple[str, ...] = tuple(facts["target_names"])
        self.skipped = [SkippedRow(**row) for row in facts["skipped"]]
        self.unlabeled = [UnlabeledRow(**row) for row in facts["unlabeled"]]
        self.notes = [ReadingNote(**note) for note in facts["notes"]]
        self.n_crystals: int = facts["n_crystals"]
        self.n_formulas: int = facts["n_formulas"]

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return Store, (self.path,)

    @cached_property
    def _table(self) -> datasets.Dataset:
        from datasets import Dataset

        return Dataset.from_file(str(self.path / ARROW_FILE)).with_format("arrow")

    def _column(self, name: str) -> pyarrow.ChunkedArray:
        return self._table.data.column(name)

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def ids(self) -> list[str]:
        """Ids as in the input, ``[n_crystals]``."""
        return self._column("id").to_pylist()

    @cached_property
    def files(self) -> list[str]:
        """File that each crystal was read from."""
        return self._column("file").to_pylist()

    @cached_property
    def formulas(self) -> list[str]:
        """Reduced formula of each crystal."""
        return self._column("formula").to_pylist()

    @cached_property
    def targets(self) -> np.ndarray:
        """Targets in the units of the input, NaN where missing, ``[n_crystals, n_targets]`` float64."""
        return _flat(self._table.data, "targets").reshape(len(self), len(self.target_names))

    def gaps(self) -> list[str]:
        """Return a line for each target that input rows lack, and one on rows that lack all of several."""
        missing = np.isnan(self.targets).sum(axis=0) + len(self.unlabeled)
        n_rows = len(self) + len(self.skipped) + len(self.unlabeled)
        named = zip(self.target_names, missing.tolist(), strict=True)
        lines = [f"{n_missing:,} of {n_rows:,} rows have no {name}" for name, n_missing in named if n_missing]
        if len(self.target_names) > 1 and self.unlabeled:
            lines.append(f"{len(self.unlabeled):,} of {n_rows:,} rows have none of the properties and are left out")
        return lines

    @cached_property
    def n_atoms(self) -> np.ndarray:
        """Atoms per crystal, ``[n_crystals]`` int64."""
        return self._column("n_atoms").to_numpy().astype(np.int64)

    @cached_property
    def n_edges(self) -> np.ndarray:
        """Edges per crystal, ``[n_crystals]`` int64."""
        return self._column("n_edges").to_numpy().astype(np.int64)

    @cached_property
    def n_triplets(self) -> np.ndarray:
        """Edges of the complete line graph per crystal, ``[n_crystals]`` int64."""
        return self._column("n_triplets").to_numpy().astype(np.int64)

    def sizes(self, *, merge: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of edges and triplets that a network computes per crystal, ``[n_crystals]`` int64 each.

        Args:
            merge: True if equivalent atoms are computed once.
        """
        if not merge:
            return self.n_edges, self.n_triplets
        edges, triplets = self._column("n_merged_edges"), self._column("n_merged_triplets")
        return edges.to_numpy().astype(np.int64), triplets.to_numpy().astype(np.int64)

    @cached_property
    def space_groups(self) -> np.ndarray | None:
        """Space group numbers, ``[n_crystals]`` int64, 0 if not found; None for a store built without ``symprec``."""
        if SPACE_GROUP not in self._table.column_names:
            return None
        return self._column(SPACE_GROUP).to_numpy().astype(np.int64)

    @cached_property
    def elements(self) -> list[int]:
        """Atomic numbers in the store, ascending."""
        import pyarrow.compute

        return sorted(pyarrow.compute.list_flatten(self._column("atomic_numbers")).unique().to_pylist())

    @cached_property
    def structures_sha256(self) -> str:
        """Checksum of the size, lattice, positions and elements of each crystal."""
        digest = hashlib.sha256(self.n_atoms.tobytes())
        for name in ("lattice", "frac_coords", "atomic_numbers"):
            for chunk in self._column(name).chunks:
                digest.update(np.ascontiguousarray(chunk.flatten().to_numpy(zero_copy_only=False)).data)
        return digest.hexdigest()

    def crystal(self, index: int) -> Crystal:
        """Return one structure."""
        return self.crystals([index])[0]

    def crystals(self, indices: Sequence[int]) -> list[Crystal]:
        """Return several structures, read together."""
        table = self._table[list(indices)]
        ends = np.cumsum(table.column("n_atoms").to_numpy())[:-1]
        coords = np.split(_flat(table, "frac_coords").reshape(-1, 3), ends)
        numbers = np.split(_flat(table, "atomic_numbers"), ends)
        return [Crystal(*one) for one in zip(_flat(table, "lattice").reshape(-1, 3, 3), coords, numbers, strict=True)]

    def iter_crystals(self, indices: Sequence[int]) -> Iterator[Crystal]:
        """Yield any number of structures, some of which are read together."""
        for start in range(0, len(indices), CRYSTALS_READ):
            yield from self.crystals(indices[start : start + CRYSTALS_READ])

    @cached_property
    def checksums(self) -> list[str]:
        """Checksum of each structure, ``[n_crystals]``."""
        return [crystal.checksum for crystal in self.iter_crystals(range(len(self)))]

    def batch(self, indices: Sequence[int], *, merge: bool = False) -> CrystalBatch:
        """Read crystals, with their targets and space groups, as a batch; see :func:`make_batch`."""
        table = self._table[list(indices)]
        arrays = CrystalArrays(
            n_atoms=table.column("n_atoms").to_numpy(),
            n_edges=table.column("n_edges").to_numpy(),
            atomic_numbers=_flat(table, "atomic_numbers"),
            frac_coords=_flat(table, "frac_coords").reshape(-1, 3),
            lattice=_flat(table, "lattice").reshape(-1, 3, 3),
            in_degree=_flat(table, "in_degree"),
            source=_flat(table, "source"),
            image=_flat(table, "image").reshape(-1, 3),
            representative=_flat(table, "representative"),
            edge_class=_flat(table, "edge_class"),
        )
        targets = None
        if self.target_names:
            targets = _flat(table, "targets").reshape(len(indices), len(self.target_names))
        batch = make_batch(arrays, self.settings, table.column("id").to_pylist(), targets, merge=merge)
        if SPACE_GROUP not in table.column_names:
            return batch
        space_groups = torch.from_numpy(table.column(SPACE_GROUP).to_numpy().astype(np.int64))
        return replace(batch, space_groups=space_groups)


def _flat(table: pyarrow.Table, name: str) -> np.ndarray:
    """Return the concatenated values of a column of lists."""
    return table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)


def build_store(
    source: Source,
    settings: GraphSettings,
    *,
    symprec: float | None = None,
    cache_dir: str | Path | None = None,
    jobs: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Store:
    """Open the store of an input from the cache, or build it there.

    Args:
        source: Input to read.
        settings: Graph settings.
        symprec: Tolerance for determining space groups, Angstrom; None to skip them.
        cache_dir: Cache folder; see :func:`cache_folder`.
        jobs: Number of worker processes; by default one per core, or none for few rows.
        strict: True to stop at the first row that cannot be used.
        progress: True to show a progress bar.

    Raises:
        InputError: No row can be used, or one cannot and ``strict`` is set.
    """
    key = f"{FORMAT_VERSION} {settings.model_dump_json(exclude_none=True)} {source.fingerprint()}"
    if symprec is not None:
        key += f" {symprec!r}"
    cache = cache_folder(cache_dir)
    path = cache / "stores" / hashlib.sha256(key.encode()).hexdigest()[:32]
    store = _open_complete(path)
    if store is not None:
        if strict and store.skipped:
            raise StrictError(store.skipped[0])
        return store
    refuse_unwritable(cache, "cache_dir")
    with naming(path), working_folder(path) as building:
        rows: Iterable[Any] = in_parallel(source, settings, jobs, symprec)
        rows = progress_bar("reading structures", source.n_rows, "crystals", rows, shown=progress)
        summary = write_arrow(rows, building / ARROW_FILE, strict, symprec is not None)
        if not summary.n_crystals:
            first = [*summary.skipped, *summary.unlabeled][:3]
            reasons = "".join(f"\n  {row.file or row.id}: {row.reason}" for row in first)
            raise InputError(f"nothing in the input can be used:{reasons or ' it has no rows'}")
        facts = {
            "settings": settings.model_dump(exclude_none=True),
            "target_names": source.target_names,
            **asdict(summary),
        }
        (building / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")
        try:
            building.rename(path)
            (path / LOCK).unlink()
        except OSError:  # another process may have been faster
            if not (path / FACTS_FILE).is_file():
                raise
    return Store(path)


def _open_complete(path: Path) -> Store | None:
    """Open the store at ``path`` if it is complete; remove a damaged one, so it is built again."""
    if not path.exists():
        return None
    try:
        store = Store(path)
        if len(store) == store.n_crystals:
            return store
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shutil.rmtree(path)
    return None
