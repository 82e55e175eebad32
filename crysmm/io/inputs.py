"""Entry points for input: open folders, tables, files and structures in memory as a :class:`Source`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.crystal import as_crystal
from crysmm.errors import InputError, StructureError
from crysmm.io.cells import is_table_of_cells
from crysmm.io.folder import FileRow, FilesSource, open_cells, open_folder
from crysmm.io.source import (
    FileFormat,
    ReadingOptions,
    Record,
    Row,
    SkippedRow,
    Source,
    TargetTransform,
    encodable,
    new_hash,
)
from crysmm.io.structure_file import read_file
from crysmm.io.table import Records, RecordsTable, hash_rows, open_table

__all__ = [
    "FileRow",
    "ReadingOptions",
    "Record",
    "Row",
    "SkippedRow",
    "Source",
    "open_input",
    "open_source",
    "source_from_files",
    "source_from_records",
    "source_from_structures",
]


def open_source(
    root_dir: str | PathLike[str],
    *,
    target_key: str | None = None,
    id_key: str | None = None,
    file_format: FileFormat | None = None,
    target_transform: TargetTransform = "none",
    target_multiplication_factor: float | None = None,
    limit: int | None = None,
    needs_targets: bool = True,
) -> Source:
    """Open a folder or a table of structures.

    Args:
        root_dir: Folder with ``id_prop.json.zip``, ``id_prop.json`` or ``id_prop.csv`` (searched in this order), or a
            file of rows with structures, one of :data:`crysmm.io.table.TABLES`.
        target_key: Name of the target, or several separated by commas; by default the only one present.
        id_key: Name of the id; by default ``jid``, else ``id``, else the first column of a CSV file.
        file_format: Format of all structure files; by default determined file by file.
        target_transform: Transform the targets must allow; they stay in the units of the file.
        target_multiplication_factor: Factor for every target.
        limit: Largest number of rows to read.
        needs_targets: False to read no targets; a folder then needs no ``id_prop`` file.

    Raises:
        InputError: The path cannot be used as an input.
    """
    options = ReadingOptions(
        target_key, id_key, file_format, target_transform, target_multiplication_factor, limit, needs_targets
    )
    return _open_path(Path(root_dir), options)


def _open_path(path: Path, options: ReadingOptions) -> Source:
    if path.is_dir():
        return open_folder(path, options)
    if path.is_file() and is_table_of_cells(path.name):
        return open_cells(path, options)
    if path.is_file():
        return open_table(path, options)
    raise InputError(f"{path} does not exist; expected a folder with structures, or a file of many of them")


def source_from_records(
    records: Records,
    *,
    target_key: str | None = None,
    id_key: str | None = None,
    target_transform: TargetTransform = "none",
    target_multiplication_factor: float | None = None,
    limit: int | None = None,
    needs_targets: bool = True,
) -> Source:
    """Open a list of dicts with structures and properties, as returned by ``jarvis.db.figshare.data``.

    Args:
        records: Rows with ``atoms`` or ``structure``, or with ``lattice_mat``, ``elements`` and ``frac_coords``; or a
            pandas ``DataFrame`` of them, whose index is the id if no column is.
        target_key, id_key, target_transform, target_multiplication_factor, limit, needs_targets: As in
            :func:`open_source`.

    Raises:
        InputError: The list is empty or lacks the target or id.
    """
    options = ReadingOptions(
        target_key, id_key, None, target_transform, target_multiplication_factor, limit, needs_targets
    )
    return RecordsTable(records, options)


def open_input(config: RunConfig, records: Records | None) -> Source:
    """Open the source in the settings, or the records given instead; with targets for a training run.

    Raises:
        InputError: Neither or both are given.
    """
    if (records is None) == (config.root_dir is None):
        raise InputError("give the structures to learn from: either root_dir or records, not both")
    options = ReadingOptions(
        id_key=config.id_key,
        file_format=config.file_format if records is None else None,
        limit=config.limit,
        needs_targets=False,
    )
    if isinstance(config, TrainingConfig):
        options = replace(
            options,
            target_key=config.target_key,
            target_transform=config.target_transform,
            target_multiplication_factor=config.target_multiplication_factor,
            needs_targets=True,
        )
    if records is not None:
        return RecordsTable(records, options)
    assert config.root_dir is not None
    return _open_path(config.root_dir, options)


def source_from_files(paths: Sequence[str | PathLike[str]], *, file_format: FileFormat | None = None) -> Source:
    """Open structure files for prediction; ids are file names, or paths as given if names repeat."""
    names = [Path(path).name for path in paths]
    ids = names if len(set(names)) == len(names) else [str(path) for path in paths]
    entries = [(identifier, Path(path)) for identifier, path in zip(ids, paths, strict=True)]
    return FilesSource(entries, ReadingOptions(file_format=file_format, needs_targets=False))


def source_from_structures(structures: Sequence[Any], ids: Sequence[str] | None = None) -> Source:
    """Open structures in memory for prediction.

    Args:
        structures: JARVIS ``Atoms``, pymatgen ``Structure``, ``ase.Atoms``, ``Crystal``, a dict of one of these, or
            the path of a file.
        ids: Unique ids, one per structure; by default the positions in the list, as text.

    Raises:
        InputError: The ids do not match the structures in number, or are not unique.
    """
    if ids is None:
        ids = [str(position) for position in range(len(structures))]
    if len(ids) != len(structures) or len(set(map(str, ids))) != len(structures):
        raise InputError(f"{len(structures)} structures need as many different ids; got {len(set(ids))}")
    return _StructuresSource(structures, [str(identifier) for identifier in ids])


@dataclass(frozen=True)
class _StructureRow(Row):
    structure: Any

    def read(self) -> Record:
        if isinstance(self.structure, str | PathLike):
            read = read_file(self.structure)
            return Record(self.id, read.crystal, (), self.file, read.notes, read.has_formula)
        try:
            return Record(self.id, as_crystal(self.structure), (), self.file)
        except TypeError as error:
            raise StructureError(str(error)) from error


class _StructuresSource(Source):
    def __init__(self, structures: Sequence[Any], ids: list[str]) -> None:
        self.target_names = ()
        self.n_rows = len(ids)
        self._structures = structures
        self._ids = ids

    def rows(self) -> Iterator[Row | SkippedRow]:
        for position, (identifier, structure) in enumerate(zip(self._ids, self._structures, strict=True)):
            named = isinstance(structure, str | PathLike)
            file = encodable(str(structure)) if named else f"structure {position + 1}"
            yield _StructureRow(identifier, file, structure)

    def fingerprint(self) -> str:
        return hash_rows(self.rows(), new_hash(ReadingOptions(needs_targets=False), ()))
