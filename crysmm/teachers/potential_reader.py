"""Features of structures that are predicted: by the teacher that a model was trained with, and by no other."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from crysmm.crystals.crystal import Crystal
from crysmm.teachers.features import embed_each
from crysmm.teachers.registry import TeacherIdentity
from crysmm.teachers.teacher import Teacher, TeacherByName


class PotentialReader:
    """Embeds the atoms of structures as they were embedded for training.

    Args:
        identity: Teacher that the model was trained with.
        load: Function that loads it by its name.
        device: Device of the teacher.
    """

    def __init__(self, identity: TeacherIdentity, load: TeacherByName, device: torch.device | str = "cpu"):
        self.identity = identity
        self.load = load
        self.device = device

    @cached_property
    def teacher(self) -> Teacher:
        """Teacher, loaded and checked when the first structure is read."""
        return self.identity.load(self.load, self.device)

    def read(self, crystal: Crystal) -> np.ndarray | str:
        """Return the features of a crystal's atoms, ``[n_atoms, width]`` float32, or why it has none."""
        # One by one: rounding depends on the other crystals of a call, and predictions must not.
        (features,) = embed_each(self.teacher, [crystal])
        return f"{self.identity.name}: {features}" if isinstance(features, str) else features.astype(np.float32)
