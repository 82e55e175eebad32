"""Own models as teachers: the backbone of a model folder, beside the teachers that have a name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from crysmm.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.engines.linear import precise
from crysmm.inference.files import require_needed
from crysmm.inference.model_folder import Description, read_description
from crysmm.inference.saved_models import load_encoder
from crysmm.teachers.names import is_model, is_teacher
from crysmm.teachers.registry import load_teacher
from crysmm.teachers.teacher import Teacher
from crysmm.zoo import resolve


class ModelTeacher:
    """Backbone of a model folder as a :class:`~crysmm.teachers.teacher.Teacher`.

    Its features are the atom embeddings after the last message-passing layer.

    Args:
        folder: Folder of an encoder or of a model that predicts properties, or the name of a shipped model.
        device: Device to compute on.

    Raises:
        ModelFolderError: The folder cannot be read.
    """

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu"):
        encoder = load_encoder(folder)
        self._backbone = encoder.backbone.to(device)
        self._settings = encoder.settings
        self._device = torch.device(device)
        self.name = str(Path(folder).absolute() if Path(folder).exists() else folder)
        self.width = encoder.backbone.node_features
        self.checksum = encoder.weights_sha256

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Return the embeddings of all atoms, ``[n_atoms_in_all, width]``.

        Raises:
            StructureError: A crystal has no graph by the settings of the model.
        """
        batch = collate_crystals(crystals, self._settings).to(self._device)
        with torch.inference_mode():
            return precise(self._backbone(batch).nodes).cpu().numpy()


def any_teacher(name: str, device: torch.device | str = "cpu") -> Teacher:
    """Load a teacher by its name or, if no teacher has this name, a model by its folder or shipped name.

    Raises:
        ModelFolderError: It is neither.
        MissingDependencyError: The package of the teacher is not installed.
    """
    return load_teacher(name, device) if is_teacher(name) else ModelTeacher(name, device)


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
