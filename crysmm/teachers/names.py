"""Names of teachers and of files of features, and checks of them before torch is imported."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from crysmm.errors import InputError, MissingDependencyError

GROUP = "crysmm.teachers"
PACKAGES = {
    "chgnet": {"chgnet": "0.3.0", "chgnet-r2scan": "r2scan"},
    "sevenn": {
        "sevennet-0": "7net-0",
        "sevennet-0-22may2024": "7net-0_22may2024",
        "sevennet-l3i5": "7net-l3i5",
        "sevennet-mf-0": "7net-mf-0",
    },
}
"""Built-in teachers by the package that holds their weights, with the names of the weights there."""
BUILT_IN = [name for weights in PACKAGES.values() for name in weights]
NAME = re.compile(r"(?P<name>[^:/]+)(:(?P<layers>[1-9][0-9]*([+][1-9][0-9]*)*))?")
SUFFIX = ".parquet"


def registered() -> dict[str, EntryPoint]:
    """Return the teachers of installed packages by name, without importing them; built-in names are left out."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}


def is_teacher(name: str) -> bool:
    """Return whether a name, with or without layers, is that of a teacher that is built in or registered."""
    match = NAME.fullmatch(name)
    return match is not None and (match["name"] in BUILT_IN or match["name"] in registered())


def is_file(name: Path | str) -> bool:
    """Return whether a name is that of a file of features."""
    return Path(name).suffix == SUFFIX


def is_model(name: Path | str) -> bool:
    """Return whether a name is that of a model, shipped or in a folder, and not of a teacher or a file of features."""
    return not (is_teacher(str(name)) or is_file(name))


def not_installed(name: Path | str, package: str, why: str = "") -> MissingDependencyError:
    """Return the error for a teacher whose package is not installed, or cannot be imported for a reason."""
    detail = f" ({why})" if why else ""
    return MissingDependencyError(
        f"the teacher {name} needs the package {package}: pip install 'crysmm[potentials]'{detail}"
    )


def refuse_missing(name: Path | str) -> None:
    """Refuse a built-in teacher whose package is not installed, without importing it, and a file that is not there.

    Raises:
        MissingDependencyError: The package is not installed.
        InputError: There is no such file.
    """
    for package, weights in PACKAGES.items():
        if str(name).partition(":")[0] in weights and find_spec(package) is None:
            raise not_installed(name, package)
    if is_file(name) and not Path(name).is_file():
        raise InputError(f"{name} is not a file; crysmm embed writes files of features")
