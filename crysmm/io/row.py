"""One row that holds its structure: JSON text, or a dict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np

from crysmm.crystals.conversion import as_crystal
from crysmm.crystals.crystal import Crystal
from crysmm.crystals.statements import LARGEST_ROUNDING, is_null, refuse_statements
from crysmm.errors import InputError, StructureError, shown
from crysmm.graphs.distances import sorted_distances
from crysmm.io.formula import Formula
from crysmm.io.source import ID_KEYS, Reading
from crysmm.io.structure_file import parse_structure
from crysmm.keys import load_json

HOLDERS = ("atoms", "structure", "cif")  # of a structure: a dict, or the text of a file; the first that is not null
CELLS = ("lattice_mat", "lattice_vectors", "lattice")  # of rows that are the dict of a structure themselves
STRUCTURE_KEYS = frozenset(
    {*HOLDERS, *CELLS, "elements", "frac_coords", "coords", "cartesian", "sites"}
    | {"cartesian_site_positions", "species", "species_at_sites", "dimension_types", "nperiodic_dimensions"}
)
OF_STRUCTURE = re.compile(
    r"lattice|cell|length|pos|coord|site|occupanc", re.IGNORECASE
)  # other fields may be properties
FORMULAS = frozenset({"formula", "formula_pretty", "pretty_formula", "reduced_formula"})  # of a row
LARGEST_RATIO = 1.01  # of the volumes of one crystal that is given twice
LARGEST_DIFFERENCE = 2 * LARGEST_ROUNDING  # Angstrom, between its distances, of which both atoms may be rounded
RowData = Mapping[str, Any] | str | StructureError  # the last in the place of a row that is none


def parse_row(data: RowData) -> Mapping[str, Any]:
    """Return the fields of a row; of an OPTIMADE entry, its attributes and its id.

    Raises:
        StructureError: The text is not a JSON object, or there is no row.
    """
    if isinstance(data, StructureError):
        raise data
    if isinstance(data, str):
        try:
            data = load_json(data)
        except (ValueError, RecursionError) as error:
            raise StructureError(f"broken JSON: {error}") from error
    if not isinstance(data, Mapping):
        raise StructureError(f"expected a row of named fields, got {type(data).__name__}")
    attributes = data.get("attributes")
    if isinstance(attributes, Mapping) and is_structure(attributes):
        return {**attributes, "id": data.get("id")}
    return data


def read_row(fields: Mapping[str, Any]) -> Reading:
    """Return the structure in a row: under one of ``HOLDERS``, or in the fields themselves.

    Raises:
        StructureError: The row contains no usable structure, or two that are different crystals.
    """
    is_dict = is_structure(fields)
    held = {key: fields[key] for key in HOLDERS if not is_null(fields.get(key))}
    # beside a structure, structure = rocksalt and atoms = 2 are properties
    usable = {key: value for key, value in held.items() if is_structure(value) or not isinstance(value, str | Number)}
    held = usable if usable or is_dict else held
    if not held and not is_dict:
        if empty := next((key for key in HOLDERS if key in fields and is_null(fields[key])), None):
            raise StructureError(f"no structure: {empty} is empty")
        raise StructureError(
            f"no structure: expected one under {', '.join(HOLDERS[:-1])} or {HOLDERS[-1]}, or the keys lattice_mat, "
            f"elements and frac_coords, got {', '.join(sorted(map(str, fields))) or 'none'}{_hint(fields)}"
        )
    *before, cif = map(held.get, HOLDERS)  # the text of a file comes last
    structure, *others = (one for one in (*before, fields if is_dict else None, cif) if one is not None)
    reading = _read_structure(structure)
    for other in filter(is_structure, others):
        try:
            difference = _difference(reading.crystal, _read_structure(other).crystal)
        except StructureError:
            continue  # the first one that is there counts, and contradicts nothing
        if difference:
            names = " and ".join((*held, *(key for key in CELLS if key in fields)))
            raise StructureError(f"{names} hold different crystals: {difference}; keep one of them")
    said = {name: value for name, value in fields.items() if OF_STRUCTURE.search(str(name))}
    refuse_statements(said, len(reading.crystal))
    for name in FORMULAS & fields.keys():
        formula = Formula.parse(fields[name]) if isinstance(fields[name], str) else None
        if formula is not None and formula.missing_hydrogen(Counter(reading.crystal.elements)) is None:
            raise StructureError(
                f"the row contradicts itself: {name} is {shown(fields[name])}, its structure "
                f"{reading.crystal.formula}; correct the one that is wrong"
            )
    return reading


def _hint(fields: Mapping[str, Any]) -> str:
    """Say how fields that hold no structure of their own are read, where they are those of a known format."""
    if "__ase_objtype__" in fields or {"ids", "nextid"} <= fields.keys():
        return "; ase convert FILE FILE.extxyz converts ASE's own JSON"
    return "; a response of OPTIMADE is read with --root_dir FILE" if "data" in fields else ""


def _difference(one: Crystal, other: Crystal) -> str:
    """Return how two crystals differ, in words; empty if they are one, rounded differently.

    Raises:
        StructureError: Their distances cannot be found.
    """
    if one.checksum == other.checksum:
        return ""
    formulas, volumes = zip(
        *((crystal.formula, crystal.volume / len(crystal)) for crystal in (one, other)), strict=True
    )
    if formulas[0] != formulas[1] or max(volumes) > LARGEST_RATIO * min(volumes):
        found = " and ".join(f"{formula} of {volume:.4g}" for formula, volume in zip(formulas, volumes, strict=True))
        return f"{found} cubic Angstrom per atom"
    difference = sorted_distances(one).difference(sorted_distances(other))
    if difference > LARGEST_DIFFERENCE:
        return f"their interatomic distances differ by up to {difference:.2f} Angstrom"
    return ""


def _read_structure(structure: Any) -> Reading:
    if isinstance(structure, str) and not _is_text_of_structure(structure):
        raise StructureError(f"the structure cannot be read: {shown(structure)} is not the text of a structure file")
    try:
        return parse_structure(structure) if isinstance(structure, str) else Reading(as_crystal(structure))
    except TypeError as error:
        raise StructureError(f"the structure cannot be read: {error}") from error


def holds_structure(fields: Mapping[str, Any]) -> bool:
    """Return whether a row holds a structure, rather than the name of its file."""
    return any(is_structure(fields.get(key)) for key in HOLDERS) or is_structure(fields)


def is_structure(value: Any) -> bool:
    """Return whether a value seems to be the dict of a structure, or the text of a structure file."""
    if isinstance(value, str):
        return _is_text_of_structure(value)
    return isinstance(value, Mapping) and any(
        isinstance(value.get(key), Mapping | list | tuple | np.ndarray) for key in CELLS
    )


def _is_text_of_structure(text: str) -> bool:
    return "\n" in text.strip() or text.lstrip().startswith("{")


def refuse_repeated(columns: Sequence[Any], table: object, used: Collection[str] | None = None) -> None:
    """Refuse a table with two columns of one name, of which nothing shows the one that is meant.

    Args:
        columns: Names of the columns.
        table: Name of the table.
        used: Names that matter; by default all.

    Raises:
        InputError: One of the names is there twice; the text gives their places.
    """
    names = list(map(str, columns))
    for name, count in Counter(names).items():
        if count > 1 and (used is None or name in used):
            places = " and ".join(str(place) for place, other in enumerate(names, 1) if other == name)
            raise InputError(
                f"{table} has {count} columns {name!r}, number {places}; keep one, or give them different names"
            )


def with_id(fields: Mapping[str, Any], index: Any) -> Mapping[str, Any]:
    """Return a row with its place in an index as ``id``, if it has no other."""
    return fields if fields.keys() & set(ID_KEYS) else {**fields, "id": index}
