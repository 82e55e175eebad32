"""Data sets as matminer distributes them: one JSON object of ``index``, ``columns`` and rows under ``data``.

A row holds a structure as pymatgen's dict and a value. Read row by row, so that size does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysmm.crystal import as_crystal
from crysmm.errors import InputError, StructureError
from crysmm.io.json_stream import json_object_items, open_text
from crysmm.io.source import Record
from crysmm.io.targets import read_number

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


def matminer_rows(path: Path, prefix: str, target: str) -> Iterator[MatminerRow]:
    """Every row of a data set, called as Matbench calls it.

    Args:
        path: of the file.
        prefix: what the ids begin with, such as ``mb-jdft2d``; the number of the row follows, from 1, with as many
            digits as the number of rows has.
        target: name of the column of the values.

    Raises:
        InputError: the file is not of this form.
    """
    members: dict[str, Any] = {}
    names: Iterator[str] | None = None
    places = (0, 0)
    for key, place, text in json_object_items(path, "data"):
        if key != "data":
            members[key] = json.loads(text)
            continue
        if names is None:
            places = _places(members, target, path)
            names = _names(members["index"], prefix)
        name = next(names, None)
        if name is None:
            raise InputError(f"{path} has more rows than its index; is it complete?")
        yield MatminerRow(name, place, text, places, target)


def _names(index: Sequence[int], prefix: str) -> Iterator[str]:
    digits = len(str(len(index)))
    return (f"{prefix}-{number + 1:0{digits}d}" for number in index)


def _places(members: Mapping[str, Any], target: str, path: Path) -> tuple[int, int]:
    index, columns = members.get("index"), members.get("columns")
    if not isinstance(index, list) or not isinstance(columns, list) or not all(type(i) is int for i in index):
        raise InputError(
            f"{path} is not a data set of matminer; expected an object of index, columns and data, in this order"
        )
    for name in (STRUCTURE, target):
        if name not in columns:
            raise InputError(f"{path} has no column {name!r}; it has {', '.join(map(str, columns))}")
    return columns.index(STRUCTURE), columns.index(target)
