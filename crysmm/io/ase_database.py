"""Rows of an ASE database in SQLite: its key-value pairs, energies and the like are properties.

ASE keeps all values as numbers, JSON or arrays in a format of its own: nothing is unpickled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crysmm.errors import InputError, brief
from crysmm.io.row import with_id

RESULTS = ("energy", "free_energy", "magmom", "dipole", "stress")  # of a calculator, kept beside the pairs


def database_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield location and fields of every row; the number of the row is the id, if no key is.

    Raises:
        InputError: The file is no database of ASE, or a row is damaged.
    """
    from ase import Atoms
    from ase.db import connect

    try:
        # ASE would make a database of any other file of SQLite
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'systems'").fetchone():
                raise InputError(f"{path} is no database of ASE: it has no table of systems")
        for row in connect(path, type="db", use_lock_file=False).select(include_data=False):
            results = {name: row[name] for name in RESULTS if name in row}
            atoms = Atoms(row.numbers, positions=row.positions, cell=row.cell, pbc=row.pbc)
            fields = {**results, **row.key_value_pairs, "atoms": atoms}
            yield f"{path.name}:row {row.id}", with_id(fields, row.id)
    except InputError:
        raise
    except Exception as error:  # ASE and SQLite on arbitrary files; their errors share no base class
        raise InputError(f"{path} cannot be read as a database of ASE: {brief(error)}; is it complete?") from error
