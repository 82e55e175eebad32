"""Reading one structure from one file: POSCAR, CIF, extended xyz, PDB, JSON, or an output of VASP."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from crysmm.config.run import FileFormat
from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError
from crysmm.io.cif import parse_cif
from crysmm.io.pdb import parse_pdb
from crysmm.io.plain_text import why_no_text
from crysmm.io.poscar import parse_poscar
from crysmm.io.source import Reading
from crysmm.io.vasp_output import parse_outcar, parse_vasprun
from crysmm.io.xyz import parse_xyz
from crysmm.keys import load_json, load_python

SUFFIXES: dict[str, FileFormat] = {
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".contcar": "poscar",
    ".cif": "cif",
    ".mcif": "cif",
    ".xyz": "xyz",
    ".extxyz": "xyz",
    ".pdb": "pdb",
    ".ent": "pdb",
    ".json": "json",
    ".xml": "vasprun",
}
PREFIXES: dict[str, FileFormat] = {"POSCAR": "poscar", "CONTCAR": "poscar", "OUTCAR": "outcar"}
GZ = ".gz"  # end of the name of a compressed file of any format
BEGINNING = 1 << 16  # bytes in which the key of a structure is looked for
FIRST_LINES = 1 << 12  # bytes; there may be many such files
KEY_OF_STRUCTURE = re.compile(rb"""['"](?:lattice|(?:atoms|structure|cif)['"]\s*:\s*["'][^"'\\]*\\n)""")
KEY_OF_ASE = re.compile(rb'"(?:positions|numbers)"\s*:')  # in a form that is not read
LARGEST_FILE = 100 << 20  # bytes; a structure of a million atoms takes less


def format_from_name(name: str) -> FileFormat | None:
    """Return the format that a file name implies, with or without ``.gz`` at its end, or None."""
    name = name.removesuffix(GZ)
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    begin = Path(name).name.upper()
    return next((known for prefix, known in PREFIXES.items() if begin.startswith(prefix)), None)


def is_structure_json(path: Path) -> bool | None:
    """Return whether a JSON file seems to hold one structure; None if its beginning does not show it.

    Other files of a folder of structures are JSON, too.
    """
    try:
        with gzip.open(path) if path.suffix == GZ else path.open("rb") as stream:
            start = stream.read(BEGINNING).removeprefix(codecs.BOM_UTF8).lstrip()
            is_whole = not stream.read(1)
    except (OSError, EOFError, zlib.error):
        return True  # the reason is given when it is read
    is_object, has_structure = start.startswith(b"{"), KEY_OF_STRUCTURE.search(start)
    if is_object and has_structure:
        return True
    if why_no_text(start) or has_structure or KEY_OF_ASE.search(start):
        return None
    return None if is_object and not is_whole else False


def format_from_text(text: str) -> FileFormat | None:
    """Return the format that the content of a file implies, or None."""
    lines = text.splitlines()[:6]
    if text.lstrip().startswith("{"):
        return "json"
    if text.lstrip().startswith("<?xml"):
        return "vasprun"
    if re.search(r"^[ \t]*_cell[_.]length_a", text, flags=re.MULTILINE | re.IGNORECASE):
        return "cif"
    seems_poscar = len(lines) == 6 and all(re.match(r"\s*[-+]?\.?\d", line) for line in lines[1:5])
    # below the number of atoms of an xyz file stands anything, such as data_1 or 1.5, but no scale and lattice vectors
    if lines and lines[0].strip().isdigit() and (not seems_poscar or "=" in lines[1] or re.search("(?m)^VEC1", text)):
        return "xyz"
    if seems_poscar:
        return "poscar"
    if re.search(r"^[ \t]*data_", text, flags=re.MULTILINE | re.IGNORECASE):
        return "cif"
    return "pdb" if re.search(r"^(CRYST1|ATOM  |HETATM)", text, flags=re.MULTILINE) else None


def begins_as_structure(path: Path) -> bool:
    """Return whether a file, whose name does not show it, seems to be a POSCAR or a CIF."""
    try:
        with path.open("rb") as stream:
            start = stream.read(FIRST_LINES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    found = format_from_text(start)
    return found == "poscar" or (found == "cif" and re.search(r"(?mi)^[ \t]*_(cell|atom_site)[_.]", start) is not None)


def read_structure(path: str | PathLike[str], file_format: FileFormat | None = None) -> Crystal:
    """Return the structure in a file; see :func:`read_file`."""
    return read_file(path, file_format).crystal


def read_file(path: str | PathLike[str], file_format: FileFormat | None = None) -> Reading:
    """Return the structure in a file, and notes on how it was read.

    Args:
        path: Path of the file.
        file_format: Format of the file; by default determined from its name, else from its content.

    Raises:
        StructureError: The file does not exist or contains no usable structure; the text gives the reason.
    """
    return parse_structure(_read_text(Path(path)), file_format or format_from_name(Path(path).name))


def parse_structure(text: str, file_format: FileFormat | None = None) -> Reading:
    """Return the structure in the text of a file, and notes on how it was read; see :func:`read_file`."""
    found = file_format or format_from_text(text)
    if found is None:
        raise StructureError(
            "the format is not recognized; expected POSCAR, CIF, extended xyz, PDB, JSON, vasprun.xml or OUTCAR; "
            "ase convert FILE FILE.extxyz converts many others"
        )
    try:
        parsed = _PARSERS[found](text)
    except StructureError:
        raise
    except Exception as error:  # parsers of other libraries on arbitrary files; their errors share no base class
        reason = str(error).strip() or type(error).__name__
        raise StructureError(f"not a readable {found} file: {reason[:200]}") from error
    return parsed if isinstance(parsed, Reading) else Reading(parsed)


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise StructureError(f"the file has {size >> 20} MB; a structure file has at most {LARGEST_FILE >> 20} MB")
        content = path.read_bytes()
        if path.suffix == GZ:
            with gzip.open(io.BytesIO(content)) as stream:
                content = stream.read(LARGEST_FILE + 1)
            if len(content) > LARGEST_FILE:
                raise StructureError(f"the file expands to more than {LARGEST_FILE >> 20} MB")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StructureError(f"the file cannot be unpacked: {error}; is it complete?") from error
    except FileNotFoundError:
        raise StructureError("the file does not exist") from None
    except IsADirectoryError:
        raise StructureError("it is a folder, whose structures are read with --root_dir; name a file") from None
    except OSError as error:
        raise StructureError(f"the file cannot be opened: {error.strerror or error}") from error
    except ValueError as error:  # such as a NUL character
        raise StructureError(f"{str(path)!r} cannot be the name of a file: {error}") from error
    if not content.strip():
        raise StructureError("the file is empty")
    if why := why_no_text(content, is_unpacked=path.suffix == GZ):
        raise StructureError(f"the file {why}")
    if b"\0" in content:
        raise StructureError("the file is binary, not text")
    return content.decode("utf-8-sig", errors="replace")


def parse_json(text: str) -> Reading:
    """Return the structure in a JSON object: a dict of JARVIS, pymatgen or OPTIMADE, or a row that holds one.

    The text may also be such a dict as Python prints it, and a ``DataFrame`` writes it into a table.

    Raises:
        StructureError: It is none of these, or its structure is not usable.
    """
    from crysmm.io.row import parse_row, read_row  # here, as rows in turn hold the texts of files

    try:
        content = load_python(text) if re.match(r"\s*\{\s*'", text) else load_json(text)
    except (ValueError, RecursionError) as error:
        raise StructureError(f"broken JSON: {error}") from error
    if not isinstance(content, Mapping):
        raise StructureError("the file holds a JSON list; expected one structure, or the list read by --root_dir FILE")
    return read_row(parse_row(content))


_PARSERS: dict[FileFormat, Callable[[str], Crystal | Reading]] = {
    "poscar": parse_poscar,
    "cif": parse_cif,
    "xyz": parse_xyz,
    "pdb": parse_pdb,
    "json": parse_json,
    "vasprun": parse_vasprun,
    "outcar": parse_outcar,
}
