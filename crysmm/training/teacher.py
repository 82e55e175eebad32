"""Atom embeddings of a run's teacher for every crystal that its student is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.atom_rows import AtomRows
from crysmm.data.store import Store
from crysmm.errors import InputError, MissingDependencyError
from crysmm.inference.model_folder import read_description
from crysmm.inference.model_teacher import ModelTeacher, any_teacher, installed_teacher, is_installed
from crysmm.processes import Processes
from crysmm.runs.data import RunData, TrainingData
from crysmm.teachers.features import Directions, TeacherFeatures, compute_features, refuse_failed
from crysmm.teachers.file import features_from_file
from crysmm.teachers.names import is_file, is_model
from crysmm.teachers.registry import TeacherIdentity
from crysmm.teachers.teacher import TeacherByName
from crysmm.zoo import resolve, shipped_names


def embed_by_teacher(config: RunConfig, data: RunData, processes: Processes) -> AtomRows | None:
    """Embed the training and validation crystals with the teacher of the run, if there is one.

    A model reads the same structures as the kind of graphs it was trained on, a potential as its own package does.

    Args:
        config: Settings of the run.
        data: Crystals of the student.
        processes: Processes of the run.

    Raises:
        ModelFolderError: The teacher cannot be read.
        InputError: The teacher cannot read a crystal of the student, or a file of features does not fit.
        MissingDependencyError: The package of a potential is not installed.
    """
    name, rows = config.teacher, [*data.split.train, *data.split.val]
    if name is None:
        return None

    def build() -> AtomRows:
        features = read_features(name, data.store, rows, config, processes.device)
        statistics = () if features.of_model else features.statistics(data.split.train)
        return Directions(features, *statistics)

    return processes.first_before_others(build)


def read_potential(config: TrainingConfig, data: TrainingData, processes: Processes) -> TeacherFeatures | None:
    """Read the features that the head fuses with the graphs or reads alone, or return None if it reads none.

    Args:
        config: Settings of the run.
        data: Crystals of the run.
        processes: Processes of the run.

    Raises:
        InputError: The potential cannot embed a crystal; or a file of features does not fit, or is by a model that no
            other machine has or by other weights than the installed ones, so that none could be computed for structures
            to predict.
        MissingDependencyError: The package of the potential is not installed.
    """
    name = config.potential
    if name is None:
        return None
    rows = [*data.split.train, *data.split.val, *data.split.test]
    features = processes.first_before_others(lambda: read_features(name, data.store, rows, config, processes.device))
    teacher = features.teacher
    is_shipped = teacher is not None and teacher.name in shipped_names()
    if teacher is None or not is_installed(teacher.name) or (is_model(name) and not is_shipped):
        raise InputError(
            f"--head.embeddings {name}: its features are by neither a registered teacher nor a shipped model, so that "
            "none could be computed for structures to predict; write the file by crysmm embed --model chgnet, or by "
            "another of these"
        )
    if (is_file(name) or is_model(name)) and not _is_the_installed(teacher):
        kind = "shipped" if is_shipped else "installed"
        what_to_do = "rename its folder, and name the shipped one" if is_model(name) else "write the file again"
        raise InputError(
            f"--head.embeddings {name}: its features are by another model than the {kind} {teacher.name}; {what_to_do}"
        )
    return features


def _is_the_installed(teacher: TeacherIdentity) -> bool:
    """Return whether the teacher of this name has the same weights here, or cannot be loaded to compare them."""
    try:
        return teacher == TeacherIdentity.of(installed_teacher(teacher.name))
    except MissingDependencyError:  # predictions are made where it is installed
        return True


def read_features(
    name: str, store: Store, rows: Sequence[int], config: RunConfig, device: torch.device
) -> TeacherFeatures:
    """Read the features of crystals from a file, or compute those by a teacher that the cache lacks.

    Args:
        name: Name of the teacher, folder or name of a model, or file of ``crysmm embed``.
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
    load: TeacherByName = any_teacher
    jobs = config.jobs
    if is_model(name) and read_description(resolve(name)).graph == store.settings:
        load, jobs = partial(ModelTeacher, graphs=store), 1  # graphs are most of the work of small models
    features, failed = compute_features(
        store, rows, name, load, device=device, jobs=jobs, cache_dir=config.cache_dir, progress=config.progress
    )
    refuse_failed(name, store, failed)
    return features
