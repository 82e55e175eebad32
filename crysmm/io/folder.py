"""Folders of structure files, with or without a table ``id_prop`` of ids and targets."""

from __future__ import annotations

import math
import os
import re
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from crysmm.config.run import FileFormat
from crysmm.errors import InputError, InputWarning, StructureError, UnlabeledError, count, first_of, nearest
from crysmm.io.cells import (
    SUFFIXES_OF_CELLS,
    Lines,
    cell_rows,
    has_commas,
    header_above_structures,
    is_table_of_cells,
    read_cells,
)
from crysmm.io.row import STRUCTURE_KEYS, refuse_repeated
from crysmm.io.source import (
    MISSING,
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
from crysmm.io.structure_file import GZ, SUFFIXES, format_from_name, is_structure_json, read_file
from crysmm.io.table import FileTable, group_names, is_table_of_rows, open_table

ID_PROP_JSON = ("id_prop.json.zip", "id_prop.json")  # in ALIGNN's search order, before tables of cells
ID_PROP = (*ID_PROP_JSON, *(f"id_prop{suffix}" for suffix in SUFFIXES_OF_CELLS))
PREFIXES = ("POSCAR-", "POSCAR_", "POSCAR.", "CONTCAR-", "CONTCAR_", "CONTCAR.")
CALCULATION = tuple(  # in the folder of a calculation, named by the id
    name + ending for ending in ("", GZ) for name in ("POSCAR", "CONTCAR", "vasprun.xml", "OUTCAR")
)
MOST_SUBFOLDERS = 100  # that are searched for a structure; folders of calculations may be hundreds of thousands
UNREAD = re.compile(  # names of structure files in other formats, or with another ending behind their own
    r"(?:SPOSCAR|XDATCAR|CHGCAR|LOCPOT).*|CHG(?:\..*)?|.*\.(?:(?:cif|vasp|poscar|xyz|pdb)\.\w+|vasp\d|mmcif|res|ins|cell|gro|cssr|xsf|axsf|xtl|"
    r"mol2?|sdf|gen|lmp|car|struct|XV|fdf|pwi|pwo|traj|cube)",
    re.IGNORECASE,
)
PART_OF_NUMBER = re.compile(r"0\d+")
WHOLE = re.compile(r"[+-]?\d+")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
OF_PANDAS = re.compile(r"(Unnamed: \d+)?")  # name of the column in which a DataFrame is written with its index
DESCRIPTION = "description"  # column of texts, unless another is named
IDS, NAMES_OF_FILES = ("jid", "id", "material_id"), ("file", "filename", "file_name")  # of columns, in lower case
ID_COLUMNS = (*IDS, *NAMES_OF_FILES, "name", "structure")


def open_folder(folder: Path, options: ReadingOptions) -> Source:
    """Open a folder with a table such as ``id_prop.csv``, or with structure files only if no targets are needed.

    A folder without them is opened as its only file of rows with structures, if there is one.

    Raises:
        InputError: There is nothing to read, or ``id_prop`` as a whole cannot be used.
    """
    for name in ID_PROP_JSON:
        if (folder / name).is_file():
            return open_table(folder / name, options)
    listing = FolderListing(folder)
    tables = list(filter(is_table_of_cells, listing.visible_names()))
    named = [name for name in tables if name in ID_PROP]
    if named or options.needs_targets:
        if len(named) > 1:
            raise InputError(f"{folder} has {' and '.join(named)}; keep one of them")
        if len(named or tables) > 1:
            raise InputError(f"{folder} has several tables ({first_of(tables)}); call the one to read id_prop.csv")
        if tables:
            return open_cells(folder / (named or tables)[0], options)
        files = []
    else:
        files = [(name, name) for name in listing.structure_files(options.file_format)]
        files = files or listing.files_in_subfolders(options.file_format)
    if files:
        read = {path for _, path in files}
        if nested := [path for path in listing.nested_files() if path not in read]:
            warnings.warn(
                f"{folder} has {count(len(nested), 'structure file')} in subfolders that are not read: "
                f"{first_of(nested)}; give the folder that holds the files, or name them with --files",
                InputWarning,
                stacklevel=2,
            )
        if unread := [name for name in listing.unread_files() if name not in read]:
            warnings.warn(
                f"{folder} has {count(len(unread), 'file')} that may hold structures and are not read: "
                f"{first_of(unread)}; give them names such as a.cif or a.vasp, or convert them with ase convert",
                InputWarning,
                stacklevel=2,
            )
        return FilesSource([(identifier, folder / path) for identifier, path in files], options, folder)
    if (whole := listing.only_table_of_rows()) is not None:
        return open_table(folder / whole, options)
    if options.needs_targets:
        raise InputError(f"{folder} has no {', '.join(ID_PROP)}; training needs a table of ids and targets there")
    raise InputError(f"{folder} has no structure files (POSCAR*, {', '.join('*' + suffix for suffix in SUFFIXES)})")


def open_cells(table: Path, options: ReadingOptions) -> Source:
    """Open a table of cells, whose rows hold structures, or name files in its folder.

    Raises:
        InputError: The table as a whole cannot be used.
    """
    header = header_above_structures(table)
    if header is None:
        return FolderTable(table.parent, options, table.name)
    used = {*options.row_id_keys, *STRUCTURE_KEYS, *options.target_keys}
    if options.needs_targets and not options.target_keys:
        used.update(filter(None, header))  # any may be the target
    refuse_repeated(header, table, used)
    return FileTable(table, options, cell_rows)


class FolderListing:
    """File names in a folder, read once; subfolders are read when an id names them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, frozenset[str]] = {}
        self._subfolders: list[str] | None = None

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
        return format_from_name(path) != "json" or is_structure_json(self._folder / path)

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
            if is_table_of_rows(name)
            and not (format_from_name(name) == "json" and is_structure_json(self._folder / name))
        ]
        return found[0] if len(found) == 1 else None

    def unread_files(self) -> list[str]:
        """Return the sorted names of files in the folder that seem to hold structures, in no format that is known."""
        return [name for name in self.visible_names() if format_from_name(name) is None and UNREAD.fullmatch(name)]

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
    """Folder with a table of cells, such as ``id_prop.csv``.

    The table may have a header. The id, with or without the file's suffix, is in the column ``id_key``, ``jid`` or
    ``id`` of the header, else in one with another name of ids or files, else in the first. Columns with texts and no
    number, as in the tables of CrysMMNet's authors, need a header and are not targets, nor is the index of a
    ``DataFrame``, without a name or called ``index``. All others but ``description`` are, unless ``target_key`` chooses
    among them; beside texts it has to, if there are several.

    Raises:
        InputError: The table is empty, not text, lacks a requested column, or leaves open which columns to learn.
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
        named = {row.file for row in self.rows() if isinstance(row, FileRow)}
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
        of_ids = NAMES_OF_FILES if header[0].lower() in ID_COLUMNS else (*IDS, *NAMES_OF_FILES)
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
            raise InputError(f"{has} no column; expected id,target{remedy}")
        if not options.target_key and len(others) > 1 and any(header[column] != DESCRIPTION for column in texts):
            raise InputError(f"{has} several columns; choose what to learn with target_key: {', '.join(others)}")
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
                "column, and choose what to learn with target_key"
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
