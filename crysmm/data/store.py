"""The store: crystals and their edges on disk, memory-mapped, read in any order by one columnar take.

Training on a million crystals takes little more memory than on a thousand: but for ids, targets and counts the
arrays lie in an Arrow file whose mapped pages the kernel drops when it needs them. It holds edges, never line
graphs: those follow from a batch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.data.batch import CrystalArrays, CrystalBatch, make_batch
from crysmm.data.building import SPACE_GROUP, in_parallel, write_arrow
from crysmm.errors import InputError
from crysmm.files import LOCK, disables_bar, naming, working_folder
from crysmm.io.source import ReadingNote, SkippedRow, Source

if TYPE_CHECKING:
    import datasets
    import pyarrow

FORMAT_VERSION = 4  # part of every fingerprint: raise it when graphs or columns change
ARROW_FILE, FACTS_FILE = "crystals.arrow", "store.json"


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Where stores are kept: ``cache_dir``, else ``crysmm`` in the user's cache folder."""
    if cache_dir is not None:
        return Path(cache_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crysmm"


class Sizes(NamedTuple):
    """``edges`` and ``triplets`` of some crystals, ``[n_crystals]`` int64 each."""

    edges: np.ndarray
    triplets: np.ndarray


class Store:
    """Crystals with their edges and targets; read-only, and cheap to send to another process.

    Args:
        path: the folder :func:`build_store` made.

    Attributes:
        path: the folder.
        settings: how the graphs were made.
        target_names: one a target.
        skipped: the rows of the input that could not be used.
        notes: on how crystals were read.
        n_formulas: crystals whose file gives a chemical formula, with which the atoms agree.
    """

    def __init__(self, path: Path):
        self.path = path
        facts = json.loads((path / FACTS_FILE).read_text(encoding="utf-8"))
        self.settings = GraphSettings(**facts["settings"])
        self.target_names: tuple[str, ...] = tuple(facts["target_names"])
        self.skipped = [SkippedRow(**row) for row in facts["skipped"]]
        self.notes = [ReadingNote(**note) for note in facts["notes"]]
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
        """One a crystal, as in the input."""
        return self._column("id").to_pylist()

    @cached_property
    def files(self) -> list[str]:
        """Where each crystal was read from."""
        return self._column("file").to_pylist()

    @cached_property
    def formulas(self) -> list[str]:
        """Reduced formula of each crystal."""
        return self._column("formula").to_pylist()

    @cached_property
    def targets(self) -> np.ndarray:
        """``[n_crystals, n_targets]`` float64 in the units of the input."""
        values = _values(self._column("targets").combine_chunks())
        return values.reshape(len(self), len(self.target_names))

    @cached_property
    def n_atoms(self) -> np.ndarray:
        """``[n_crystals]`` int64."""
        return self._column("n_atoms").to_numpy().astype(np.int64)

    @cached_property
    def n_edges(self) -> np.ndarray:
        """``[n_crystals]`` int64."""
        return self._column("n_edges").to_numpy().astype(np.int64)

    @cached_property
    def n_triplets(self) -> np.ndarray:
        """``[n_crystals]`` int64: edges of the complete line graph."""
        return self._column("n_triplets").to_numpy().astype(np.int64)

    def sizes(self, *, merge: bool) -> Sizes:
        """Edges and triplets of each crystal that a network computes; with ``merge``, of all that are alike one."""
        if not merge:
            return Sizes(self.n_edges, self.n_triplets)
        columns = (self._column(name).to_numpy() for name in ("n_merged_edges", "n_merged_triplets"))
        return Sizes(*(column.astype(np.int64) for column in columns))

    @cached_property
    def space_groups(self) -> np.ndarray | None:
        """``[n_crystals]`` int64, 1 to 230 or 0 where none was found; None in a store built without ``symprec``."""
        if SPACE_GROUP not in self._table.column_names:
            return None
        return self._column(SPACE_GROUP).to_numpy().astype(np.int64)

    @cached_property
    def elements(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        chunks = self._column("atomic_numbers").chunks
        return sorted({int(number) for chunk in chunks for number in np.unique(_values(chunk))})

    @cached_property
    def structures_sha256(self) -> str:
        """Names the structures: a checksum of every lattice, position and element."""
        digest = hashlib.sha256()
        for name in ("lattice", "frac_coords", "atomic_numbers"):
            for chunk in self._column(name).chunks:
                digest.update(np.ascontiguousarray(_values(chunk)).data)
        return digest.hexdigest()

    def crystal(self, index: int) -> Crystal:
        """One structure."""
        arrays = _arrays(self._table[[index]])
        return Crystal(arrays.lattice[0], arrays.frac_coords, arrays.atomic_numbers)

    def batch(self, indices: Sequence[int], *, merge: bool = False) -> CrystalBatch:
        """Some crystals, with their targets and space groups, as tensors; see :func:`make_batch`."""
        table = self._table[list(indices)]
        targets = _values(_joined(table, "targets")).reshape(len(indices), len(self.target_names))
        ids = table.column("id").to_pylist()
        batch = make_batch(_arrays(table), self.settings, ids, targets if self.target_names else None, merge=merge)
        if SPACE_GROUP not in table.column_names:
            return batch
        return replace(batch, space_groups=torch.from_numpy(_joined(table, SPACE_GROUP).to_numpy().astype(np.int64)))


def _joined(table: pyarrow.Table, name: str) -> pyarrow.Array:
    return table.column(name).combine_chunks()


def _values(lists: pyarrow.ListArray) -> np.ndarray:
    """The values of all lists, end to end."""
    return lists.flatten().to_numpy(zero_copy_only=False)


def _arrays(table: pyarrow.Table) -> CrystalArrays:
    flat = {
        name: _values(_joined(table, name))
        for name in (
            "atomic_numbers",
            "frac_coords",
            "lattice",
            "in_degree",
            "source",
            "image",
            "alike_atom",
            "edge_kind",
        )
    }
    return CrystalArrays(
        n_atoms=_joined(table, "n_atoms").to_numpy(),
        n_edges=_joined(table, "n_edges").to_numpy(),
        atomic_numbers=flat["atomic_numbers"],
        frac_coords=flat["frac_coords"].reshape(-1, 3),
        lattice=flat["lattice"].reshape(-1, 3, 3),
        in_degree=flat["in_degree"],
        source=flat["source"],
        image=flat["image"].reshape(-1, 3),
        alike_atom=flat["alike_atom"],
        edge_kind=flat["edge_kind"],
    )


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
    """The store of an input: opened where it is in the cache, else built there.

    Args:
        source: the input.
        settings: how a crystal becomes a graph.
        symprec: tolerance of the space groups to find, Angstrom; without one they are not looked for.
        cache_dir: see :func:`cache_folder`.
        jobs: worker processes, by default one a core, for few rows none.
        strict: stop at the first row that cannot be used.
        progress: show a bar.

    Raises:
        InputError: nothing in the input can be used, or ``strict`` and something cannot.
    """
    path = cache_folder(cache_dir) / "stores" / _key(source, settings, symprec)
    store = _kept(path)
    if store is not None:
        if strict and store.skipped:
            _refuse(store.skipped[:1], "strict stops at the first row it cannot use")
        return store
    with naming(path), working_folder(path) as building:
        rows: Iterable[Any] = in_parallel(source, settings, jobs, symprec)
        hidden = disables_bar(progress)
        rows = tqdm(rows, "reading structures", source.n_rows, unit=" crystals", disable=hidden, delay=1)
        summary = write_arrow(rows, building / ARROW_FILE, strict, symprec is not None)
        if not summary.n_crystals:
            _refuse(summary.skipped[:3], "nothing in the input can be used")
        facts = {
            "settings": settings.model_dump(exclude_none=True),
            "target_names": source.target_names,
            **asdict(summary),
        }
        (building / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")
        _publish(building, path)
    return Store(path)


def _kept(path: Path) -> Store | None:
    """The store under a path if it is whole; what is damaged is removed, to be built again."""
    if not path.exists():
        return None
    try:
        store = Store(path)
        if len(store) == json.loads((path / FACTS_FILE).read_text(encoding="utf-8"))["n_crystals"]:
            return store
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shutil.rmtree(path)
    return None


def _key(source: Source, settings: GraphSettings, symprec: float | None) -> str:
    text = f"{FORMAT_VERSION} {settings.model_dump_json(exclude_none=True)} {source.fingerprint()}"
    if symprec is not None:
        text += f" {symprec!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _refuse(rows: list[SkippedRow], why: str) -> None:
    reasons = "".join(f"\n  {row.file or row.id}: {row.reason}" for row in rows)
    raise InputError(f"{why}:{reasons}" if rows else f"{why}: it has no rows")


def _publish(building: Path, path: Path) -> None:
    """Give a finished store its name; another process may have been faster."""
    try:
        building.rename(path)
        (path / LOCK).unlink()
    except OSError:
        if not (path / FACTS_FILE).is_file():
            raise
