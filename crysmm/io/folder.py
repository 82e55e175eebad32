"""Folders of structure files, with or without a table ``id_prop`` of ids and targets."""

from __future__ import annotations

import csv
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from crysmm.errors import InputError, StructureError, UnlabeledError
from crysmm.io.source import (
    MISSING,
    FileFormat,
    IdRegister,
    ReadingOptions,
    Record,
    Row,
    SkippedRow,
    Source,
    UnlabeledRow,
    encodable,
    hash_parts,
    new_hash,
    read_targets,
)
from crysmm.io.structure_file import SUFFIXES, format_from_name, read_file
from crysmm.io.table import group_names, open_table

ID_PROP = ("id_prop.json.zip", "id_prop.json", "id_prop.csv")  # in ALIGNN's search order
PREFIXES = ("POSCAR-", "POSCAR_", "POSCAR.", "CONTCAR-", "CONTCAR_", "CONTCAR.")
DESCRIPTION = "description"  # column of texts
CRYSMMNET_COLUMNS = ["id", "composition", "target", DESCRIPTION]  # in the CrysMMNet authors' tables without header
ID_COLUMNS = ("jid", "id", "file", "filename", "file_name", "name", "material_id", "structure")


def open_folder(folder: Path, options: ReadingOptions) -> Source:
    """Open a folder with an ``id_prop`` file, or with structure files only if no targets are needed.

    Raises:
        InputError: There is nothing to read, or ``id_prop`` as a whole cannot be used.
    """
    for name in ID_PROP:
        if (folder / name).is_file():
            return FolderTable(folder, options) if name.endswith(".csv") else open_table(folder / name, options)
    if options.needs_targets:
        raise InputError(f"{folder} has no {', '.join(ID_PROP)}; training needs a table of ids and targets there")
    names = FolderListing(folder).structure_files(options.file_format)
    if not names:
        raise InputError(f"{folder} has no structure files (POSCAR*, {', '.join('*' + suffix for suffix in SUFFIXES)})")
    return FilesSource([(name, folder / name) for name in names], options, folder)


class FolderListing:
    """File names in a folder, read once; subfolders are read when an id names them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, frozenset[str]] = {}

    def names(self, subfolder: str = "") -> frozenset[str]:
        """Return the names of the files in the folder or in a subfolder."""
        if subfolder not in self._names:
            try:
                with os.scandir(self._folder / subfolder) as entries:
                    self._names[subfolder] = frozenset(entry.name for entry in entries if entry.is_file())
            except (OSError, ValueError):  # the subfolder does not exist, or its name is invalid
                self._names[subfolder] = frozenset()
        return self._names[subfolder]

    def find(self, identifier: str, file_format: FileFormat | None) -> str:
        """Find the file of an id: the id itself, with a suffix, or with the prefix ``POSCAR-``.

        Raises:
            StructureError: There is no such file.
        """
        path = PurePosixPath(identifier)
        if not path.name:
            raise StructureError(f"no structure file: {identifier!r} is the folder itself")
        subfolder = "" if str(path.parent) == "." else str(path.parent)
        names = self.names(subfolder)
        suffixes = [suffix for suffix, known in SUFFIXES.items() if file_format in (None, known)]
        endings = ["", *suffixes]
        candidates = [path.name + ending for ending in endings]
        if file_format in (None, "poscar"):
            candidates += [prefix + path.name + ending for prefix in PREFIXES for ending in ("", ".vasp")]
        for candidate in candidates:
            if candidate in names:
                return str(path.with_name(candidate))
        raise StructureError(
            f"no structure file: looked for {identifier}, {', '.join(path.name + suffix for suffix in suffixes)} "
            f"and POSCAR-{path.name}"
        )

    def structure_files(self, file_format: FileFormat | None) -> list[str]:
        """Return the sorted names of structure files; with ``file_format`` set, also those without a suffix."""
        return sorted(
            name
            for name in self.names()
            if not name.startswith(".")
            and name not in ID_PROP
            and (format_from_name(name) is not None or (file_format is not None and "." not in name))
        )


@dataclass(frozen=True)
class FileRow(Row):
    """Row whose structure is a file."""

    path: Path
    file_format: FileFormat | None
    targets: tuple[float, ...]

    def read(self) -> Record:
        """Read the record.

        Raises:
            StructureError: The file cannot be used.
        """
        read = read_file(self.path, self.file_format)
        return Record(self.id, read.crystal, self.targets, self.file, read.notes, read.has_formula)


class _FileRows(Source):
    """Base of sources whose rows are files; the fingerprint covers file names and contents."""

    def __init__(self, options: ReadingOptions) -> None:
        self._options = options

    @abstractmethod
    def rows(self) -> Iterator[FileRow | SkippedRow]:
        """Yield every row."""

    def fingerprint(self) -> str:
        """Return a SHA-256 of target names, ids, targets, file names and contents, skipped rows, and the options."""
        digest = new_hash(self._options, self.target_names)
        for row in self.rows():
            if isinstance(row, SkippedRow):
                hash_parts(digest, row)
                continue
            try:
                content = row.path.read_bytes()
            except OSError as error:
                content = str(error).encode()
            hash_parts(digest, row.id, row.file, row.targets, len(content))
            digest.update(content)
        return digest.hexdigest()


class FilesSource(_FileRows):
    """Structure files without targets.

    Args:
        entries: Pairs of id and path.
        options: Options with the file format and a limit.
        folder: Folder that files are named relative to.
    """

    def __init__(
        self, entries: Sequence[tuple[str, Path]], options: ReadingOptions, folder: Path | None = None
    ) -> None:
        super().__init__(options)
        self.target_names = ()
        self._entries = entries if options.limit is None else entries[: options.limit]
        self._folder = folder
        self.n_rows = len(self._entries)

    def rows(self) -> Iterator[FileRow | SkippedRow]:
        """Yield every file; a repeated one is a :class:`SkippedRow`."""
        seen: set[str] = set()
        for name, path in self._entries:
            identifier = encodable(name)
            file = encodable(str(path if self._folder is None else path.relative_to(self._folder)))
            if identifier in seen:
                yield SkippedRow(identifier, file, "the file was given before")
                continue
            seen.add(identifier)
            yield FileRow(identifier, file, path, self._options.file_format, ())


class FolderTable(_FileRows):
    """Folder with ``id_prop.csv``.

    The table may have a header. The first column (or ``id_key``, ``jid`` or ``id`` in the header) is the id, with or
    without the file's suffix; all others except ``description`` are targets, unless ``target_key`` chooses among those
    in the header. The four columns of CrysMMNet's authors are recognized without a header.

    Raises:
        InputError: The table is empty, not text, or lacks a requested column.
    """

    def __init__(self, folder: Path, options: ReadingOptions) -> None:
        super().__init__(options)
        self._folder = folder
        self._listing = FolderListing(folder)
        table = folder / "id_prop.csv"
        lines = read_csv(table)
        if not lines:
            raise InputError(f"{table} is empty; expected lines of id,target")
        first = lines[0][1]
        if self._is_header(first):
            self._columns = _Columns.from_header(first, options, table)
            lines = lines[1:]
        elif is_crysmmnet(first):
            # without a header, a key names the target, as it does in other tables
            name = options.target_keys[0] if len(options.target_keys) == 1 else "target"
            header = [name if column == "target" else column for column in CRYSMMNET_COLUMNS]
            self._columns = _Columns.from_header(header, replace(options, target_key=options.target_key or name), table)
        else:
            width = Counter(len(cells) for _, cells in lines).most_common(1)[0][0]
            self._columns = _Columns.without_header(width, options, table)
        self._lines = lines[: options.limit]
        self.target_names = self._columns.target_names
        self.n_rows = len(self._lines)

    def _is_header(self, cells: list[str]) -> bool:
        try:
            self._listing.find(cells[0], self._options.file_format)
        except StructureError:
            if format_from_name(cells[0]) is not None:
                return False
            if len(cells) == 1:
                return cells[0].lower() in ID_COLUMNS or cells[0] == self._options.id_key
            return not any(_is_value(cell) for cell in cells[1:])
        return False

    def unnamed_files(self) -> list[str]:
        """Return the structure files in the folder that no row names."""
        named = {row.file for row in self.rows() if isinstance(row, FileRow)}
        names = map(encodable, self._listing.structure_files(self._options.file_format))
        return [name for name in names if name not in named]

    def descriptions(self) -> dict[str, str]:
        """Return the texts in the column ``description`` by id; empty without such a column."""
        columns = self._columns
        if columns.description is None:
            return {}
        whole = [cells for _, cells in self._lines if len(cells) == columns.width]
        return {encodable(cells[columns.id]): cells[columns.description] for cells in reversed(whole)}

    def rows(self) -> Iterator[FileRow | SkippedRow]:
        """Yield every row; one without a usable id, target or file is a :class:`SkippedRow`."""
        register = IdRegister()
        columns = self._columns
        for line, cells in self._lines:
            raw_id = cells[columns.id] if columns.id < len(cells) else ""
            try:
                identifier = register.admit(raw_id)
                targets = columns.read_targets(cells, self._options)
                file = self._listing.find(identifier, self._options.file_format)
            except UnlabeledError as error:
                yield UnlabeledRow(raw_id, f"id_prop.csv:{line}", str(error))
            except StructureError as error:
                yield SkippedRow(raw_id, f"id_prop.csv:{line}", str(error))
            else:
                yield FileRow(identifier, file, self._folder / file, self._options.file_format, targets)


@dataclass(frozen=True)
class _Columns:
    """Roles of the columns in ``id_prop.csv``."""

    id: int
    targets: tuple[int, ...]
    target_names: tuple[str, ...]
    width: int
    description: int | None = None

    @classmethod
    def from_header(cls, header: list[str], options: ReadingOptions, table: Path) -> _Columns:
        if options.id_keys[0] not in header and len(options.id_keys) == 1:
            raise InputError(f"{table} has no column {options.id_key!r} (id_key); it has {', '.join(header)}")
        id_column = next((header.index(key) for key in options.id_keys if key in header), 0)
        description = header.index(DESCRIPTION) if DESCRIPTION in header else None
        if not options.needs_targets:
            return cls(id_column, (), (), len(header), description)
        others = tuple(name for column, name in enumerate(header) if column not in (id_column, description))
        names = options.target_keys or (("target",) if options.target_key in others else others)
        for name in names:
            if name not in header:
                raise InputError(f"{table} has no column {name!r} (target_key); it has {', '.join(others)}")
        if not names:
            raise InputError(f"{table} has one column; expected id,target")
        return cls(id_column, tuple(map(header.index, names)), names, len(header), description)

    @classmethod
    def without_header(cls, width: int, options: ReadingOptions, table: Path) -> _Columns:
        if len(options.id_keys) == 1:
            raise InputError(f"{table} has no header, so id_key {options.id_key!r} names no column; add a header")
        if not options.needs_targets:
            return cls(0, (), (), width)
        if width == 1:
            raise InputError(f"{table} has one column; expected id,target")
        names = options.target_keys or group_names("target", range(width - 1))
        if len(names) != width - 1:
            raise InputError(
                f"{table} has no header and {width - 1} target columns; target_key names {len(names)}: "
                f"{', '.join(names)}; add a header, or leave target_key out to learn every column"
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


def is_crysmmnet(cells: list[str]) -> bool:
    """Return whether a line has CrysMMNet's columns, of which only the third is a number."""
    return len(cells) == len(CRYSMMNET_COLUMNS) and [_is_value(cell) for cell in cells[1:]] == [False, True, False]


def _is_value(cell: str) -> bool:
    """Return whether a cell holds a number or a mark for a missing one."""
    try:
        float(cell)
    except ValueError:
        return cell.lower() in MISSING
    return True


def read_csv(table: Path) -> list[tuple[int, list[str]]]:
    """Return the line number and cells of each line that is not blank.

    Raises:
        InputError: The file cannot be read as comma-separated text.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read: {error}; expected comma-separated text in UTF-8") from error
    return [(line, cells) for line, cells in rows if any(cells)]
