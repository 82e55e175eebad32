"""Teachers by name: those built in, and those that installed packages register.

A package registers a teacher by an entry point of the group ``crysmm.teachers``, a function from the requested layers
and a device (see :data:`~crysmm.teachers.teacher.TeacherLoader`) or a class with such a constructor. A name is looked
up in these two places alone, and only the package of the teacher that the user names is imported.
"""

from __future__ import annotations

from functools import partial
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field

from crysmm.errors import InputError, MissingDependencyError, brief
from crysmm.teachers import chgnet, sevennet
from crysmm.teachers.chgnet import CHGNetTeacher
from crysmm.teachers.names import NAME, registered
from crysmm.teachers.sevennet import SevenNetTeacher
from crysmm.teachers.teacher import Teacher, TeacherByName, TeacherLoader

LOADERS: dict[str, TeacherLoader] = {
    **{name: partial(CHGNetTeacher, name) for name in chgnet.WEIGHTS},
    **{name: partial(SevenNetTeacher, name) for name in sevennet.WEIGHTS},
}


class TeacherIdentity(BaseModel):
    """Name, checksum and width of a teacher, as a model folder or a file keeps them.

    Args:
        name: Name of the teacher with its layers.
        checksum: Checksum of its weights.
        width: Number of features per atom.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    checksum: str
    width: int = Field(ge=1)

    @classmethod
    def of(cls, teacher: Teacher) -> Self:
        """Return the identity of a teacher."""
        return cls(name=teacher.name, checksum=teacher.checksum, width=teacher.width)

    def load(self, load: TeacherByName, device: torch.device | str = "cpu") -> Teacher:
        """Load the teacher, and check that it is the same.

        Args:
            load: Function that loads it by its name.
            device: Device to compute on.

        Raises:
            InputError: There is no such teacher, or it has other weights.
            MissingDependencyError: Its package is not installed.
        """
        teacher = load(self.name, device)
        found = TeacherIdentity.of(teacher)
        if found != self:
            raise InputError(
                f"the teacher {self.name} that is installed has other weights ({found.checksum[:16]}, {found.width} "
                f"features) than the model was trained with ({self.checksum[:16]}, {self.width}); install the version "
                "of its package that has those"
            )
        return teacher


def load_teacher(name: str, device: torch.device | str = "cpu") -> Teacher:
    """Load a teacher by its name.

    Args:
        name: Name, or name and layers, such as ``sevennet-0:4+5``; without layers the teacher's default is taken.
        device: Device to compute on.

    Raises:
        InputError: There is no such teacher, or it has no such layers.
        MissingDependencyError: Its package is not installed, or cannot be imported.
    """
    match, points = NAME.fullmatch(name), registered()
    if match is None or match["name"] not in {*LOADERS, *points}:
        raise InputError(
            f"there is no teacher {name}; expected one of {', '.join([*LOADERS, *points])}, with its layers after a "
            "colon if they are not to be the default ones (sevennet-0:4+5)"
        )
    layers = None if match["layers"] is None else [int(layer) for layer in match["layers"].split("+")]
    if match["name"] in LOADERS:
        return LOADERS[match["name"]](layers, torch.device(device))
    point = points[match["name"]]
    try:
        load: TeacherLoader = point.load()
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"the teacher {match['name']} ({point.value}) cannot be imported: {brief(error)}"
        ) from error
    return load(layers, torch.device(device))
