"""The files in a folder, and those that an id means."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path, PurePosixPath

from crysmm.config.run import FileFormat
from crysmm.errors import StructureError, first_of
from crysmm.io.cells import SUFFIXES_OF_CELLS
from crysmm.io.structure_file import GZ, SUFFIXES, begins_as_structure, format_from_name, is_structure_json
from crysmm.io.table import is_table_of_rows

ID_PROP_JSON = ("id_prop.json.zip", "id_prop.json")  # in ALIGNN's search order, before tables of cells
ID_PROP = (*ID_PROP_JSON, *(f"id_prop{suffix}" for suffix in SUFFIXES_OF_CELLS))
PREFIXES = ("POSCAR-", "POSCAR_", "POSCAR.", "CONTCAR-", "CONTCAR_", "CONTCAR.")
CALCULATION = tuple(  # in the folder of a calculation, named by the id
    name + ending for ending in ("", GZ) for name in ("POSCAR", "CONTCAR", "vasprun.xml", "OUTCAR")
)
MOST_SUBFOLDERS = 100  # that are searched for a structure; folders of calculations may be hundreds of thousands
UNREAD = re.compile(  # names of structure files in other formats, or with another ending behind their own
    r"(?:SPOSCAR|XDATCAR|CHGCAR|LOCPOT).*|CHG(?:\..*)?|.*[_-](?:POSCAR|CONTCAR)|vasprun\.xml\..*|vaspout\.h5|"
    r"geometry\.in|.*\.(?:(?:cif|vasp|poscar|xyz|pdb)\.\w+|vasp\d|mmcif|res|ins|cell|gro|cssr|xsf|axsf|xtl|mol2?|sdf|"
    r"gen|lmp|car|struct|XV|fdf|pwi|pwo|traj|cube|cfg)",
    re.IGNORECASE,
)


class FolderListing:
    """File names in a folder, read once; subfolders are read when an id names them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, frozenset[str]] = {}
        self._subfolders: list[str] | None = None
        self._json: dict[Path, bool | None] = {}

    def names(self, subfolder: str = ".") -> frozenset[str]:
        """Return the names of the files in the folder or in a subfolder."""
        if subfolder not in self._names:
            try:
                with os.scandir(self._folder / subfolder) as entries:
                    self._names[subfolder] = frozenset(
                        # Asking the path takes a system call for each file, and is needed for links only.
                        entry.name
                        for entry in entries
                        if entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)
                    )
            except (OSError, ValueError):  # the subfolder does not exist, or its name is invalid
                self._names[subfolder] = frozenset()
        return self._names[subfolder]

    def visible_names(self) -> list[str]:
        """Return the sorted names of the files in the folder, without hidden ones and locks of spreadsheets."""
        return sorted(name for name in self.names() if name[0] not in ".~")

    def find(self, identifier: str, file_format: FileFormat | None) -> str:
        """Return the only file of an id; see :meth:`matches`.

        Raises:
            StructureError: There is no such file, or several.
        """
        found = self.matches(identifier, file_format)
        if len(found) > 1:
            raise StructureError(f"several structure files: {first_of(found)}; name one of them as the id")
        if found:
            return found[0]
        path = PurePosixPath(identifier)
        if not path.name:
            raise StructureError(f"no structure file: {identifier!r} is the folder itself")
        beginning = sorted(name for name in self.names(str(path.parent)) if name.startswith(f"{path.name}."))
        others = [name for name in beginning if format_from_name(name) is None]
        if others:
            raise StructureError(
                f"no structure file: the format of {others[0]} is not read; ase convert {others[0]} "
                f"{path.name}.extxyz converts many others"
            )
        suffixes = [suffix for suffix, known in SUFFIXES.items() if file_format in (None, known)]
        raise StructureError(
            f"no structure file: looked for {identifier}, {', '.join(path.name + suffix for suffix in suffixes)} "
            f"and POSCAR-{path.name}"
        )

    def matches(self, identifier: str, file_format: FileFormat | None) -> list[str]:
        """Return the files that an id may mean: its name, with a suffix, ``.gz`` or the prefix ``POSCAR-``.

        A file called as the id, ending included, is the only one. Without any, a folder of that name may hold the
        POSCAR, CONTCAR, vasprun.xml or OUTCAR of a calculation, or a subfolder the file. Several may be different
        crystals, such as those before and after a relaxation.
        """
        path = PurePosixPath(identifier)
        names = self.names(str(path.parent))
        if path.name in names or not path.name:
            return [str(path)] if path.name else []
        suffixes = [suffix for suffix, known in SUFFIXES.items() if file_format in (None, known)]
        candidates = [
            path.name + ending for ending in ("", *suffixes, *map(str.upper, suffixes), *map(str.title, suffixes))
        ]
        if file_format in (None, "poscar"):
            candidates += [prefix + path.name + ending for prefix in PREFIXES for ending in ("", ".vasp")]
        candidates += [candidate + GZ for candidate in candidates]
        found = [str(path.with_name(name)) for name in candidates if name in names]
        if len(found) > 1:  # properties may stand in a .json beside the structure
            found = list(filter(self._may_be_structure, found)) or found
        found = found or [
            f"{identifier}/{name}"
            for name in CALCULATION
            if name in self.names(identifier) and file_format in (None, format_from_name(name))
        ]
        if not found and len(path.parts) == 1 and len(self.subfolders()) <= MOST_SUBFOLDERS:
            inside = [(folder, self.names(folder)) for folder in self.subfolders()]
            found = [f"{folder}/{name}" for folder, names in inside for name in candidates if name in names]
        return found

    def _may_be_structure(self, path: str) -> bool:
        return format_from_name(path) != "json" or bool(self._is_structure_json(path))

    def _is_structure_json(self, path: str) -> bool | None:
        """Return :func:`is_structure_json` of a file, whose beginning is read once."""
        whole = self._folder / path
        if whole not in self._json:
            self._json[whole] = is_structure_json(whole)
        return self._json[whole]

    def subfolders(self) -> list[str]:
        """Return the sorted names of the folders in the folder."""
        if self._subfolders is None:
            self._subfolders = self._folders_in(".")
        return self._subfolders

    def _folders_in(self, subfolder: str, follow_links: bool = True) -> list[str]:
        try:
            with os.scandir(self._folder / subfolder) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if entry.name[0] != "."
                    and (
                        entry.is_dir(follow_symlinks=False)
                        or (follow_links and entry.is_symlink() and os.path.isdir(entry.path))
                    )
                )
        except OSError:  # it may not be read
            return []

    def broken_links(self, subfolder: str) -> list[str]:
        """Return the names of links to nothing that are named as structure files."""
        try:
            with os.scandir(self._folder / subfolder) as entries:
                links = [entry.name for entry in entries if entry.is_symlink() and not os.path.exists(entry.path)]
        except OSError:  # it may not be read
            return []
        return [name for name in links if name[0] != "." and name not in ID_PROP and format_from_name(name) is not None]

    def nested_files(self) -> list[str]:
        """Return the structure files in subfolders and in theirs, of which the first are searched."""
        folders = self._folders_in(".", follow_links=False)[:MOST_SUBFOLDERS]
        inner = (f"{one}/{other}" for one in folders for other in self._folders_in(one, follow_links=False))
        folders += list(islice(inner, MOST_SUBFOLDERS))
        return [f"{one}/{name}" for one in folders for name in self.structure_files(None, one)]

    def files_in_subfolders(self, file_format: FileFormat | None) -> list[tuple[str, str]]:
        """Return id and path of structure files in subfolders; the id of a calculation's only file is its folder."""
        found = []
        for folder in self.subfolders():
            names = self.structure_files(file_format, folder)
            is_calculation = len(names) == 1 and names[0] in CALCULATION
            found += [(folder if is_calculation else f"{folder}/{name}", f"{folder}/{name}") for name in names]
        return found

    def only_table_of_rows(self) -> str | None:
        """Return the name of the only file that may hold rows with structures; None if there are none or several."""
        found = [
            name
            for name in self.visible_names()
            if is_table_of_rows(name) and not (format_from_name(name) == "json" and self._is_structure_json(name))
        ]
        return found[0] if len(found) == 1 else None

    def unread_files(self) -> list[str]:
        """Return the sorted names of files in the folder that seem to hold structures, in no format that is known."""
        return [name for name in self.visible_names() if self._may_hold_structures(name)]

    def _may_hold_structures(self, name: str) -> bool:
        if format_from_name(name) == "json":
            return name not in ID_PROP and self._is_structure_json(name) is None
        if format_from_name(name) is not None:
            return False
        return UNREAD.fullmatch(name) is not None or ("." not in name and begins_as_structure(self._folder / name))

    def structure_files(self, file_format: FileFormat | None, subfolder: str = ".") -> list[str]:
        """Return the sorted names of structure files; with ``file_format`` set, also those without a suffix.

        Links to nothing are among them, so that they are reported as unreadable.
        """
        files = [
            name
            for name in self.names(subfolder)
            if not name.startswith(".")
            and name not in ID_PROP
            and (format_from_name(name) is not None or (file_format is not None and "." not in name))
            and self._may_be_structure(f"{subfolder}/{name}")
        ]
        return sorted([*files, *self.broken_links(subfolder)])
