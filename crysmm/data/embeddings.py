"""A teacher's embeddings of every atom of a store: computed once, kept on disk, memory-mapped.

They lie in the cache, under a name that follows from the teacher's weights, the structures and the settings of the
graphs, so that embeddings of something else cannot be taken for them, and every property of one file finds the same.
Crystals stand in parts, one file each; what a stopped computation has written of them is not computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from crysmm.config.models import ModelConfig
from crysmm.data.estimate import (
    BATCH_MEMORY,
    PREDICTION_SHARE,
    PROCESS_MEMORY,
    activations,
    in_bytes,
    memory_limit,
)
from crysmm.data.loader import batch_ends
from crysmm.data.store import FORMAT_VERSION as STORE_VERSION
from crysmm.data.store import Store, cache_folder
from crysmm.errors import InputError
from crysmm.files import replacing
from crysmm.models.layers import precise
from crysmm.terminal import disables_bar

if TYPE_CHECKING:
    from crysmm.models.base import Backbone

FORMAT_VERSION = 1  # part of every folder's name: raise it when what is written changes
CRYSTALS_A_PART = 8192
BATCH_SIZE = 256
LENGTH_TOLERANCE = 1e-3  # of the squared length of an embedding


class AtomEmbeddings:
    """Embeddings of the atoms of a store's crystals, each of length 1; read-only, and cheap to send to a process.

    Args:
        folder: holds one array ``[n_atoms_in_part, width]`` float32 a part.
        n_atoms: ``[n_crystals]`` of the store they were computed on.
        width: length of an embedding.
        rows: ``[n_rows]``, the crystal of that store each row asked for stands for, -1 for none; by default itself.
    """

    def __init__(self, folder: Path, n_atoms: np.ndarray, width: int, rows: np.ndarray | None = None):
        self.folder = folder
        self.width = width
        self._n_atoms = n_atoms
        self._first_atom = np.cumsum(n_atoms) - n_atoms
        self._rows = np.arange(len(n_atoms)) if rows is None else rows
        self._parts: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parts": {}}  # another process maps the files itself

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Embeddings of all atoms of some crystals, ``[n_atoms_in_all, width]``, crystal by crystal."""
        crystals = self._rows[np.asarray(rows, dtype=np.int64)]
        n_atoms = self._n_atoms[crystals]
        shift = self._first_atom[crystals] - (np.cumsum(n_atoms) - n_atoms)
        atoms = np.arange(n_atoms.sum()) + np.repeat(shift, n_atoms)
        parts = np.repeat(crystals // CRYSTALS_A_PART, n_atoms)
        embeddings = np.empty((len(atoms), self.width), dtype=np.float32)
        for part in np.unique(parts):
            chosen = parts == part
            embeddings[chosen] = self._part(int(part))[atoms[chosen] - self._first_atom[part * CRYSTALS_A_PART]]
        return embeddings

    def _part(self, number: int) -> np.ndarray:
        if number not in self._parts:
            self._parts[number] = np.load(_part_path(self.folder, number), mmap_mode="r")
        return self._parts[number]

    def matched(self, teacher_store: Store, store: Store, rows: Sequence[int]) -> AtomEmbeddings:
        """The same embeddings, to be taken by the rows of another store of the same structures.

        Args:
            teacher_store: the one they were computed on.
            store: the other, which may have other graphs and lack other rows.
            rows: those that will be asked for.

        Raises:
            InputError: one of them is not in the teacher's store.
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


def build_embeddings(
    store: Store,
    backbone: Backbone,
    model: ModelConfig,
    weights_sha256: str,
    *,
    cache_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> AtomEmbeddings:
    """The embeddings of a store's atoms after a backbone's last message-passing layer, divided by their lengths.

    They are those in the cache where it has them. The backbone computes in evaluation mode and 32 bits, without
    gradients; it is left as it is.

    Args:
        store: with the graphs the backbone was trained on.
        backbone: the teacher.
        model: its settings.
        weights_sha256: checksum of its weights.
        cache_dir: see :func:`~crysmm.data.store.cache_folder`.
        device: where to compute.
        progress: show a bar.

    Raises:
        InputError: a crystal is too large for the device's memory.
    """
    graphs = f"{STORE_VERSION} {store.settings.model_dump_json()} {store.structures_sha256}"
    key = f"{FORMAT_VERSION} {CRYSTALS_A_PART} {weights_sha256} {model.model_dump_json()} {graphs}"
    folder = cache_folder(cache_dir) / "embeddings" / hashlib.sha256(key.encode()).hexdigest()[:32]
    width, n_atoms = backbone.node_features, store.n_atoms
    parts = np.split(np.arange(len(store)), range(CRYSTALS_A_PART, len(store), CRYSTALS_A_PART))
    missing = {
        number: rows
        for number, rows in enumerate(parts)
        if not _is_whole(_part_path(folder, number), (int(n_atoms[rows].sum()), width))
    }
    if missing:
        device = torch.device(device)
        merge = backbone.engine == "blocked" and model.merges_alike  # DGL knows nothing of rows that stand for several
        memory = PREDICTION_SHARE * activations(model, *store.sizes(merge=merge))
        _check_sizes(store, memory + PROCESS_MEMORY, memory_limit(device))
        teacher = deepcopy(backbone).to(device=device, dtype=torch.float32).eval()
        n_missing = sum(map(len, missing.values()))
        bar = tqdm(
            desc="embedding by the teacher", initial=len(store) - n_missing, total=len(store), unit=" crystals",
            disable=disables_bar(progress), delay=1,
        )  # fmt: skip
        with bar:
            for number, rows in missing.items():
                batches = np.split(rows, batch_ends(memory[rows], BATCH_SIZE, BATCH_MEMORY)[:-1])
                embeddings = np.concatenate(list(_embed(store, teacher, batches, merge, device, bar)))
                with replacing(_part_path(folder, number)) as temporary, temporary.open("wb") as file:
                    np.save(file, embeddings)
    return AtomEmbeddings(folder, n_atoms, width)


def _embed(
    store: Store, teacher: Backbone, batches: list[np.ndarray], merge: bool, device: torch.device, bar: tqdm[Any]
) -> Iterator[np.ndarray]:
    """``[n_atoms_in_batch, width]`` of the crystals of a part, batch by batch."""
    for batch in batches:
        with torch.inference_mode():
            nodes = precise(teacher(store.batch(batch.tolist(), merge=merge).to(device)).nodes)
            yield functional.normalize(nodes, dim=1).cpu().numpy()
        bar.update(len(batch))


def _check_sizes(store: Store, memory: np.ndarray, limit: int) -> None:
    largest = int(memory.argmax())
    if memory[largest] > limit:
        raise InputError(
            f"{store.files[largest]} is too large for the teacher: its {store.n_atoms[largest]} atoms need about "
            f"{in_bytes(memory[largest])} of memory, there are {in_bytes(limit)}; leave it out of the input"
        )


def _part_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.npy"


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Whether a file holds so many rows of length 1, or 0; bytes that a disk has damaged make others."""
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    if rows.shape != shape:
        return False
    squares = np.einsum("ij,ij->i", rows, rows)
    return bool((np.minimum(squares, np.abs(squares - 1)) < LENGTH_TOLERANCE).all())
