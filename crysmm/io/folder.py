"""Folders of structure files, with or without a table ``id_prop`` of ids and targets."""

from __future__ import annotations

import warnings
from pathlib import Path

from crysmm.errors import InputError, InputWarning, count, first_of
from crysmm.io.cells import cell_rows, header_above_structures, is_table_of_cells
from crysmm.io.files_source import FilesSource
from crysmm.io.id_prop import FolderTable
from crysmm.io.listing import ID_PROP, ID_PROP_JSON, FolderListing
from crysmm.io.row import STRUCTURE_KEYS, refuse_repeated
from crysmm.io.source import ReadingOptions, Source
from crysmm.io.structure_file import SUFFIXES
from crysmm.io.table import FileTable, open_table


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
