"""Folders with a table ``id_prop`` of ids and targets, whose structures are files."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from crysmm.errors import InputError, StructureError, UnlabeledError, nearest
from crysmm.io.cells import DECIMAL_COMMA, Lines, has_commas, read_cells
from crysmm.io.files_source import FileRow, FileRows
from crysmm.io.listing import FolderListing
from crysmm.io.row import refuse_repeated
from crysmm.io.source import (
    ID_KEYS,
    MISSING,
    IdRegister,
    ReadingOptions,
    SkippedRow,
    UnlabeledRow,
    encodable,
    read_targets,
)
from crysmm.io.structure_file import format_from_name
from crysmm.io.table import group_names

PART_OF_NUMBER = re.compile(r"0\d+")
WHOLE = re.compile(r"[+-]?\d+")
OF_PANDAS = re.compile(r"(Unnamed: \d+)?")  # name of the column in which a DataFrame is written with its index
DESCRIPTION = "description"  # column of texts, unless another is named
NAMES_OF_FILES = ("file", "filename", "file_name")  # of columns, in lower case, as all of ID_COLUMNS
ID_COLUMNS = (*ID_KEYS, *NAMES_OF_FILES, "name", "structure")


class FolderTable(FileRows):
    """Folder with a table of cells, such as ``id_prop.csv``.

    The table may have a header. The id, with or without the file's suffix, is in the column ``id_key``, ``jid`` or
    ``id`` of the header, else in one with another name of ids or files, else in the first. Columns with texts and no
    number, as in the tables of CrysMMNet's authors, need a header and are not targets, nor is the index of a
    ``DataFrame``, without a name or called ``index``. All others but ``description`` are, unless ``target_key`` chooses
    among them; beside texts it has to, if there are several.

    Raises:
        InputError: The table is empty, not text, lacks a requested column, or leaves open which columns are targets.
    """

    def __init__(self, folder: Path, options: ReadingOptions, name: str = "id_prop.csv") -> None:
        super().__init__(options)
        self._folder = folder
        self._listing = FolderListing(folder)
        self._table = table = folder / name
        lines = read_cells(table)
        if not lines:
            raise InputError(f"{table} is empty; expected lines of id,target")
        if self._is_header(lines[0][1]):
            header, lines = lines[0][1], lines[1:]
            self._columns = _Columns.from_header(header, lines, options, table)
        else:
            self._columns = _Columns.without_header(lines, options, table)
        self._lines = lines[: options.limit]
        self.target_names = self._columns.target_names
        self.n_rows = len(self._lines)

    def _is_header(self, cells: list[str]) -> bool:
        if self._listing.matches(cells[0], self._options.file_format) or format_from_name(cells[0]) is not None:
            return False
        names_id = any(cell.lower() in ID_COLUMNS or cell == self._options.id_key for cell in cells)
        if len(cells) == 1:
            return names_id
        # an empty cell is a missing value, but in a header the name of a column that has none
        return not any(_is_value(cell) for cell in cells[1:] if cell or not names_id)

    def unnamed_files(self) -> list[str]:
        """Return the structure files in the folder that no row names."""
        named: set[str] = set()
        for row in self.rows():
            if isinstance(row, FileRow):
                named.add(row.file)
            elif ".." not in row.id:  # a row that is skipped for its target names its file, too
                named.update(self._listing.matches(row.id, self._options.file_format))
        names = map(encodable, self._listing.structure_files(self._options.file_format))
        return [name for name in names if name not in named]

    def descriptions(self, column: str | None = None) -> dict[str, str]:
        """Return the texts in a column by id; empty if none is named and there are no texts.

        Raises:
            InputError: There is no such column, or none is named and several may be meant.
        """
        columns = self._columns
        place = description_column(columns.header, columns.texts, column, self._table)
        if place is None:
            return {}
        whole = [cells for _, cells in self._lines if len(cells) == columns.width]
        return {encodable(cells[columns.id]): cells[place] for cells in reversed(whole)}

    def rows(self) -> Iterator[FileRow | SkippedRow]:
        """Yield every row; one without a usable id, target or file is a :class:`SkippedRow`."""
        register = IdRegister()
        ids_by_file: dict[str, str] = {}
        columns = self._columns
        for line, cells in self._lines:
            raw_id = cells[columns.id] if columns.id < len(cells) else ""
            try:
                if columns.id and len(cells) != columns.width:
                    raise StructureError(f"the row has {len(cells)} columns; expected {columns.width}")
                identifier = register.admit(raw_id)
                targets = columns.read_targets(cells, self._options)
                file = self._listing.find(identifier, self._options.file_format)
                if (first := ids_by_file.setdefault(file, identifier)) != identifier:
                    raise StructureError(f"{file} is the structure file of an earlier row, with the id {first!r}")
            except UnlabeledError as error:
                yield UnlabeledRow(raw_id, f"{self._table.name}:{line}", str(error))
            except StructureError as error:
                yield SkippedRow(raw_id, f"{self._table.name}:{line}", str(error))
            else:
                yield FileRow(identifier, file, self._folder / file, self._options.file_format, targets)


@dataclass(frozen=True)
class _Columns:
    """Roles of the columns in ``id_prop.csv``; without a header, ``header`` is empty."""

    id: int
    targets: tuple[int, ...]
    target_names: tuple[str, ...]
    width: int
    header: Sequence[str] = ()
    texts: Sequence[int] = ()

    @classmethod
    def from_header(cls, header: list[str], lines: Lines, options: ReadingOptions, table: Path) -> _Columns:
        if options.id_keys[0] not in header and len(options.id_keys) == 1:
            raise InputError(f"{table} has no column {options.id_key!r} (id_key); it has {', '.join(header)}")
        # Where the first column has a name of ids, another is theirs only if it names files.
        of_ids = NAMES_OF_FILES if header[0].lower() in ID_COLUMNS else (*ID_KEYS, *NAMES_OF_FILES)
        named = (column for column, name in enumerate(header) if name.lower() in of_ids)
        id_column = next((header.index(key) for key in options.id_keys if key in header), next(named, 0))
        refuse_repeated(header, table, header[id_column : id_column + 1])
        texts = [column for column in columns_of_text(lines, len(header)) if column != id_column]
        if not options.needs_targets:
            return cls(id_column, (), (), len(header), header, texts)
        if len(header) == 1:
            raise InputError(f"{table} has one column; expected id,target")
        others = [
            name
            for column, name in enumerate(header)
            if column not in (id_column, *texts)
            and name != DESCRIPTION
            and (name in options.target_keys or not _is_index(name, column, lines))
        ]
        names = options.target_keys or (("target",) if options.target_key in others else tuple(others))
        has = f"{table} has texts in {', '.join(header[column] for column in texts) or 'no column'} and numbers in"
        if not others:
            cells = (cell for _, cells in lines for cell in cells[id_column + 1 :])
            comma = next(filter(DECIMAL_COMMA.fullmatch, cells), None)
            remedy = "" if comma is None else f"; write {comma.replace(',', '.')} for {comma}"
            if any(cell.lower() in ("true", "false") for _, cells in lines for cell in cells[id_column + 1 :]):
                remedy = "; write 1 for true and 0 for false"
            elif texts and not remedy:
                remedy = "; classes are numbers, too: 0, 1, ..."
            raise InputError(f"{has} no column; expected id,target{remedy}")
        if not options.target_key and len(others) > 1 and any(header[column] != DESCRIPTION for column in texts):
            raise InputError(f"{has} several columns; choose the target with target_key: {', '.join(others)}")
        for name in names:
            if name not in others:
                raise InputError(
                    f"{table} has no column of numbers {name!r} (target_key); it has {', '.join(others)}"
                    f"{nearest(name, others)}"
                )
        refuse_repeated(header, table, names)
        return cls(id_column, tuple(map(header.index, names)), names, len(header), header, texts)

    @classmethod
    def without_header(cls, lines: Lines, options: ReadingOptions, table: Path) -> _Columns:
        width = Counter(len(cells) for _, cells in lines).most_common(1)[0][0]
        texts = columns_of_text(lines, width)
        if len(options.id_keys) == 1:
            raise InputError(f"{table} has no header, so id_key {options.id_key!r} names no column; add a header")
        if not options.needs_targets:
            return cls(0, (), (), width)
        if width == 1:
            raise InputError(f"{table} has one column; expected id,target")
        if numbers := ", ".join(str(column + 1) for column in texts if column):
            raise InputError(
                f"{table} has no header, and no number in column {numbers}; add a header line with a name for each "
                "column, and choose the target with target_key"
            )
        parts = [] if options.target_keys else [cells[2] for _, cells in lines if len(cells) > 2]
        values = chain.from_iterable(cells[1:] for _, cells in lines if len(cells) == width)
        may_be_one = width == 3 and has_commas(table) and all(map(WHOLE.fullmatch, values))  # 1,5 may be 1.5
        if part := next(filter(PART_OF_NUMBER.fullmatch, parts), parts[0] if parts and may_be_one else None):
            raise InputError(
                f"{table} has no header, and {part} may be a target, or the end of a number with a comma; add a header "
                "line, write numbers with a decimal point, or name both targets with target_key"
            )
        names = options.target_keys or group_names("target", range(width - 1))
        if len(names) != width - 1:
            raise InputError(
                f"{table} has no header and {width - 1} target columns; target_key names {len(names)}: "
                f"{', '.join(names)}; add a header, or leave target_key out to train on every column"
            )
        return cls(0, tuple(range(1, width)), names, width)

    def read_targets(self, cells: list[str], options: ReadingOptions) -> tuple[float, ...]:
        if not self.targets:
            return ()
        if len(cells) < 2:
            raise StructureError("no target: the row has an id only")
        if len(cells) != self.width:
            raise StructureError(f"the row has {len(cells)} columns; expected {self.width}")
        return read_targets([cells[column] for column in self.targets], self.target_names, options)


def _is_index(name: str, column: int, lines: Lines) -> bool:
    """Return whether a column is the index of a DataFrame: written without a name, or as ``index`` from 0 on."""
    if name == "index":
        return all(cells[column : column + 1] == [str(number)] for number, (_, cells) in enumerate(lines))
    return OF_PANDAS.fullmatch(name) is not None


def columns_of_text(lines: Sequence[tuple[int, list[str]]], width: int) -> list[int]:
    """Return the places of columns with at least one text and no number, in the lines of ``width`` cells."""
    columns = zip(*(cells for _, cells in lines if len(cells) == width), strict=True)
    return [
        place
        for place, cells in enumerate(columns)
        if not any(map(_is_number, cells)) and not all(map(_is_value, cells))
    ]


def description_column(header: Sequence[str], texts: Sequence[int], wanted: str | None, table: Path) -> int | None:
    """Return the place of the descriptions: the column wanted, else ``description``, else the only one of texts.

    Returns:
        The place; None if no column is wanted and there are no texts.

    Raises:
        InputError: No column or several have the name wanted, or none is wanted and several hold texts.
    """
    names = [header[column] for column in texts]
    if wanted is None and DESCRIPTION in header:
        refuse_repeated(header, table, [DESCRIPTION])
        return header.index(DESCRIPTION)
    if wanted is None and len(texts) < 2:
        return texts[0] if texts else None
    if wanted is None:
        raise InputError(
            f"{table} has several columns of text; name the one with the descriptions with --head.description_column: "
            f"{', '.join(names)}"
        )
    if names.count(wanted) != 1:
        raise InputError(
            f"{table} has {names.count(wanted) or 'no'} columns of text called {wanted!r} (head.description_column); "
            f"it has {', '.join(names) or 'none'}{nearest(wanted, names)}"
        )
    return texts[names.index(wanted)]


def _is_number(cell: str) -> bool:
    """Return whether a cell holds a finite number: ``nan`` is none, nor is the formula ``InF``."""
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _is_value(cell: str) -> bool:
    """Return whether a cell holds a number, be it infinite, or a mark for a missing one."""
    try:
        float(cell)
    except ValueError:
        return cell.lower() in MISSING
    return True
