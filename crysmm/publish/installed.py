"""Files of other packages that are installed, whose code is never imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def installed_file(package: str, name: str) -> Path | None:
    """A file in an installed package; None where there is no such package or no such file in it.

    Args:
        package: name of the package as it is imported.
        name: of the file, relative to the package.
    """
    spec = find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)
