"""A file of descriptions: JSON lines, one a crystal, added one by one and whole at every moment."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter
from pydantic_core import from_json

from crysmm.crystal import Crystal
from crysmm.errors import InputError, StructureError
from crysmm.files import naming, text_replacing
from crysmm.io.folder import CRYSMMNET_COLUMNS, DESCRIPTION, FolderTable, is_crysmmnet, read_csv
from crysmm.io.source import SkippedRow, Source, encodable
from crysmm.io.table import TableRow, parse_row


@dataclass(frozen=True)
class Description:
    """One row.

    Args:
        id: of the crystal in its input.
        text: the description; None where there is none.
        describer: ``robocrys`` or ``jarvis``, what has written the text or last tried to.
        version: of the describer's package.
        seconds: it took.
        structure: checksum of the crystal, see :func:`structure_checksum`; empty where it could not be read.
        reason: why there is no text, or why it is not by the describer that was asked for.
    """

    id: str
    text: str | None
    describer: str
    version: str
    seconds: float
    structure: str
    reason: str | None = None

    def line(self) -> str:
        """The row as JSON, without the fields that hold nothing."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None}, ensure_ascii=False)


FIELDS = {field.name for field in fields(Description)}
REQUIRED = FIELDS - {"text", "reason"}
BEGINNING = b'{"id": '  # of every line
_ROW = TypeAdapter(Description)


def structure_checksum(crystal: Crystal) -> str:
    """Names a structure, so that a description is not taken for one of another that has the same id."""
    digest = hashlib.sha256()
    for array in (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def read_descriptions(path: Path) -> dict[str, Description]:
    """The rows of a file by id; the last where an id has several. A last line that was not finished is left out.

    Raises:
        InputError: a line is not such a row.
    """
    rows = {}
    *lines, last = path.read_bytes().split(b"\n")
    if last and not _is_unfinished(last):
        lines.append(last)
    for number, line in enumerate(lines, start=1):
        try:
            row = _parse(line)
        except ValueError:
            raise InputError(
                f"{path}: line {number} is not a description; expected a JSON object with "
                f"{', '.join(sorted(REQUIRED))}, and text or reason, as crysmm describe writes it"
            ) from None
        rows[row.id] = row
    return rows


def _parse(line: bytes) -> Description:
    values = from_json(line)
    if not isinstance(values, dict) or not REQUIRED <= values.keys() <= FIELDS or values.keys() == REQUIRED:
        raise ValueError
    row = _ROW.validate_python({"text": None, **values})
    return replace(row, text=row.text or None)


def _is_unfinished(line: bytes) -> bool:
    """Return whether an unterminated line is the beginning of a row, not a complete row or something else."""
    if not line.startswith(BEGINNING) and not BEGINNING.startswith(line):
        return False
    try:
        _parse(line)
    except ValueError:
        return True
    return False


def write_descriptions(path: Path, rows: Iterable[Description]) -> None:
    """Replace a file as a whole."""
    with text_replacing(path) as file:
        file.writelines(row.line() + "\n" for row in rows)


class Appender:
    """Adds rows to the end of a file; each is on its way to the disk when :meth:`add` returns.

    Args:
        path: of a file that is there, which :func:`read_descriptions` can read, or not; a last line that was not
            finished is cut off.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file = path.open("ab")
        last = path.read_bytes().rpartition(b"\n")[2]
        if _is_unfinished(last):
            os.ftruncate(self._file.fileno(), self._file.tell() - len(last))
        elif last:
            self._file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with naming(self._path):
            self._file.close()

    def add(self, row: Description) -> None:
        """Write a row."""
        with naming(self._path):
            self._file.write(row.line().encode() + b"\n")
            self._file.flush()


def descriptions_from_file(path: Path) -> dict[str, Description]:
    """Descriptions by id from a JSONL file of ``crysmm describe`` or a CSV file.

    A CSV file has the columns ``id`` and ``description`` by its header, or the four of CrysMMNet's authors without one;
    of several rows of one id the first counts.

    Raises:
        InputError: it is neither.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; crysmm describe --root_dir DIR --output {path} makes it")
    if path.suffix != ".csv":
        return read_descriptions(path)
    rows = [cells for _, cells in read_csv(path)]
    names = CRYSMMNET_COLUMNS
    has_header = bool(rows) and DESCRIPTION in rows[0]
    if has_header:
        names, rows = rows[0], rows[1:]
    is_known = "id" in names if has_header else bool(rows) and is_crysmmnet(rows[0])
    if not is_known or any(len(row) != len(names) for row in rows):
        raise InputError(
            f"{path} has no columns id and {DESCRIPTION}; expected a header with both, or four columns without a "
            f"header: {', '.join(CRYSMMNET_COLUMNS)}"
        )
    at, identifier = names.index(DESCRIPTION), names.index("id")
    return {row[identifier]: _unsigned(row[identifier], row[at]) for row in reversed(rows)}


def descriptions_of_input(source: Source) -> dict[str, Description]:
    """Descriptions by id from the field ``description`` of the rows of a table; empty where rows have no such field."""
    if isinstance(source, FolderTable):
        return {identifier: _unsigned(identifier, text) for identifier, text in source.descriptions().items()}
    return {row.id: _unsigned(row.id, text) for row, text in _fields(source.rows()) if text is not None}


def _fields(rows: Iterable[object]) -> Iterable[tuple[TableRow, str | None]]:
    for row in rows:
        if isinstance(row, SkippedRow) or not isinstance(row, TableRow):
            continue
        try:
            text = parse_row(row.data).get(DESCRIPTION)
        except StructureError:
            continue
        yield row, text if isinstance(text, str) else None


def _unsigned(identifier: str, text: str) -> Description:
    """A text whose describer is not known; an empty one is none."""
    return Description(identifier, encodable(text.strip()) or None, "", "", 0.0, "")
