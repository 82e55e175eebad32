"""Atom embeddings of a run's teacher for every crystal that its student is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.store import Store
from crysmm.errors import InputError, MissingDependencyError, count
from crysmm.inference.model_folder import read_description
from crysmm.inference.model_teacher import ModelTeacher, any_teacher, installed_teacher, is_installed
from crysmm.processes import Processes
from crysmm.runs.data import RunData
from crysmm.runs.run_folder import SPLITS
from crysmm.teachers.feature_file import features_from_file
from crysmm.teachers.features import Directions, TeacherFeatures, compute_features
from crysmm.teachers.names import is_file, is_model
from crysmm.teachers.registry import TeacherIdentity
from crysmm.teachers.teacher import TeacherByName
from crysmm.zoo import resolve, shipped_names

AnyData = TypeVar("AnyData", bound=RunData)


def embed_by_teacher(config: RunConfig, data: AnyData, processes: Processes) -> AnyData:
    """Embed the training and validation crystals with the teacher of the run, if there is one.

    A model reads the same structures as the kind of graphs it was trained on, a potential as its own package does.

    Args:
        config: Settings of the run.
        data: Crystals of the student.
        processes: Processes of the run.

    Returns:
        The data with the embeddings, without the crystals that the teacher cannot embed.

    Raises:
        ModelFolderError: The teacher cannot be read.
        InputError: A crystal that must not be left out cannot be embedded, or a file of features does not fit.
        MissingDependencyError: The package of a potential is not installed.
    """
    name, rows = config.teacher, [*data.split.train, *data.split.val]
    if name is None:
        return data

    def build() -> AnyData:
        features, failed = read_features(name, data.store, rows, config, processes.device)
        kept = _leave_out(data, failed, config, name)
        statistics = () if features.of_model else features.statistics(kept.split.train)
        return replace(kept, teacher_features=Directions(features, *statistics))

    return processes.first_before_others(build)


def embed_by_potential(config: TrainingConfig, data: AnyData, processes: Processes) -> AnyData:
    """Read the features that the head fuses with the graphs or reads alone, if it reads any.

    Args:
        config: Settings of the run.
        data: Crystals of the run.
        processes: Processes of the run.

    Returns:
        The data with the features, without the crystals that the potential cannot embed.

    Raises:
        InputError: A crystal that must not be left out cannot be embedded; or a file of features does not fit, or is by
            a model that no other machine has or by other weights than the installed ones, so that none could be
            computed for structures to predict.
        MissingDependencyError: The package of the potential is not installed.
    """
    name = config.potential
    if name is None:
        return data
    rows = [*data.split.train, *data.split.val, *data.split.test]

    def build() -> AnyData:
        features, failed = read_features(name, data.store, rows, config, processes.device)
        _refuse_unusable(name, features.teacher)
        return replace(_leave_out(data, failed, config, name), potential_features=features)

    return processes.first_before_others(build)


def _leave_out(data: AnyData, failed: Mapping[int, str], config: RunConfig, teacher: str) -> AnyData:
    """Leave crystals that a teacher cannot embed out of a run, which skips them.

    Raises:
        InputError: The run is strict, its file of ids names them, or nothing would be left of a split.
    """
    if not failed:
        return data
    kept = data.without(failed)
    is_emptied = any(data.rows(split) and not kept.rows(split) for split in SPLITS)
    if config.strict or config.ids_file is not None or is_emptied:
        row, reason = next(iter(failed.items()))
        more = f" and {count(len(failed) - 1, 'other')}" if len(failed) > 1 else ""
        where = data.store.files[row]
        raise InputError(
            f"the teacher {teacher} cannot embed {where}{more}: {reason}; leave it out of the input, or take another "
            "teacher"
        )
    return kept


def _refuse_unusable(name: str, teacher: TeacherIdentity | None) -> None:
    """Refuse features that could not be computed for structures to predict.

    Args:
        name: Name of a potential or a model, or file.
        teacher: Teacher that the features are by, if it is known.
    """
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


def _is_the_installed(teacher: TeacherIdentity) -> bool:
    """Return whether the teacher of this name has the same weights here, or cannot be loaded to compare them."""
    try:
        return teacher == TeacherIdentity.of(installed_teacher(teacher.name))
    except MissingDependencyError:  # predictions are made where it is installed
        return True


def read_features(
    name: str, store: Store, rows: Sequence[int], config: RunConfig, device: torch.device
) -> tuple[TeacherFeatures, dict[int, str]]:
    """Read the features of crystals from a file, or compute those by a teacher that the cache lacks.

    Args:
        name: Name of the teacher, folder or name of a model, or file of ``crysmm embed``.
        store: Store with the crystals.
        rows: Rows of the crystals.
        config: Settings of the run.
        device: Device of the teacher.

    Returns:
        The features, and why the others have none, by row.

    Raises:
        InputError: The file does not fit the structures.
        MissingDependencyError: The package of the teacher is not installed.
    """
    if is_file(name):
        return features_from_file(Path(name), store, rows, cache_dir=config.cache_dir), {}
    load: TeacherByName = any_teacher
    jobs = config.jobs
    if is_model(name) and read_description(resolve(name)).graph == store.settings:
        load, jobs = partial(ModelTeacher, graphs=store), 1  # graphs are most of the work of small models
    return compute_features(
        store, rows, name, load, device=device, jobs=jobs, cache_dir=config.cache_dir, progress=config.progress
    )
