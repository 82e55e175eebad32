"""Rows of a JSON file: a list, a pandas ``DataFrame`` in any of its orients, Matbench's data, an OPTIMADE response.

OPTIMADE: Andersen et al., Sci. Data 8, 217 (2021).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crysmm.errors import InputError, InputWarning, first_of
from crysmm.io.json_stream import json_list_items, json_object_items, open_text
from crysmm.io.row import HOLDERS, RowData, holds_structure, is_structure, refuse_repeated, with_id
from crysmm.keys import load_json


def json_rows(path: Path) -> Iterator[tuple[str, RowData]]:
    """Yield location and content of every row; the index of a ``DataFrame`` is the id, if no column is.

    A list is read piece by piece, and so is the list ``data`` in an object.

    Raises:
        InputError: The file is broken, or holds no table; also as in :func:`open_text`.
    """
    with open_text(path) as stream:
        is_object = stream.read(64).lstrip().startswith("{")
    if not is_object:
        yield from json_list_items(path)
        return
    members: dict[str, Any] = {}
    n_rows = 0
    for key, place, text in json_object_items(path, "data"):
        if key == "data" and text and place != f"{path.name}:data":
            yield place, _row_of_data(text, n_rows, members)
            n_rows += 1
        else:
            if key in members:
                raise InputError(f"{path} has the key {key!r} twice; keep one")
            members[key] = _load(text, place)
            if key == "columns" and isinstance(members[key], list):
                refuse_repeated(members[key], path)
    if not n_rows:
        for number, row in enumerate(_rows_of_object(members, path), 1):
            yield f"{path.name}:row {number}", row
    meta = members.get("meta")
    if isinstance(meta, Mapping) and meta.get("more_data_available") is True:
        total = meta.get("data_returned")
        of_all = f" of {total}" if isinstance(total, int) else ""
        warnings.warn(
            f"{path} is one page of an OPTIMADE response, {n_rows}{of_all} structures; the others are not in the file",
            InputWarning,
            stacklevel=2,
        )


def _load(text: str, place: str) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is broken JSON: {error}") from error


def _row_of_data(text: str, number: int, members: Mapping[str, Any]) -> RowData:
    """Return an item of ``data``: cells below ``columns``, or the row as it is."""
    columns, index = members.get("columns"), members.get("index")
    if not isinstance(columns, list):
        return text
    try:
        row = load_json(text)
    except (ValueError, RecursionError):
        return text  # refused where the row is parsed
    if not isinstance(row, list) or len(row) != len(columns):
        return text
    key = index[number] if isinstance(index, list) and number < len(index) else number
    return with_id(dict(zip(map(str, columns), row, strict=True)), key)


def _rows_of_object(members: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of an object by columns, by index, or with one OPTIMADE entry.

    Raises:
        InputError: It is none of these.
    """
    entry = members.get("data")
    if isinstance(entry, Mapping) and is_structure(entry.get("attributes")):
        yield entry
    elif holds_structure(members) and not _is_column(members):
        raise InputError(f"{path} holds a single structure, which is predicted with --files; a table has several")
    elif _is_column(members):
        columns = {
            key: dict(enumerate(values)) if isinstance(values, list) else values for key, values in members.items()
        }
        if len(set(map(type, members.values()))) > 1 or not all(isinstance(v, Mapping) for v in columns.values()):
            raise InputError(
                f"{path} has columns of different kinds; expected each as a list, or as an object by index"
            )
        for index in dict.fromkeys(index for values in columns.values() for index in values):
            yield with_id({key: values[index] for key, values in columns.items() if index in values}, index)
    elif members and all(isinstance(row, Mapping) and holds_structure(row) for row in members.values()):
        for index, row in members.items():
            yield with_id(row, index)
    else:
        raise InputError(
            f"{path} is an object with {first_of(list(members)) or 'nothing'} and not a JSON list of rows, a pandas "
            "DataFrame or an OPTIMADE response; for one row a line name the file .jsonl"
        )


def _is_column(members: Mapping[str, Any]) -> bool:
    """Return whether a member is a column of structures: a list of them, or an object by index."""
    if isinstance(members.get("lattice_mat"), Mapping):
        return True
    for values in filter(None, map(members.get, HOLDERS)):
        cells = values.values() if isinstance(values, Mapping) else values if isinstance(values, list) else ()
        if any(map(is_structure, cells)):
            return True
    return False
