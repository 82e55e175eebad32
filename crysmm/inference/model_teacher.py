"""Own models as teachers: the backbone of a model folder, beside the teachers that have a name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.data.estimate import PREDICTION_FRACTION, memory_limit, why_too_large
from crysmm.data.store import Store
from crysmm.engines.linear import precise
from crysmm.errors import StructureError
from crysmm.inference.model_files import require_needed
from crysmm.inference.model_folder import Description, read_description
from crysmm.inference.saved_models import load_encoder
from crysmm.teachers.names import is_model, is_teacher
from crysmm.teachers.registry import load_teacher
from crysmm.teachers.teacher import Teacher
from crysmm.zoo import ZOO, resolve, shipped_names


class ModelTeacher:
    """Backbone of a model folder as a :class:`~crysmm.teachers.teacher.Teacher`.

    Its features are the atom embeddings after the last message-passing layer. Its checksum is that of its weights and
    settings.

    Args:
        folder: Folder of an encoder or of a model that predicts properties, or the name of a shipped model.
        device: Device to compute on.
        graphs: Store that has the crystals to be embedded, with graphs by the settings of the model; by default, graphs
            are built.

    Raises:
        ModelFolderError: The folder cannot be read.
    """

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu", graphs: Store | None = None):
        encoder = load_encoder(folder)
        self._backbone = encoder.backbone.to(device)
        self._model, self._settings = encoder.model, encoder.settings
        self._device = torch.device(device)
        self._graphs = graphs
        self.name = Path(folder).resolve().name
        self.width = encoder.backbone.node_features
        # Without defaults: a model folder keeps the checksum, and later versions may have more settings.
        settings = " ".join(part.model_dump_json(exclude_defaults=True) for part in (encoder.model, encoder.settings))
        self.checksum = hashlib.sha256(f"{encoder.weights_sha256} {settings}".encode()).hexdigest()

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """Row of each structure in the store; not needed where all features are known."""
        assert self._graphs is not None
        return {checksum: row for row, checksum in enumerate(self._graphs.checksums)}

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Return the embeddings of all atoms, ``[n_atoms_in_all, width]``.

        Raises:
            StructureError: A crystal has no graph by the settings of the model, or they are too large for the memory.
        """
        if self._graphs is None:
            batch = collate_crystals(crystals, self._settings)
        else:
            rows = [self._row_of[crystal.checksum] for crystal in crystals]
            batch = self._graphs.batch(rows, merge=self._model.merges_equivalent)
        sizes = sum(map(len, crystals)), len(batch.bond_vectors), batch.connectivity.n_triplets
        why = why_too_large(self._model, *sizes, memory_limit(self._device), PREDICTION_FRACTION)
        if why is not None:
            raise StructureError(why)
        with torch.inference_mode():
            return precise(self._backbone(batch.to(self._device)).nodes).cpu().numpy()


def any_teacher(name: str, device: torch.device | str = "cpu") -> Teacher:
    """Load a teacher by its name or, if no teacher has this name, a model by its folder or shipped name.

    Raises:
        ModelFolderError: It is neither.
        MissingDependencyError: The package of the teacher is not installed.
    """
    return load_teacher(name, device) if is_teacher(name) else ModelTeacher(name, device)


def is_installed(name: str) -> bool:
    """Return whether a teacher has the same name on all machines: a registered one, or a shipped model."""
    return is_teacher(name) or name in shipped_names()


def installed_teacher(name: str, device: torch.device | str = "cpu") -> Teacher:
    """Load a registered teacher or a shipped model by its name; folders are not looked at.

    Raises:
        InputError: There is none of this name.
        MissingDependencyError: The package of the teacher is not installed.
    """
    return ModelTeacher(ZOO / name, device) if name in shipped_names() else load_teacher(name, device)


def describe_needed(name: Path | str) -> Description | None:
    """Check, before anything is computed, that a run can use what it names, and describe it.

    Args:
        name: Folder or shipped name of a model, name of a teacher, or file of features.

    Returns:
        The description of a model; None for a teacher and for a file.

    Raises:
        MissingDependencyError: The package of the teacher is not installed.
        InputError: There is no such file.
        ModelFolderError: The folder of the model cannot be read.
    """
    require_needed(name)
    return read_description(resolve(name)) if is_model(name) else None
