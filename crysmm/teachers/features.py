"""Features of atoms by a teacher: computed once for each structure, kept in the cache, and memory-mapped.

The cache has a folder for each teacher, named by its checksum and its layers, whose :mod:`parts <crysmm.array_cache>`
hold the features of a crystal under the checksum of its structure, in float16.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from crysmm.array_cache import PartReader, Place, folder_of_parts, read_parts, write_part
from crysmm.cluster import map_on_cluster
from crysmm.crystals.crystal import Crystal
from crysmm.data.building import map_tasks
from crysmm.data.loader import batch_ends
from crysmm.data.store import CRYSTALS_READ, Store
from crysmm.device import resolve_device
from crysmm.errors import CrysmmError, InputError, brief
from crysmm.progress import progress_bar
from crysmm.teachers.names import is_model
from crysmm.teachers.registry import TeacherIdentity, load_teacher
from crysmm.teachers.teacher import Teacher, TeacherByName

FOLDER, DTYPE = "teachers", "F16"  # of the parts in the cache
ATOMS_PER_BATCH = 256  # embedded together; SevenNet needs about 1 MB for each
ATOMS_PER_PART = 2048  # at most minutes of work
ATOMS_WITHOUT_WORKERS = 1024  # embedding so many takes about as long as starting workers


class Embedded(NamedTuple):
    """Result of a batch: its number of atoms, and by key the features of each crystal or why it has none."""

    n_atoms: int
    features: dict[bytes, np.ndarray]
    reasons: dict[bytes, str]


class TeacherFeatures:
    """Features of the atoms of a store's crystals; read-only, memory-mapped, and cheap to pickle.

    Args:
        source: Identifier of the teacher or file they come from.
        width: Number of features per atom.
        places: Place of each crystal's features by row of the store.
        teacher: Teacher that they are by; None if it is not known.
        of_model: True if the teacher is a model of this package.
    """

    def __init__(
        self,
        source: str,
        width: int,
        places: dict[int, Place],
        teacher: TeacherIdentity | None = None,
        *,
        of_model: bool = False,
    ):
        self.source = source
        self.width = width
        self.teacher = teacher
        self.of_model = of_model
        self._places = places
        self._reader = PartReader()

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the features of all atoms in some crystals, ``[n_atoms_in_all, width]`` float32."""
        pieces = self._reader.take(self._places[row] for row in np.asarray(rows).tolist())
        return np.concatenate([np.empty((0, self.width), dtype=np.float16), *pieces]).astype(np.float32)

    def crystal_means(self, rows: Sequence[int]) -> np.ndarray:
        """Return the means over the atoms of some crystals, ``[len(rows), width]`` float64."""
        means = [np.empty((0, self.width))]
        for start in range(0, len(rows), CRYSTALS_READ):
            some = rows[start : start + CRYSTALS_READ]
            n_atoms = np.array([self._places[row].n_rows for row in some])
            firsts = np.cumsum(n_atoms) - n_atoms
            sums = np.add.reduceat(self.take(some), firsts, dtype=np.float64)
            means.append(sums / n_atoms[:, None])
        return np.concatenate(means)

    def statistics(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each feature over the atoms of some crystals, ``[width]`` float32 each.

        The standard deviation of a feature that does not vary is 1.
        """
        n_atoms, total, squares = 0, np.zeros(self.width), np.zeros(self.width)
        for start in range(0, len(rows), CRYSTALS_READ):
            values = self.take(rows[start : start + CRYSTALS_READ]).astype(np.float64)
            n_atoms, total, squares = n_atoms + len(values), total + values.sum(0), squares + (values**2).sum(0)
        mean = total / n_atoms
        variance = squares / n_atoms - mean**2
        deviation = np.sqrt(np.where(variance > 1e-9 * (squares / n_atoms), variance, 1))
        return mean.astype(np.float32), deviation.astype(np.float32)


class Directions:
    """Features as a student imitates them: each standardized, then those of an atom divided by their length.

    Without standardization, what all atoms have in common would be most of the direction of a potential's features,
    and layers with large numbers would decide it. Embeddings by a model are taken as they are, as in CrysGNN.

    Args:
        features: Features of a store's atoms.
        mean: Mean of each feature, ``[width]``.
        deviation: Standard deviation of each feature, ``[width]``.
    """

    def __init__(self, features: TeacherFeatures, mean: np.ndarray | float = 0, deviation: np.ndarray | float = 1):
        self.width = features.width
        self.source = features.source
        self._features, self._mean, self._deviation = features, mean, deviation

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the directions of all atoms in some crystals, ``[n_atoms_in_all, width]``, of length 1 or 0."""
        standardized = (self._features.take(rows) - self._mean) / self._deviation
        length = np.linalg.norm(standardized, axis=1, keepdims=True)
        return standardized / np.where(length > 0, length, 1)


def compute_features(
    store: Store,
    rows: Sequence[int],
    name: str,
    load: TeacherByName = load_teacher,
    *,
    device: torch.device | str = "cpu",
    jobs: int | None = None,
    scheduler: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> tuple[TeacherFeatures, dict[int, str]]:
    """Compute the features of crystals that the cache lacks, and find the others there.

    The same batches are embedded by any number of processes, on a cluster, and when a stopped run is repeated, so that
    rounding does not depend on these.

    Args:
        store: Store with the crystals.
        rows: Rows of the crystals.
        name: Name of the teacher.
        load: Function that loads it by this name, also in other processes.
        device: Device to compute on, of this machine or of each worker of the cluster; ``auto`` is the first GPU if
            there is one.
        jobs: Number of processes on a CPU; by default one per core, or this process alone for few atoms.
        scheduler: Address of the scheduler of a Dask cluster, whose workers compute; they need the teacher. None to use
            this machine.
        cache_dir: Cache folder; see :func:`~crysmm.files.cache_folder`.
        progress: True to show a progress bar.

    Returns:
        The features, and for each crystal that cannot be embedded its row with the reason.

    Raises:
        InputError: There is no such teacher, or it does not return one row per atom; or the cluster does not answer or
            has other weights.
        CrysmmError: Workers of the cluster die.
        MissingDependencyError: Its package, or Dask, is not installed, here or on a worker.
    """
    on = torch.device("cpu") if scheduler is not None else resolve_device(str(device))
    teacher = load(name, on)
    identity = TeacherIdentity.of(teacher)
    folder = folder_of_parts(cache_dir, FOLDER, f"{teacher.name} {teacher.checksum}")
    keys = {row: bytes.fromhex(store.checksums[row]) for row in rows}
    known = read_parts(folder, teacher.width, DTYPE)
    missing = _missing_batches(store, {key: row for row, key in keys.items()}, known)
    total = sum(int(store.n_atoms[list(batch.values())].sum()) for batch in missing)
    batches = (dict(zip(batch, store.crystals(list(batch.values())), strict=True)) for batch in missing)
    elsewhere = partial(_embed_elsewhere, load, name, identity)
    if scheduler is not None:
        embedded: Iterable[Embedded] = map_on_cluster(scheduler, partial(elsewhere, str(device)), batches)
    elif on.type != "cpu" or jobs == 1 or total <= ATOMS_WITHOUT_WORKERS:
        embedded = map(partial(_embed, teacher), batches)
    else:
        embedded = map_tasks(partial(elsewhere, "cpu"), batches, jobs)
    part: dict[bytes, np.ndarray] = {}
    reasons: dict[bytes, str] = {}
    with progress_bar(f"embedding by {teacher.name}", total, "atoms", shown=progress) as bar:
        for n_atoms, features, why_not in embedded:
            part |= features
            reasons |= why_not
            bar.update(n_atoms)
            if sum(map(len, part.values())) >= ATOMS_PER_PART:
                known |= write_part(folder, part)
                part = {}
    known |= write_part(folder, part)
    places = {row: known[key] for row, key in keys.items() if key in known}
    failed = {row: reasons[key] for row, key in keys.items() if key in reasons}
    made = TeacherFeatures(identity.model_dump_json(), teacher.width, places, identity, of_model=is_model(name))
    return made, failed


def embed_each(teacher: Teacher, crystals: Sequence[Crystal]) -> list[np.ndarray | str]:
    """Embed crystals; return the features of each, ``[n_atoms, width]`` float16, or the reason why it has none.

    Raises:
        InputError: The teacher does not return one row per atom.
    """
    try:
        features = teacher.embed(crystals)
    except Exception as error:  # noqa: BLE001  # code of others may fail in any way on an unusual crystal
        if len(crystals) > 1:  # which of them it was
            return [result for crystal in crystals for result in embed_each(teacher, [crystal])]
        return [brief(error) if isinstance(error, CrysmmError) else f"{type(error).__name__}: {brief(error)}"]
    shape = (sum(map(len, crystals)), teacher.width)
    if features.shape != shape:
        raise InputError(
            f"the teacher {teacher.name} returned features of shape {features.shape}, expected {shape}; "
            "crysmm.testing.check_teacher checks a teacher"
        )
    with np.errstate(over="ignore"):
        features = features.astype(np.float16)
    parts = np.split(features, np.cumsum([len(crystal) for crystal in crystals])[:-1])
    return [
        part if np.isfinite(part).all() else "a feature is not finite, or not in the range of float16" for part in parts
    ]


def _missing_batches(store: Store, row_of: dict[bytes, int], known: Container[bytes]) -> list[dict[bytes, int]]:
    """Divide crystals into batches, and leave out those that are known.

    Args:
        store: Store with the crystals.
        row_of: Rows of the crystals by key.
        known: Keys of those that are known.
    """
    crystals = list(row_of.items())
    ends = batch_ends(store.n_atoms[[row for _, row in crystals]], len(crystals), ATOMS_PER_BATCH)
    batches = (crystals[start:end] for start, end in pairwise([0, *ends]))
    missing = ({key: row for key, row in batch if key not in known} for batch in batches)
    return [batch for batch in missing if batch]


def _embed(teacher: Teacher, crystals: dict[bytes, Crystal]) -> Embedded:
    """Embed a batch of crystals by key."""
    results = dict(zip(crystals, embed_each(teacher, list(crystals.values())), strict=True))
    features = {key: result for key, result in results.items() if not isinstance(result, str)}
    reasons = {key: result for key, result in results.items() if isinstance(result, str)}
    return Embedded(sum(map(len, crystals.values())), features, reasons)


def _embed_elsewhere(
    load: TeacherByName, name: str, identity: TeacherIdentity, device: str, crystals: dict[bytes, Crystal]
) -> Embedded:
    """Embed a batch of crystals by key in another process, maybe on another machine."""
    return _embed(_loaded(load, name, identity, device), crystals)


@lru_cache(maxsize=1)
def _loaded(load: TeacherByName, name: str, identity: TeacherIdentity, device: str) -> Teacher:
    """Load a teacher, and check it, once per process.

    Raises:
        InputError: There is no such teacher, or it is another one.
        MissingDependencyError: Its package is not installed.
    """
    try:
        teacher = load(name, resolve_device(device))
    except CrysmmError as error:
        raise type(error)(f"a worker cannot load the teacher {name}: {error}") from error
    found = TeacherIdentity.of(teacher)
    if found != identity:
        raise InputError(
            f"a worker has other weights of the teacher {name} ({found.checksum[:16]}, {found.width} "
            f"features) than this machine ({identity.checksum[:16]}, {identity.width}); install the same version of "
            "its package there, or copy this machine's model folder there"
        )
    return teacher
