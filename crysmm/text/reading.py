"""Descriptions people have: a file of ``crysmm describe``, a table with a column of them, or a column of the input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crysmm.errors import InputError, StructureError
from crysmm.io.folder import CRYSMMNET_COLUMNS, DESCRIPTION, FolderTable, is_crysmmnet, read_csv
from crysmm.io.source import SkippedRow, Source, encodable
from crysmm.io.table import TableRow, parse_row
from crysmm.text.descriptions import Description, read_descriptions


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
