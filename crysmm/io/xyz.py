"""Strict reading of extended xyz: the header and the rows must agree about every atom.

A file with many frames is a table: the keys in the second line of a frame are its properties.

ASE reads this format too, but silently ignores keys in other case than its own (``PBC``), columns without a name and
everything after an empty line; it prefers an atomic number over the symbol beside it, and puts atoms without a position
at the origin.
Format: https://github.com/libAtoms/extxyz
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crysmm.crystals.crystal import Crystal, to_fractional
from crysmm.crystals.statements import (
    NOT_PERIODIC,
    OCCUPANCY,
    UNITS,
    UNITS_OF_LENGTHS,
    are_cartesian,
    refuse_other_sites,
    refuse_statements,
    refuse_vacancies,
)
from crysmm.elements import ATOMIC_NUMBERS, SYMBOLS
from crysmm.errors import InputError, StructureError, shown
from crysmm.io.json_stream import open_text
from crysmm.io.poscar import is_number, read_number
from crysmm.io.source import ID_KEYS

KEY = r"(?<![\w-])([\w-]++)\s*=\s*"
NESTED = r"\{(?:[^{}]|\{[^{}]*\})*+\}|\[(?:[^\[\]]|\[[^\[\]]*\])*+\]"
PAIR = re.compile(  # a key and its value, which may be in quotes or brackets; behind a blank it may be the next key
    rf"""{KEY}("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|{NESTED}|(?!(?<=\s)[\w-]++\s*=)[^\s"'{{\[]\S*)(?=[\s,]|$)"""
)
HALF_PAIR = re.compile(rf"""{KEY}["'{{\[]|(?i:(?<![\w-])(?:lattice|properties|pbc|\w*units?|occupancy)\s*=)""")
SEVERAL_OF_PBC = re.compile(r"(?i)(?<![\w-])pbc\s*=\s*\w+,?\s+(?:t|f|true|false|0|1)(?![\w=-])")
PLAIN = "species:S:1:pos:R:3"  # the columns if the header names none
OTHER_NAMES = {"symbols": "species", "numbers": "z", "positions": "pos"}
ALIASES = {  # names of columns that are read without those of the format, and compared with them otherwise
    **dict.fromkeys(("symbol", "element", "elements"), "species"),
    **dict.fromkeys(("atomic_number", "atomic_numbers"), "z"),
    "position": "pos",
}
FRACTIONAL_SITES = re.compile(  # names of columns with a site a second time, in lower case
    r"(?:scaled|frac(?:tional)?|direct|crystal)_?(?:pos(?:ition)?|coord(?:inate)?)s?"
)
NOT_T = {"f", "false", "0", "no", "none", "off", "slab", "x", "y", "z", "xy", "yz", "xz"}  # in lower case
WIDTHS = {"species": 1, "z": 1, "pos": 3, "occupancy": 1}  # number of columns
NO_PROPERTY = re.compile(  # keys of the header, in lower case, of the cell and of units of lengths
    rf"lattice|properties|pbc|periodic|{UNITS.pattern}|{UNITS_OF_LENGTHS.pattern}"
)
ANGSTROM = ("angstrom", "angstroms", "ang", "a", "å", "metal", "real")  # the last two are sets of units of LAMMPS
AS_JSON = "_JSON "  # begins a value that ASE has no other way to write
LARGEST_FRAME = 1 << 21  # atoms; more are a wrong number, and the rest of the file would be read at once


def parse_xyz(text: str) -> Crystal:
    """Return the structure in an extended xyz file, or in a plain one that ends with the cell, ``VEC1`` to ``VEC3``.

    Raises:
        StructureError: A line or key cannot be read, or two statements contradict each other.
    """
    lines = re.split(r"\r\n|\r|\n", text)
    frames = _find_frames(lines)
    if len(frames) != 1:
        raise StructureError(
            f"the file holds {len(frames)} structures; expected one a file, or all of them read by --root_dir FILE"
        )
    (atoms,) = frames
    header = _read_header(lines[atoms.start - 1])
    for key, value in header.items():
        is_unit = UNITS.fullmatch(key) or UNITS_OF_LENGTHS.fullmatch(key)
        if is_unit and re.split(r"[\s,;]+", value.strip().lower())[0] not in ANGSTROM:
            raise StructureError(f"the unit is {shown(value)} ({key}); expected Angstrom")
        if are_cartesian(key, value) is False:
            raise StructureError(f"the coordinates are {value} ({key}); expected Cartesian ones, in Angstrom")
    lattice = _read_lattice(header, [line for line in lines[atoms.stop :] if line.strip()])
    _refuse_not_periodic(header)
    places = _read_properties(header.get("properties", PLAIN))
    rows = _read_rows(lines, atoms, places, exact="properties" in header)
    positions = _read_numbers(rows, places["pos"], atoms.start)
    if "occupancy" in places:
        refuse_vacancies(_read_numbers(rows, places["occupancy"], atoms.start)[:, 0])
    kinds = [kind for row in rows for kind in row[places.get("spacegroup_kinds", slice(0))]]
    refuse_statements({key: _value(header[key]) for key in filter(OCCUPANCY.fullmatch, header)}, len(rows), kinds)
    elements = _read_elements(rows, places, atoms.start)
    _refuse_other_elements(rows, places, elements)
    sites = to_fractional(lattice, positions)
    for name, place in places.items():
        if name not in WIDTHS and place.stop - place.start == WIDTHS["pos"] and FRACTIONAL_SITES.fullmatch(name):
            others = _read_numbers(rows, place, atoms.start)
            refuse_other_sites(lattice, sites, others, cartesian=False)
    return Crystal.from_arrays(lattice, sites, elements)


def xyz_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield location and fields of every frame in a file: the properties in its header, and its text as ``atoms``.

    A frame without ``jid``, ``id`` or ``material_id`` gets the id ``train.xyz#1``, ``train.xyz#2``, ...

    Raises:
        InputError: A frame does not begin with its number of atoms; also as in :func:`open_text`.
    """
    for number, frame in enumerate(_split_frames(path), 1):
        fields: dict[str, Any] = {}
        for key, value in _pairs("".join(frame[1:2])):
            # a key given twice holds no number, so that the frame is refused where the key is a target
            if not NO_PROPERTY.fullmatch(key.lower()):
                fields[key] = f"{fields[key]} and {value}" if key in fields else _value(value)
        if not fields.keys() & ID_KEYS:
            fields["id"] = f"{path.name}#{number}"
        yield f"{path.name}:frame {number}", {**fields, "atoms": "".join(frame)}


def _split_frames(path: Path) -> Iterator[list[str]]:
    """Yield the lines of each frame."""
    frame: list[str] = []
    n_missing = 0
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if n_missing:
                frame.append(line)
                n_missing -= 1
            elif line.startswith("VEC") and frame:
                frame.append(line)
            elif line.strip():
                if frame:
                    yield frame
                frame, n_missing = [line], _count_atoms(line, number, path) + 1
    if frame:
        yield frame


def _count_atoms(line: str, number: int, path: Path) -> int:
    word = line.strip()
    count = int(word) if word.isdecimal() and len(word) < 20 else LARGEST_FRAME + 1
    if count > LARGEST_FRAME:
        raise InputError(
            f"line {number} of {path} is {shown(word)}; expected the number of atoms in the next frame, up to "
            f"{LARGEST_FRAME:,}: is the number before it right, and the file complete?"
        )
    return count


def _value(text: str) -> Any:
    """Return the value of a key: true or false, several numbers, what ASE writes as JSON, or the text as it is."""
    if text in ("T", "F"):
        return text == "T"
    words = text.replace(",", " ").split()
    try:
        if text.startswith(AS_JSON):
            return json.loads(text.removeprefix(AS_JSON))
        return [float(word) for word in words] if len(words) > 1 else text
    except (ValueError, RecursionError):
        return text


def _find_frames(lines: Sequence[str]) -> list[range]:
    """Return the line indices of the atoms, one range per structure."""
    frames: list[range] = []
    index = 0
    while index < len(lines):
        line = lines[index].strip()
        if line.isdecimal():
            count, start = int(line[:20]), index + 2
            if start + count > len(lines):
                raise StructureError(f"the xyz file is cut off: {count:.15g} atoms in {len(lines) - index} lines")
            frames.append(range(start, start + count))
            index = start + count
        elif not line or (frames and line.startswith("VEC")):
            index += 1
        else:
            expected = f"nothing behind its {len(frames[-1])} atoms" if frames else "the number of atoms"
            raise StructureError(f"line {index + 1} of the xyz file is {shown(line)}; expected {expected}")
    return frames


def _read_header(line: str) -> dict[str, str]:
    """Return the values in the second line by lower-case key."""
    header: dict[str, str] = {}
    for key, value in _pairs(line):
        key = key.lower()
        if key in header and NO_PROPERTY.fullmatch(key):
            raise StructureError(f"line 2 of the xyz file has {key} twice; keep one")
        header[key] = value
    rest = PAIR.sub(" ", line)
    unread = HALF_PAIR.search(rest) or SEVERAL_OF_PBC.search(line)
    if unread or rest.count('"') % 2:
        found = shown((unread[0] if unread else rest).strip())
        raise StructureError(f"line 2 of the xyz file cannot be read at {found}: is a quote missing?")
    return header


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """Yield keys as written and their values without quotes or brackets."""
    for key, value in PAIR.findall(line):
        yield key, re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] in "\"'{[" else value


def _read_lattice(header: Mapping[str, str], vectors: Sequence[str]) -> np.ndarray:
    """Return the cell in the header, or in the lines after the atoms."""
    if vectors and "lattice" in header:
        raise StructureError("the xyz file has two cells, Lattice and lines VEC; keep one")
    if not vectors and "lattice" not in header:
        raise StructureError('the xyz file has no cell; extended xyz has Lattice="..." in its second line')
    if vectors:
        if [line.split()[0] for line in vectors] != ["VEC1", "VEC2", "VEC3"]:
            raise StructureError(f"{NOT_PERIODIC}: lines VEC1, VEC2 and VEC3 behind the atoms")
        rows, what = [line.split()[1:] for line in vectors], "lines VEC1 to VEC3 hold"
    else:
        rows, what = [header["lattice"].replace(",", " ").split()], "Lattice holds"
    try:
        lattice = np.array([[read_number(word) for word in row] for row in rows]).reshape(3, 3)
    except ValueError:
        found = shown(", ".join(map(" ".join, rows)))
        raise StructureError(f"{what} {found}; expected nine numbers") from None
    others = [word for word in re.split(r"[\s,\[\]]+", header.get("cell", "").removeprefix(AS_JSON)) if word]
    other = np.array([read_number(word) for word in others]) if all(map(is_number, others)) else lattice
    if other.size == 9 and other.any() and not np.allclose(other.reshape(3, 3), lattice, rtol=1e-3, atol=1e-3):
        raise StructureError(f"the xyz file has two cells, Lattice and cell, {shown(header['cell'])}; keep one")
    return lattice


def _refuse_not_periodic(header: Mapping[str, str]) -> None:
    """Refuse a header whose ``pbc``, if present, is not T T T, or whose ``periodic`` leaves out a direction.

    Raises:
        StructureError: A direction is not periodic, or ``pbc`` cannot be read.
    """
    words, others = (
        header.get(key, "T").strip("[]").replace(",", " ").lower().split()  # numpy writes [ True  True  True]
        for key in ("pbc", "periodic")
    )
    if len(words) not in (1, 3) or not set(words) <= {"t", "true", "1", "f", "false", "0"}:
        raise StructureError(f"pbc is {shown(header['pbc'])}; expected T T T, for a full cell")
    if NOT_T & {*words, *others}:
        raise StructureError(NOT_PERIODIC)


def _read_properties(text: str) -> dict[str, slice]:
    """Return the columns of each property: ``species`` or ``z`` (or both), ``pos``, and others."""
    fields = text.split(":")
    if len(fields) % 3 or not all(width.isdecimal() for width in fields[2::3]):
        raise StructureError(f"Properties is {shown(text)}; expected names, types and widths, such as {PLAIN}")
    places: dict[str, slice] = {}
    end = 0
    for name, kind, width in zip(fields[::3], fields[1::3], map(int, fields[2::3]), strict=True):
        start, end = end, end + width
        key = OTHER_NAMES.get(name.lower(), name.lower())
        if OCCUPANCY.fullmatch(name) and kind.upper() in ("R", "I") and width == 1:
            key = "occupancy"
        if key in places and key in WIDTHS:
            raise StructureError(f"Properties, {shown(text)}, names {key} twice; keep one")
        if width != WIDTHS.get(key, width):
            raise StructureError(f"Properties, {shown(text)}, has {width} columns of {name}; expected {WIDTHS[key]}")
        places[key] = slice(start, end)
    for name, key in ALIASES.items():
        is_missing = "pos" not in places if key == "pos" else not {"species", "z"} & places.keys()
        if is_missing and name in places and places[name].stop - places[name].start == WIDTHS[key]:
            places[key] = places.pop(name)
    if "pos" not in places or not ("species" in places or "z" in places):
        raise StructureError(f"Properties is {shown(text)}; expected species (or Z) and pos, such as {PLAIN}")
    return places


def _read_rows(lines: Sequence[str], atoms: range, places: Mapping[str, slice], exact: bool) -> list[list[str]]:
    """Return the words in the line of each atom: as many as there are columns, or more unless ``exact``."""
    expected = max(place.stop for place in places.values())
    rows = [lines[index].split() for index in atoms]
    for found, row in enumerate(rows):
        if not row:
            raise StructureError(f"the xyz file is cut off: {found} of {len(rows)} lines of atoms")
        if len(row) < expected or (exact and len(row) > expected):
            line = atoms.start + found
            raise StructureError(
                f"line {line + 1} of the xyz file, {shown(lines[line].strip())}, has {len(row)} columns; "
                f"expected {expected}{' by Properties' if exact else ''}"
            )
    return rows


def _read_numbers(rows: Sequence[Sequence[str]], place: slice, start: int) -> np.ndarray:
    """Return the numbers in some columns, ``[n_atoms, n_columns]``."""
    numbers = np.empty((len(rows), place.stop - place.start))
    for atom, row in enumerate(rows):
        try:
            numbers[atom] = [read_number(word) for word in row[place]]
        except ValueError:
            found = shown(" ".join(row[place]))
            raise StructureError(f"line {start + atom + 1} of the xyz file has {found}; expected numbers") from None
    return numbers


def _read_elements(rows: Sequence[Sequence[str]], places: Mapping[str, slice], start: int) -> list[str | None]:
    """Return the element of each atom from its symbol, its atomic number, or both, which must agree."""
    elements = []
    for atom, row in enumerate(rows, 1):
        where = f"atom {atom} (line {start + atom}) of the xyz file"
        element = None
        if "species" in places:
            (word,) = row[places["species"]]
            element = _element(word)
            if element is None:
                raise StructureError(f"{where} is {shown(word)}; expected an element symbol such as 'Si'")
        if "z" in places:
            (word,) = row[places["z"]]
            number = int(word) if word.isdecimal() else 0
            if not 0 < number < len(SYMBOLS):
                raise StructureError(f"{where} has Z {shown(word)}; expected an atomic number")
            if element not in (None, SYMBOLS[number]):
                raise StructureError(f"{where} is {element} and has Z {number}; correct the one that is wrong")
            element = SYMBOLS[number]
        elements.append(element)
    return elements


def _refuse_other_elements(
    rows: Sequence[Sequence[str]], places: Mapping[str, slice], elements: Sequence[str | None]
) -> None:
    """Refuse atoms whose element is another in a second column of symbols or atomic numbers.

    Raises:
        StructureError: The columns differ; the text names the first atom.
    """
    for name in places.keys() & ALIASES.keys():
        if ALIASES[name] == "pos" or places[name].stop - places[name].start != 1:
            continue
        for atom, (row, element) in enumerate(zip(rows, elements, strict=True), 1):
            word = row[places[name].start]
            number = read_number(word) if ALIASES[name] == "z" and is_number(word) else 0
            other = SYMBOLS[int(number)] if 0 < number < len(SYMBOLS) else word if word in ATOMIC_NUMBERS else None
            if other not in (None, element):
                raise StructureError(f"atom {atom} of the xyz file is {element}, and {other} by {name}; keep one")


def _element(word: str) -> str | None:
    """Return the element of a symbol, possibly in lower case; upper case (CO, CA) would be ambiguous."""
    symbol = "H" if word == "D" else word.capitalize() if word.islower() else word
    return symbol if symbol in ATOMIC_NUMBERS else None
