"""Atom embeddings of a run's teacher for every crystal that its student is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from crysmm.config.models import ModelConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.atom_embeddings import CRYSTALS_A_PART, AtomEmbeddings, AtomRows, part_path, split_in_parts
from crysmm.data.estimate import BATCH_MEMORY, PREDICTION_SHARE, PROCESS_MEMORY, activations, in_bytes, memory_limit
from crysmm.data.loader import batch_ends
from crysmm.data.store import FORMAT_VERSION as STORE_VERSION
from crysmm.data.store import Store, build_store
from crysmm.engines.linear import precise
from crysmm.errors import InputError
from crysmm.files import cache_folder, disables_bar, replacing
from crysmm.inference.saved_models import load_encoder
from crysmm.io.inputs import open_input
from crysmm.models.backbone import Backbone
from crysmm.processes import Processes
from crysmm.runs.data import TrainingData
from crysmm.teachers.features import AtomFeatures, Directions, compute_features, refuse_failed
from crysmm.teachers.file import features_from_file
from crysmm.teachers.names import is_file, is_model, is_teacher

FORMAT_VERSION = 1  # part of every folder's name: raise it when what is written changes
BATCH_SIZE = 256
LENGTH_TOLERANCE = 1e-3  # of the squared length of an embedding


def embed_by_teacher(
    config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None, data: TrainingData, processes: Processes
) -> AtomRows | None:
    """Embed the training and validation crystals with the teacher in ``config.head``, if there is one.

    A model reads the same structures as the kind of graphs it was trained on, a potential as its own package does.

    Args:
        config: Settings of the run.
        records: Rows of the input in place of ``config.root_dir``.
        data: Crystals of the student.
        processes: Processes of the run.

    Raises:
        ModelFolderError: The teacher cannot be read.
        InputError: The teacher cannot read a crystal of the student, or a file of features does not fit.
        MissingDependencyError: The package of a potential is not installed.
    """
    head = config.distillation
    if head is None or head.teacher is None:
        return None
    name, rows = head.teacher, [*data.split.train, *data.split.val]

    def build() -> AtomRows:
        if not is_model(name):
            features = read_features(name, data.store, rows, config, processes.device)
            return Directions(features, *features.statistics(data.split.train))
        teacher = load_encoder(name)
        store = build_store(
            open_input(config, records),
            teacher.settings,
            cache_dir=config.cache_dir,
            jobs=config.jobs,
            progress=config.progress,
        )
        embeddings = build_embeddings(
            store,
            teacher.backbone,
            teacher.model,
            teacher.weights_sha256,
            cache_dir=config.cache_dir,
            device=processes.device,
            progress=config.progress,
        )
        return embeddings.matched(store, data.store, rows)

    return processes.first_before_others(build)


def read_potential(config: TrainingConfig, data: TrainingData, processes: Processes) -> AtomFeatures | None:
    """Read the features that a multimodal head fuses with the graphs, or return None if it fuses none.

    Args:
        config: Settings of the run.
        data: Crystals of the run.
        processes: Processes of the run.

    Raises:
        InputError: The potential cannot embed a crystal; or a file of features does not fit, or is not by a potential,
            which predictions need.
        MissingDependencyError: The package of the potential is not installed.
    """
    name = getattr(config.head, "embeddings", None)
    if name is None:
        return None
    rows = [*data.split.train, *data.split.val, *data.split.test]
    features = processes.first_before_others(lambda: read_features(name, data.store, rows, config, processes.device))
    if features.teacher is None or not is_teacher(features.teacher.name):
        raise InputError(
            f"--head.embeddings {name}: its features are not by a registered teacher, so that none could be computed "
            "for structures to predict; write the file by crysmm embed --model chgnet, or another potential"
        )
    return features


def read_features(
    name: str, store: Store, rows: Sequence[int], config: TrainingConfig, device: torch.device
) -> AtomFeatures:
    """Read the features of crystals from a file, or compute those by a teacher that the cache lacks.

    Args:
        name: Name of the teacher, or of a file of ``crysmm embed``.
        store: Store with the crystals.
        rows: Rows of the crystals.
        config: Settings of the run.
        device: Device of the teacher.

    Raises:
        InputError: The teacher cannot embed a crystal, or the file does not fit the structures.
        MissingDependencyError: The package of the teacher is not installed.
    """
    if is_file(name):
        return features_from_file(Path(name), store, rows, cache_dir=config.cache_dir)
    features, failed = compute_features(
        store, rows, name, device=device, jobs=config.jobs, cache_dir=config.cache_dir, progress=config.progress
    )
    refuse_failed(name, store, failed)
    return features


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
    """Embed the atoms of a store by a backbone's last message-passing layer, normalized to length 1.

    Embeddings in the cache are reused. A copy of the backbone computes in evaluation mode and 32 bits, without
    gradients.

    Args:
        store: Store with the kind of graphs the backbone was trained on.
        backbone: Backbone of the teacher.
        model: Settings of the backbone.
        weights_sha256: Checksum of its weights.
        cache_dir: Cache folder; see :func:`~crysmm.files.cache_folder`.
        device: Device to compute on.
        progress: True to show a progress bar.

    Raises:
        InputError: A crystal is too large for the memory of the device.
    """
    graphs = f"{STORE_VERSION} {store.settings.model_dump_json()} {store.structures_sha256}"
    key = f"{FORMAT_VERSION} {CRYSTALS_A_PART} {weights_sha256} {model.model_dump_json()} {graphs}"
    folder = cache_folder(cache_dir) / "embeddings" / hashlib.sha256(key.encode()).hexdigest()[:32]
    width, n_atoms = backbone.node_features, store.n_atoms
    parts = split_in_parts(len(store))
    missing = {
        number: rows
        for number, rows in enumerate(parts)
        if not _is_whole(part_path(folder, number), (int(n_atoms[rows].sum()), width))
    }
    if missing:
        device = torch.device(device)
        merge = backbone.engine == "blocked" and model.merges_equivalent  # DGL's graphs have no multiplicities
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
                with replacing(part_path(folder, number)) as temporary, temporary.open("wb") as file:
                    np.save(file, embeddings)
    return AtomEmbeddings(folder, n_atoms, width)


def _embed(
    store: Store, teacher: Backbone, batches: list[np.ndarray], merge: bool, device: torch.device, bar: tqdm[Any]
) -> Iterator[np.ndarray]:
    """Yield the embeddings of a part batch by batch, ``[n_atoms_in_batch, width]``."""
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


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Return True if a file holds an array of this shape whose rows have length 1 or 0, as undamaged bytes do."""
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    if rows.shape != shape:
        return False
    squares = np.einsum("ij,ij->i", rows, rows)
    return bool((np.minimum(squares, np.abs(squares - 1)) < LENGTH_TOLERANCE).all())
