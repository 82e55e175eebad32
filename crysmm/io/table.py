"""Tables whose rows hold structures: files of many formats, and lists of dicts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, StructureError, UnlabeledError
from crysmm.io.ase_database import database_rows
from crysmm.io.cells import SUFFIXES_OF_CELLS
from crysmm.io.json_stream import jsonl_lines
from crysmm.io.json_table import json_rows
from crysmm.io.row import STRUCTURE_KEYS, RowData, parse_row, read_row, refuse_repeated
from crysmm.io.source import (
    IdRegister,
    ReadingOptions,
    Record,
    Row,
    SkippedRow,
    Source,
    encodable,
    flatten,
    hash_parts,
    is_no_id,
    new_hash,
    read_targets,
)
from crysmm.io.xyz import xyz_rows

if TYPE_CHECKING:
    import pandas

SAMPLE = 100  # rows inspected to find the properties
Records: TypeAlias = "Sequence[Mapping[str, Any]] | pandas.DataFrame"


def open_table(path: Path, options: ReadingOptions) -> Source:
    """Open a file of rows that hold their structures, one of ``TABLES``, also with ``.gz`` or ``.zip`` at its end.

    Raises:
        InputError: The file is none of these, is broken, or lacks the target or id.
    """
    if not is_table_of_rows(path.name):
        raise InputError(
            f"{path} is not a folder and not a file of rows; a single structure file is predicted with --files; rows "
            f"are read from {', '.join((*TABLES, *SUFFIXES_OF_CELLS))}"
        )
    return FileTable(path, options, TABLES[_suffix_of_rows(path.name)])


def is_table_of_rows(name: str) -> bool:
    """Return whether a file may hold rows with structures, by its name; that of a single structure may be like it."""
    return _suffix_of_rows(name) in TABLES


def _suffix_of_rows(name: str) -> str:
    name = name.lower()
    suffix = Path(name.removesuffix(".gz").removesuffix(".zip")).suffix
    return suffix if suffix != ".db" or name.endswith(".db") else ""  # a database is not read as a stream


@dataclass(frozen=True)
class TableRow(Row):
    """Row that contains its structure, as JSON text or as a dict.

    Args:
        data: Content of the row.
        targets: Names of the targets in each field that holds some: one, or one per value of a list.
        options: Reading options.
    """

    data: RowData
    targets: Mapping[str, tuple[str, ...]]
    options: ReadingOptions

    def read(self) -> Record:
        """Read the record.

        Raises:
            StructureError: The structure or a target cannot be used.
            UnlabeledError: The row has none of the targets.
        """
        fields = parse_row(self.data)
        values: list[Any] = []
        for key, names in self.targets.items():
            found = flatten(fields.get(key))
            # a list that is missing as a whole lacks each of its values
            values += [None] * len(names) if found in ([], [None]) else found
        targets = read_targets(values, [name for names in self.targets.values() for name in names], self.options)
        reading = read_row(fields)
        return Record(self.id, reading.crystal, targets, self.file, reading.notes, reading.has_formula)


def hash_rows(rows: Iterator[Row | SkippedRow], digest: hashlib._Hash) -> str:
    """Return a SHA-256 of the records, for rows that are not in files."""
    for row in rows:
        if isinstance(row, SkippedRow):
            hash_parts(digest, row)
            continue
        try:
            record = row.read()
        except StructureError as error:
            hash_parts(digest, type(error).__name__, row.id, row.file, str(error))
            continue
        crystal = record.crystal
        hash_parts(digest, record.id, record.file, record.targets, record.notes, record.has_formula, len(crystal))
        for array in (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers):
            digest.update(array.tobytes())
    return digest.hexdigest()


class _Table(Source):
    """Base of tables: chooses the fields of the id and the targets."""

    def __init__(self, name: str, options: ReadingOptions) -> None:
        self._name = name
        self._options = options
        self._id_keys = options.row_id_keys
        self._targets: dict[str, tuple[str, ...]] = {}
        self._reason = ""  # why the first row that cannot be read cannot
        sample = list(islice(self._readable(), SAMPLE))
        if not sample:
            raise InputError(
                f"{name} holds no readable row; expected rows with a structure and properties{self._reason}"
            )
        if not any(key in sample[0] for key in self._id_keys):
            raise InputError(
                f"the first row of {name} has no {', '.join(self._id_keys)}; name the id with id_key; the row has "
                f"{', '.join(map(str, sample[0]))}"
            )
        if options.needs_targets:
            self._targets = self._find_targets(options.target_keys or (self._only_target(sample),))
        self.target_names = tuple(name for names in self._targets.values() for name in names)

    @abstractmethod
    def _items(self) -> Iterator[tuple[str, RowData]]:
        """Yield the location and the content of every row."""

    def _readable(self) -> Iterator[Mapping[str, Any]]:
        """Yield the fields of every row that is a JSON object."""
        for _, data in self._items():
            try:
                yield parse_row(data)
            except StructureError as error:
                self._reason = self._reason or f"; of the first, {error}"

    def _only_target(self, sample: Sequence[Mapping[str, Any]]) -> str:
        """Return the only numeric property, or ``target``.

        Raises:
            InputError: There is no numeric property, or several.
        """
        columns = _numeric_columns(sample, exclude=frozenset(self._id_keys))
        if "target" in columns:
            return "target"
        if len(columns) == 1:
            return columns[0]
        if not columns:
            raise InputError(f"{self._name} has no numeric property besides the structure: nothing to train on")
        raise InputError(f"{self._name} has several properties; choose with target_key: {', '.join(columns)}")

    def _find_targets(self, keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the target names for each key, from the first row that has numbers there: n for a list of n values.

        Raises:
            InputError: No row has a number for one of the keys.
        """
        found: dict[str, tuple[str, ...]] = {}
        for fields in self._readable():
            for key in (key for key in keys if key not in found):
                try:
                    found[key] = group_names(key, _target_values(fields, key))
                except StructureError:
                    continue
            if len(found) == len(keys):
                return {key: found[key] for key in keys}
        columns = _numeric_columns(list(islice(self._readable(), SAMPLE)), exclude=frozenset(self._id_keys))
        raise InputError(
            f"no row of {self._name} has a number for {' and '.join(key for key in keys if key not in found)} "
            f"(target_key); there are {', '.join(columns) or 'no numeric properties'}"
        )

    def rows(self) -> Iterator[Row | SkippedRow]:
        """Yield every row; one whose id is missing, invalid or repeated is a :class:`SkippedRow`."""
        register = IdRegister()
        for file, data in islice(self._items(), self._options.limit):
            raw_id: Any = None
            try:
                fields = parse_row(data)
                raw_id = next((fields[key] for key in self._id_keys if not is_no_id(fields.get(key))), None)
                identifier = register.admit(raw_id)
            except StructureError as error:
                yield SkippedRow("" if raw_id is None else encodable(str(raw_id)), file, str(error))
            else:
                yield TableRow(identifier, file, data, self._targets, self._options)


def group_names(key: str, values: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of the targets in one field: the key, numbered if the field holds several values."""
    return (key,) if len(values) == 1 else tuple(f"{key}_{number}" for number in range(len(values)))


def _target_values(fields: Mapping[str, Any], key: str) -> tuple[float, ...]:
    """Return the numbers in a field, at least one.

    Raises:
        StructureError: The field holds no number, or something else.
    """
    values = flatten(fields.get(key))
    if not values:
        raise UnlabeledError(f"no target: {key} is an empty list")
    return read_targets(values, [key] * len(values), ReadingOptions())


def _numeric_columns(rows: Sequence[Mapping[str, Any]], exclude: frozenset[str]) -> list[str]:
    """Return the fields that hold a number, or a list of numbers, in at least one row."""
    columns: dict[str, None] = {}
    for fields in rows:
        for key in fields:
            if key in columns or key in exclude or key in STRUCTURE_KEYS:
                continue
            try:
                _target_values(fields, key)
            except StructureError:
                continue
            columns[key] = None
    return list(columns)


class FileTable(_Table):
    """File of rows; see :func:`open_table`."""

    def __init__(self, path: Path, options: ReadingOptions, items: Callable[[Path], Iterator[tuple[str, RowData]]]):
        self._path = path
        self._items_of = items
        super().__init__(str(path), options)

    @cached_property
    def n_rows(self) -> int | None:  # type: ignore[override]  # is read only
        """Number of rows; None for a JSON file, whose rows take as long to count as to read."""
        return None if self._items_of is json_rows else sum(1 for _ in islice(self._items(), self._options.limit))

    def _items(self) -> Iterator[tuple[str, RowData]]:
        return self._items_of(self._path)

    def fingerprint(self) -> str:
        """Return a SHA-256 of the file, its name, the target names and the reading options."""
        digest = new_hash(self._options, self.target_names)
        hash_parts(digest, self._path.name)
        with self._path.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
        return digest.hexdigest()


TABLES: dict[str, Callable[[Path], Iterator[tuple[str, RowData]]]] = {
    ".json": json_rows,
    ".jsonl": jsonl_lines,
    ".xyz": xyz_rows,
    ".extxyz": xyz_rows,
    ".db": database_rows,
}


class RecordsTable(_Table):
    """List of dicts in memory, or a pandas ``DataFrame``, whose index is the id if no column is."""

    def __init__(self, records: Records, options: ReadingOptions) -> None:
        if isinstance(records, str):
            raise InputError(
                "the records are a str; expected a list of dicts, or a pandas DataFrame; a path is given as root_dir"
            )
        name = "the list of records"
        if not isinstance(records, Sequence):
            if not (hasattr(records, "columns") and hasattr(records, "index")):
                raise InputError(
                    f"the records are a {type(records).__name__}; expected a list of dicts, or a pandas DataFrame"
                )
            refuse_repeated(list(records.columns), "the DataFrame")
            has_name = options.id_key is None or options.id_key in records.index.names
            if has_name and records.index.nlevels == 1 and not any(key in records for key in options.row_id_keys):
                if not records.index.is_unique:  # as after pandas.concat
                    label = records.index[records.index.duplicated()][0]
                    raise InputError(
                        f"the index of the DataFrame, whose labels are the ids, has {label} several times; give the "
                        f"rows a column {options.id_keys[-1]} of ids that differ"
                    )
                records = records.rename_axis(options.id_keys[-1]).reset_index()
            records = records.to_dict("records")
            name = "the DataFrame"
        self._records = records
        super().__init__(name, options)
        self.n_rows = len(records) if options.limit is None else min(options.limit, len(records))

    def _items(self) -> Iterator[tuple[str, RowData]]:
        for number, record in enumerate(self._records, start=1):
            yield f"record {number}", record

    def fingerprint(self) -> str:
        """Return a SHA-256 of the records as read, the target names and the reading options."""
        return hash_rows(self.rows(), new_hash(self._options, self.target_names))


def crystal_row(identifier: str, properties: Mapping[str, Any], crystal: Crystal) -> dict[str, Any]:
    """Return a row with ``id``, the properties, ``lattice_mat`` (Angstrom), ``elements`` and ``frac_coords``."""
    return {
        "id": identifier,
        **properties,
        "lattice_mat": crystal.lattice.tolist(),
        "elements": crystal.elements,
        "frac_coords": crystal.frac_coords.tolist(),
    }


def write_rows(rows: Iterable[Mapping[str, Any]], path: Path, *, packed: bool) -> int:
    """Write rows to a JSONL file as they come and return their number.

    Args:
        rows: Rows from :func:`crystal_row`.
        path: Path of the file, which is not written atomically.
        packed: True to compress with gzip; equal rows give an equal file.
    """
    count = 0
    with _open(path, packed) as file:
        for row in rows:
            file.write(json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n")
            count += 1
    return count


@contextmanager
def _open(path: Path, packed: bool) -> Iterator[IO[str]]:
    with path.open("wb") as binary:
        if packed:
            # no name and no time in the header, so equal rows give an equal file
            with (
                gzip.GzipFile("", "wb", fileobj=binary, mtime=0) as archive,
                io.TextIOWrapper(archive, "utf-8") as text,
            ):
                yield text
        else:
            with io.TextIOWrapper(binary, "utf-8") as text:
                yield text
