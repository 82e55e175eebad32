"""Files of descriptions: JSON lines, one per crystal, appended one by one so that the file is complete at any time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter
from pydantic_core import from_json

from crysmm.errors import InputError, StructureError, shown
from crysmm.files import naming, text_replacing
from crysmm.io.cells import read_csv
from crysmm.io.id_prop import DESCRIPTION, ID_COLUMNS, FolderTable, columns_of_text, description_column
from crysmm.io.row import parse_row
from crysmm.io.source import Source, encodable
from crysmm.io.table import TableRow


@dataclass(frozen=True)
class Description:
    """Row of a file of descriptions.

    Args:
        id: Id of the crystal in its input.
        text: Description, or None if there is none.
        describer: Describer that wrote the text or was the last to try, ``robocrys`` or ``jarvis``.
        version: Version of the describer's package.
        seconds: Time taken, in seconds.
        structure: Checksum of the crystal, so that its text is not used for another with the same id; empty if it could
            not be read.
        reason: Reason why there is no text, or why another describer than the requested one wrote it.
    """

    id: str
    text: str | None
    describer: str
    version: str
    seconds: float
    structure: str
    reason: str | None = None

    def line(self) -> str:
        """Return the row as JSON, without fields that are None."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None}, ensure_ascii=False)


FIELDS = {field.name for field in fields(Description)}
REQUIRED = FIELDS - {"text", "reason"}
BEGINNING = b'{"id": '  # every line begins with it
_ROW = TypeAdapter(Description)


def read_descriptions(path: Path) -> dict[str, Description]:
    """Read the rows of a file by id; of several rows with one id, the last. An unfinished last line is left out.

    Raises:
        InputError: A line is not a description.
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
    """Parse a line; an empty text becomes None.

    Raises:
        ValueError: The line is not a description.
    """
    values = from_json(line)
    # A row has all required fields and no unknown ones, and at least one of text and reason.
    if not isinstance(values, dict) or not REQUIRED <= values.keys() <= FIELDS or values.keys() == REQUIRED:
        raise ValueError
    row = _ROW.validate_python({"text": None, **values})
    return replace(row, text=row.text or None)


def _is_unfinished(line: bytes) -> bool:
    """Return True if a line without a line end is the beginning of a row, rather than a whole row or something else."""
    # Anything else is content of another file, which must not be cut off.
    if not line.startswith(BEGINNING) and not BEGINNING.startswith(line):
        return False
    try:
        _parse(line)
    except ValueError:
        return True
    return False


def write_descriptions(path: Path, rows: Iterable[Description]) -> None:
    """Write a file, replacing an existing one only when the new one is complete."""
    with text_replacing(path) as file:
        file.writelines(row.line() + "\n" for row in rows)


class Appender:
    """Appends rows to a file, each of which is passed to the operating system when :meth:`add` returns.

    Args:
        path: New file, or a file of descriptions, whose last line is cut off if it is unfinished.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file = path.open("ab")
        # A killed process leaves an unfinished line, which is described again; a whole row only lacks its line end.
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
        """Append a row."""
        with naming(self._path):
            self._file.write(row.line().encode() + b"\n")
            self._file.flush()


def descriptions_from_file(path: Path, column: str | None = None) -> dict[str, Description]:
    """Read descriptions by id from a JSONL file of ``crysmm describe`` or a CSV file.

    Args:
        path: The file. A CSV file has a header; its ids are in the column ``jid``, else ``id``, else in the first.
        column: Column of the descriptions in a CSV file; by default ``description``, else the only one of texts.

    Raises:
        InputError: The file does not exist, has another format, has no such column, or has two texts of one id.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; crysmm describe --root_dir DIR --output {path} makes it")
    if path.suffix != ".csv":
        if column is not None:
            raise InputError(f"head.description_column names a column of a .csv file; {path} is none")
        return read_descriptions(path)
    (_, names), *lines = read_csv(path) or [(1, [""])]
    if not {column or DESCRIPTION, *ID_COLUMNS} & set(names):
        raise InputError(
            f"{path} has no header line with the columns id and {column or DESCRIPTION}; it begins with "
            f"{shown(', '.join(names))}"
        )
    for line, cells in lines:
        if len(cells) != len(names):
            raise InputError(f"{path}: line {line} has {len(cells)} columns; expected {len(names)}: {', '.join(names)}")
    identifier = next((names.index(key) for key in ("jid", "id") if key in names), 0)
    texts = [place for place in columns_of_text(lines, len(names)) if place != identifier]
    at = description_column(names, texts, column, path)
    if at is None:
        raise InputError(f"{path} has no column of text besides the ids; it has {', '.join(names)}")
    found: dict[str, Description] = {}
    for line, cells in lines:
        row = _without_describer(cells[identifier], cells[at])
        if found.setdefault(row.id, row) != row:
            raise InputError(f"{path}: line {line} has another text of {shown(row.id)} than a line before; keep one")
    return found


def descriptions_of_input(source: Source, column: str | None = None) -> dict[str, Description]:
    """Read descriptions by id from a field of an input, by default ``description``; rows without it are left out.

    Raises:
        InputError: A table in a folder has no such column, or none is named and several may be meant.
    """
    if isinstance(source, FolderTable):
        texts = source.descriptions(column)
        return {identifier: _without_describer(identifier, text) for identifier, text in texts.items()}
    found = {}
    for row in source.rows():
        if not isinstance(row, TableRow):  # structure files and skipped rows
            continue
        try:
            text = parse_row(row.data).get(column or DESCRIPTION)
        except StructureError:
            continue  # a row that cannot be parsed is reported when its structure is read
        if isinstance(text, str):
            found[row.id] = _without_describer(row.id, text)
    return found


def _without_describer(identifier: str, text: str) -> Description:
    """Return a text by an unknown describer as a row; an empty text becomes None."""
    return Description(identifier, encodable(text.strip()) or None, "", "", 0.0, "")
