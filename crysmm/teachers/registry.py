"""Teachers by name: those built in, and those that installed packages register.

A package registers a teacher by an entry point of the group ``crysmm.teachers``, a function from the requested layers
and a device (see :data:`~crysmm.teachers.teacher.TeacherLoader`) or a class with such a constructor. A name is looked
up in these two places alone, and only the package of the teacher that the user names is imported.
"""

from __future__ import annotations

import re
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

import torch

from crysmm.errors import InputError, MissingDependencyError, brief
from crysmm.teachers import chgnet, sevennet
from crysmm.teachers.chgnet import CHGNetTeacher
from crysmm.teachers.sevennet import SevenNetTeacher
from crysmm.teachers.teacher import Teacher, TeacherLoader

GROUP = "crysmm.teachers"
BUILT_IN: dict[str, TeacherLoader] = {
    **{name: partial(CHGNetTeacher, name) for name in chgnet.WEIGHTS},
    **{name: partial(SevenNetTeacher, name) for name in sevennet.WEIGHTS},
}
PACKAGES = {"chgnet": tuple(chgnet.WEIGHTS), "sevenn": tuple(sevennet.WEIGHTS)}
"""Built-in teachers by the package that holds their weights."""
_NAME = re.compile(r"(?P<name>[^:/]+)(:(?P<layers>[1-9][0-9]*([+][1-9][0-9]*)*))?")


def registered() -> dict[str, EntryPoint]:
    """Return the teachers of installed packages by name, without importing them; built-in names are left out."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}


def is_teacher(name: str) -> bool:
    """Return whether a name, with or without layers, is that of a teacher that is built in or registered."""
    match = _NAME.fullmatch(name)
    return match is not None and (match["name"] in BUILT_IN or match["name"] in registered())


def refuse_not_installed(name: str) -> None:
    """Refuse a built-in teacher whose package is not installed, without importing it.

    Raises:
        MissingDependencyError: It is not installed.
    """
    for package, names in PACKAGES.items():
        if name.partition(":")[0] in names and find_spec(package) is None:
            raise MissingDependencyError(
                f"the teacher {name} needs the package {package}: pip install 'crysmm[potentials]'"
            )


def load_teacher(name: str, device: torch.device | str = "cpu") -> Teacher:
    """Load a teacher by its name.

    Args:
        name: Name, or name and layers, such as ``sevennet-0:4+5``; without layers the teacher's default is taken.
        device: Device to compute on.

    Raises:
        InputError: There is no such teacher, or it has no such layers.
        MissingDependencyError: Its package is not installed, or cannot be imported.
    """
    match = _NAME.fullmatch(name)
    points = registered()
    if match is None or not is_teacher(name):
        raise InputError(
            f"there is no teacher {name}; expected one of {', '.join([*BUILT_IN, *points])}, with its layers after a "
            "colon if they are not to be the default ones (sevennet-0:4+5)"
        )
    layers = None if match["layers"] is None else [int(layer) for layer in match["layers"].split("+")]
    if match["name"] in BUILT_IN:
        return BUILT_IN[match["name"]](layers, torch.device(device))
    point = points[match["name"]]
    try:
        load: TeacherLoader = point.load()
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"the teacher {match['name']} ({point.value}) cannot be imported: {brief(error)}"
        ) from error
    return load(layers, torch.device(device))
