"""Tables of cells: comma-separated text, Excel and Parquet, whose rows name structure files or hold structures."""

from __future__ import annotations

import csv
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysmm.errors import InputError, StructureError, brief
from crysmm.io.json_stream import open_text
from crysmm.io.row import RowData, holds_structure, refuse_repeated, with_id

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SUFFIXES_OF_CELLS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".xlsx", ".parquet")
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")
DECIMAL_POINT = re.compile(r"[-+]?\d+\.\d+([eE][-+]?\d+)?")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}[,.]\d{3}")
LONGEST_CELL = 1 << 20  # characters; the csv module's own limit of 131,072 is too low for some descriptions
LONGEST_OF_EXCEL = 32_767  # characters; Excel cuts a longer cell
PANDAS_INDEX = "__index_level_0__"  # as pandas calls it in Parquet, if it has no name
Lines = list[tuple[int, list[str]]]


def is_table_of_cells(name: str) -> bool:
    """Return whether a file is a table of cells, by its name."""
    return name.lower().endswith(SUFFIXES_OF_CELLS)


def read_cells(table: Path) -> Lines:
    """Return the line number and cells of each line that is not blank.

    Raises:
        InputError: The file cannot be read, or leaves open what is meant.
    """
    readers = {".xlsx": _read_xlsx, ".parquet": _read_parquet}
    return readers.get(table.suffix.lower(), read_csv)(table)


def has_commas(table: Path) -> bool:
    """Return whether the cells of a table are separated by commas alone, so that a number with a comma would be two."""
    if table.suffix.lower() in (".xlsx", ".parquet"):
        return False
    with open_text(table, errors="replace") as stream:
        first = next(filter(str.strip, stream), "")
    return "," in first and not any(mark in first for mark in ';\t"')


def cell_rows(table: Path) -> Iterator[tuple[str, RowData]]:
    """Yield location and fields of every row below the header, for tables that hold structures.

    Raises:
        InputError: As in :func:`read_cells`.
    """
    if table.suffix.lower() == ".parquet":
        index = _pandas_index(table)
        for number, fields in enumerate(_parquet_rows(table)):
            label = index[number] if isinstance(index, range) else fields[index]
            row = {name: value for name, value in fields.items() if name != PANDAS_INDEX}
            yield f"{table.name}:row {number + 1}", with_id(row, label)
        return
    (_, header), *lines = read_cells(table)
    for line, cells in lines:
        where = f"{table.name}:{line}"
        if len(cells) != len(header):
            yield where, StructureError(f"the row has {len(cells)} columns; expected {len(header)}, as in the header")
            continue
        fields = dict(zip(header, cells, strict=True))
        yield where, with_id(fields, fields.pop("", line))  # pandas writes its index below no name


def header_above_structures(table: Path) -> list[str] | None:
    """Return the header of a table whose first rows hold structures; None if they name files.

    Raises:
        InputError: As in :func:`read_cells`.
    """
    if table.suffix.lower() == ".parquet":
        rows = list(islice(_parquet_rows(table), 10))
        return list(rows[0]) if any(map(holds_structure, rows)) else None
    lines = [cells for _, cells in read_cells(table)[:10]]
    rows = [dict(zip(lines[0], cells, strict=False)) for cells in lines[1:]]
    return lines[0] if any(map(holds_structure, rows)) else None


def read_csv(table: Path | zipfile.Path) -> Lines:
    """Return the lines of a text, whose cells are separated by commas, or by semicolons or tabs.

    With semicolons and tabs, numbers may have decimal commas.

    Raises:
        InputError: The file cannot be read as such text, or its commas may be decimal or between thousands.
    """
    try:
        with (
            table.open(encoding="utf-8-sig", newline="")
            if isinstance(table, zipfile.Path)
            else open_text(table, errors="strict", newline="")
        ) as stream:
            csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
            text = re.sub(r"\Asep=.(?=\r?\n)", "", stream.read())  # a line for Excel
        for separator in ";\t":
            if separator in text.lstrip().partition("\n")[0]:
                try:
                    rows = _split(text, separator)
                except csv.Error:
                    continue
                width = Counter(len(cells) for _, cells in rows).most_common(1)[0][0]
                # with a comma in an id, the lines are comma-separated, with semicolons in a text
                if len(rows[0][1]) == width and not any("," in cells[0] for _, cells in rows):
                    return _with_decimal_points(rows, table)
        return _split(text, ",")
    except UnicodeDecodeError as error:
        what = f"its byte {error.start + 1} is none of UTF-8"
        raise InputError(f"{table} cannot be read: {what}; expected comma-separated text in UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{table} cannot be read: {error}; expected comma-separated text in UTF-8") from error


def _split(text: str, separator: str) -> Lines:
    """Return the lines with their cells, those that are blank left out.

    Raises:
        csv.Error: A quote is not closed, so that the rows below would be part of its cell.
    """
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True
    )
    rows: Lines = []
    try:
        rows.extend((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
    except csv.Error as error:
        raise csv.Error(f"{error} in the row that begins in line {rows[-1][0] + 1 if rows else 1}") from error
    return [(line, cells) for line, cells in rows if any(cells)]


def _with_decimal_points(rows: Lines, table: Path | zipfile.Path) -> Lines:
    """Return rows in which numbers have decimal points, unless commas, or points beside commas, may part thousands.

    Raises:
        InputError: They may.
    """
    values = [cell for _, cells in rows for cell in cells[1:]]
    commas, points = ([value for value in values if form.fullmatch(value)] for form in (DECIMAL_COMMA, DECIMAL_POINT))
    for numbers in (commas, points if commas else []):
        if numbers and all(map(THOUSANDS.fullmatch, numbers)):
            found = numbers[0] if numbers is commas else f"{numbers[0]} beside {commas[0]}"
            decimal, whole = re.sub("[,.]", ".", numbers[0]), re.sub("[,.]", "", numbers[0])
            raise InputError(f"{table}: {found} may be {decimal} or {whole}; write numbers with a decimal point")
    return [
        (line, [cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells])
        for line, cells in rows
    ]


def _read_xlsx(table: Path) -> Lines:
    """Return the cells of the only sheet that has some, numbers as Python writes them."""
    values, formulas = (_sheets(table, data_only=data_only) for data_only in (True, False))
    filled = {title: rows for title, rows in formulas.items() if rows}
    if len(filled) > 1:
        raise InputError(f"{table} has several sheets with cells ({', '.join(filled)}); keep one of them")
    lines = next((values[title] for title in filled), [])
    cells_of = dict(lines)
    for line, cells in next(iter(filled.values()), []):
        found = cells_of.get(line, [""] * len(cells))
        if any(cell.startswith("=") and not value for cell, value in zip(cells, found, strict=False)):
            raise InputError(f"{table}: line {line} has a formula without its value; save the table again in Excel")
        if any(len(value) >= LONGEST_OF_EXCEL for value in found):
            raise InputError(
                f"{table}: line {line} has a cell of {LONGEST_OF_EXCEL:,} characters, where Excel cuts texts; use .csv"
            )
    return lines


def _sheets(table: Path, *, data_only: bool) -> dict[str, Lines]:
    """Return the lines of each sheet, with the values of formulas, or the formulas."""
    from openpyxl import load_workbook

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and validation, which are not read
            book = load_workbook(table, read_only=True, data_only=data_only)
            sheets = {sheet.title: _as_text(list(sheet.iter_rows(values_only=True))) for sheet in book.worksheets}
            book.close()
    except Exception as error:  # openpyxl on arbitrary files; its errors share no base class
        raise InputError(f"{table} cannot be read as an Excel file: {brief(error)}; save it as .csv") from error
    return sheets


def _as_text(rows: list[tuple[Any, ...]]) -> Lines:
    """Return lines without blank ones, and without columns that are blank in all of them."""
    lines = [
        (line, ["" if cell is None else str(cell).strip() for cell in cells]) for line, cells in enumerate(rows, 1)
    ]
    width = max((place for _, cells in lines for place, cell in enumerate(cells, 1) if cell), default=0)
    return [(line, [*cells, *[""] * width][:width]) for line, cells in lines if any(cells)]


def _read_parquet(table: Path) -> Lines:
    """Return the names of the columns and the rows, the index of a ``DataFrame`` first."""
    rows = list(_parquet_rows(table))
    index = _pandas_index(table)
    names = sorted(rows[0], key=lambda name: name != index) if rows else []
    header = ["id" if name == PANDAS_INDEX and not {"jid", "id"} & set(names) else name for name in names]
    lines = [["" if row[name] is None else str(row[name]).strip() for name in names] for row in rows]
    return [(number, cells) for number, cells in enumerate([header, *lines]) if cells]


def _parquet_rows(table: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a Parquet file, read piece by piece.

    Raises:
        InputError: It cannot be read, or has two columns of one name.
    """
    with _open_parquet(table) as file:
        refuse_repeated(file.schema_arrow.names, table)
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()


def _pandas_index(table: Path) -> str | range:
    """Return the column with the index of a ``DataFrame``, or the numbers that are its labels, as pandas notes them.

    Raises:
        InputError: The file cannot be read.
    """
    with _open_parquet(table) as file:
        counted = range(file.metadata.num_rows)
        noted = (file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        if len(noted) == 1 and noted[0] in file.schema_arrow.names:
            return str(noted[0])
        if len(noted) == 1 and isinstance(noted[0], dict) and noted[0].get("kind") == "range":
            labels = range(noted[0]["start"], noted[0]["stop"], noted[0]["step"])
            return labels if len(labels) == len(counted) else counted  # others have taken rows out
        return counted


@contextmanager
def _open_parquet(table: Path) -> Iterator[ParquetFile]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(table) as file:
            yield file
    except InputError:
        raise
    except (OSError, ValueError, ArrowException) as error:
        raise InputError(f"{table} cannot be read as Parquet: {brief(error)}; is it complete?") from error
