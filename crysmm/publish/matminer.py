"""Data sets as matminer distributes them: one JSON object of ``index``, ``columns`` and rows under ``data``.

A row holds a structure as pymatgen's dict and a value. Read row by row, so that size does not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysmm.crystal import as_crystal
from crysmm.data.json_text import json_object_items, open_text
from crysmm.data.source import Record, Row, SkippedRow, Source
from crysmm.data.targets import read_number
from crysmm.errors import InputError, StructureError

STRUCTURE = "structure"


def is_matminer_table(path: Path) -> bool:
    """Whether a path is a JSON file that holds an object, where other tables hold a list or lines."""
    if not path.is_file() or not path.name.endswith((".json", ".json.gz", ".json.zip")):
        return False
    with open_text(path) as stream:
        return stream.read(64).lstrip().startswith("{")


@dataclass(frozen=True)
class MatminerRow:
    """One row, its structure not read yet."""

    id: str
    file: str
    text: str
    places: tuple[int, int]
    target: str

    def read(self) -> Record:
        """The record.

        Raises:
            StructureError: the structure or the value cannot be used.
        """
        cells = json.loads(self.text)
        if not isinstance(cells, list) or len(cells) <= max(self.places):
            raise StructureError("the row has fewer cells than there are columns")
        structure, value = (cells[place] for place in self.places)
        try:
            crystal = as_crystal(structure)
        except TypeError as error:
            raise StructureError(f"the structure cannot be read: {error}") from error
        return Record(self.id, crystal, (read_number(value, self.target),), self.file)


class MatminerTable(Source):
    """A data set, whose rows are called as Matbench calls them.

    Args:
        path: of the file.
        prefix: what the ids begin with, such as ``mb-jdft2d``; the number of the row follows, from 1, with as many
            digits as the number of rows has.
        target: name of the column of the values.
    """

    def __init__(self, path: Path, prefix: str, target: str) -> None:
        self._path, self._prefix = path, prefix
        self.target_names = (target,)
        self.n_rows = None

    def rows(self) -> Iterator[Row | SkippedRow]:
        """Every row.

        Raises:
            InputError: the file is not of this form.
        """
        (target,) = self.target_names
        members: dict[str, Any] = {}
        names: Iterator[str] | None = None
        places = (0, 0)
        for key, place, text in json_object_items(self._path, "data"):
            if key != "data":
                members[key] = json.loads(text)
                continue
            if names is None:
                places = self._places(members, target)
                names = self._names(members["index"])
            name = next(names, None)
            if name is None:
                raise InputError(f"{self._path} has more rows than its index; is it complete?")
            yield MatminerRow(name, place, text, places, target)

    def _names(self, index: Sequence[int]) -> Iterator[str]:
        digits = len(str(len(index)))
        return (f"{self._prefix}-{number + 1:0{digits}d}" for number in index)

    def _places(self, members: dict[str, Any], target: str) -> tuple[int, int]:
        index, columns = members.get("index"), members.get("columns")
        if not isinstance(index, list) or not isinstance(columns, list) or not all(type(i) is int for i in index):
            raise InputError(
                f"{self._path} is not a data set of matminer; expected an object of index, columns and data, in this "
                "order"
            )
        for name in (STRUCTURE, target):
            if name not in columns:
                raise InputError(f"{self._path} has no column {name!r}; it has {', '.join(map(str, columns))}")
        return columns.index(STRUCTURE), columns.index(target)

    def fingerprint(self) -> str:
        """Sha256 over the file, and what its ids and its column are called."""
        digest = hashlib.sha256(f"matminer {self._prefix} {self.target_names}\n".encode())
        with self._path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()
