"""Entry points for input: open folders, tables, files and structures in memory as a :class:`Source`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from crysmm.config.run import FileFormat, RunConfig
from crysmm.config.training import TargetTransform, TrainingConfig
from crysmm.crystals.conversion import as_crystal
from crysmm.errors import InputError, StructureError
from crysmm.io.cells import is_table_of_cells
from crysmm.io.files_source import FilesSource
from crysmm.io.folder import open_cells, open_folder
from crysmm.io.row import is_structure
from crysmm.io.source import ReadingOptions, Record, Row, Source, encodable, new_hash
from crysmm.io.structure_file import parse_structure, read_file
from crysmm.io.table import Records, RecordsTable, hash_rows, open_table


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


def open_input(config: RunConfig, records: Records | None) -> Source:
    """Open the source in the settings, or the records given instead; with targets for a training run.

    Raises:
        InputError: Neither or both are given.
    """
    if (records is None) == (config.root_dir is None):
        raise InputError("give the structures to train on: either root_dir or records, not both")
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


@dataclass(frozen=True)
class StructureRow(Row):
    """Row of a structure in memory, or of the path of a structure file.

    Args:
        structure: Structure as :class:`StructuresSource` accepts it.
    """

    structure: Any

    def read(self) -> Record:
        """Return the structure without targets.

        Raises:
            StructureError: It cannot be read, or is something else.
        """
        if isinstance(self.structure, str | PathLike):
            text = self.structure if isinstance(self.structure, str) and is_structure(self.structure) else None
            read = read_file(self.structure) if text is None else parse_structure(text)
            return Record(self.id, read.crystal, (), self.file, read.notes, read.has_formula)
        try:
            return Record(self.id, as_crystal(self.structure), (), self.file)
        except TypeError as error:
            raise StructureError(str(error)) from error


class StructuresSource(Source):
    """Source of structures in memory for prediction; ids are their positions from 0, as text.

    Args:
        structures: JARVIS ``Atoms``, pymatgen ``Structure``, ``ase.Atoms``, ``Crystal``, a dict of one of these, or
            the path or the text of a file.
    """

    def __init__(self, structures: Sequence[Any]) -> None:
        self.target_names = ()
        self.n_rows = len(structures)
        self._structures = structures

    def rows(self) -> Iterator[StructureRow]:
        """Yield every row."""
        for position, structure in enumerate(self._structures):
            named = isinstance(structure, str | PathLike) and not is_structure(structure)
            file = encodable(str(structure)) if named else f"structure {position}"
            yield StructureRow(str(position), file, structure)

    def fingerprint(self) -> str:
        """Return a SHA-256 of all that reading yields."""
        return hash_rows(self.rows(), new_hash(ReadingOptions(needs_targets=False), ()))


def unusable_structure(number: str, reason: str, file: str | None = None) -> StructureError:
    """Return the error for one of several structures in memory.

    Args:
        number: Its number, counted from 0.
        reason: Why it cannot be used.
        file: Its file, if it was given as a path.
    """
    where = "" if file is None else f", {file}"
    return StructureError(f"structure {number} (counted from 0){where}: {reason}")
