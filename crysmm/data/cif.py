"""Crystallographic information files: the full cell, by the symmetry operations as they are written.

gemmi reads the text, the operations and the names of space groups. The operations are applied here: libraries judge by
fractions of a cell whether two images are one atom, or replace what is written by their table's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, repeat
from typing import TYPE_CHECKING, cast

import numpy as np

from crysmm.crystal import Crystal
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.errors import StructureError

if TYPE_CHECKING:
    from gemmi import GroupOps, Op, SpaceGroup
    from gemmi.cif import Block

SAME_SITE = 0.05  # Angstrom; images of one site nearer than this are one atom on a special position
FULL_OCCUPANCY = 1e-3  # how far from 1 an occupancy may be rounded
UNKNOWN = ("?", ".", "")
CELL = [f"_cell_length_{axis}" for axis in "abc"] + [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_space_group_symop.operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
)
GROUP_NAMES = ("_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M", "_space_group_name_H-M")
GROUP_NUMBERS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
HALL_SYMBOLS = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
SITES = [f"_atom_site_fract_{axis}" for axis in "xyz"]
ORIGINS = {"S": ":1", "Z": ":2"}  # how ICSD's names end
OTHER_SYMMETRY = re.compile(r"symop|symmetry_equiv|space_group_magn|space_group\.name|hall|name_h-m", re.IGNORECASE)
HEADER = re.compile(r"(?im)^(data_\S*)[ \t]+(?![_#]|loop_|save_).*$")  # with blanks in its name
WHERE = re.compile(r"string:?(?P<line>\d*)[^ ]*(?: in \S+)?: (?P<what>.*)", re.DOTALL)  # how gemmi words an error


def parse_cif(text: str) -> Crystal:
    """The first structure in a CIF, with every atom of its cell.

    Raises:
        StructureError: there is none, or it is disordered, or its symmetry is not given in a usable way.
    """
    block = next((block for block in _blocks(text) if _has_sites(block)), None)
    if block is None:
        raise StructureError("the CIF has no atom sites with fractional coordinates (_atom_site_fract_x, _y, _z)")
    _check_occupancy(block)
    symbols = _symbols(block)
    cell = _cell(block)
    lattice = _lattice(cell)
    operations = _operations(block, cell)
    rotations = np.array([operation.rot for operation in operations]) / operations[0].DEN
    translations = np.array([operation.tran for operation in operations]) / operations[0].DEN
    coords = [_images(rotations @ site + translations, lattice) for site in _fractional_sites(block)]
    elements = chain.from_iterable(map(repeat, symbols, map(len, coords)))
    return Crystal.from_arrays(lattice, np.concatenate(coords), elements)


def _blocks(text: str) -> Iterable[Block]:
    from gemmi import cif

    text = HEADER.sub(r"\1", text.encode("ascii", "replace").decode())  # what else is no CIF, and does no harm
    try:
        return cif.read_string(text, check_level=0)
    except (ValueError, RuntimeError) as error:
        found = WHERE.match(str(error))
        where = f"line {found['line']} of the CIF" if found and found["line"] else "the CIF"
        raise StructureError(
            f"{where} cannot be read: {found['what'] if found else error}; values with blanks need quotes"
        ) from error


def _has_sites(block: Block) -> bool:
    return any(value not in UNKNOWN for value in _column(block, "_atom_site_fract_x"))


def _check_occupancy(block: Block) -> None:
    labels = _column(block, "_atom_site_label") or _column(block, "_atom_site_type_symbol")
    occupancies = _column(block, "_atom_site_occupancy")
    for label, word, value in zip(labels, occupancies, _numbers(occupancies), strict=False):
        if word not in UNKNOWN and not abs(value - 1) <= FULL_OCCUPANCY:
            raise StructureError(f"partial occupancy: site {label} is occupied to {word}; give an ordered structure")


def _column(block: Block, tag: str) -> list[str]:
    """The values of a tag without their quotes; none where it is missing."""
    from gemmi import cif

    found = {value for name, value in _pairs(block) if name.lower() == tag.lower()}
    if len(found) > 1:
        raise StructureError(f"{tag} stands in the CIF more than once: {', '.join(sorted(found))}")
    return [cif.as_string(value) for value in block.find_values(tag)]


def _pairs(block: Block) -> list[tuple[str, str]]:
    """Tags that stand outside of loops, and their values."""
    return [cast(tuple[str, str], item.pair) for item in block if item.pair is not None]


def _numbers(words: Iterable[str]) -> list[float]:
    """Numbers without their uncertainties; NaN of what is none."""
    from gemmi import cif

    return [cif.as_number(word) for word in words]


def _symbols(block: Block) -> list[str]:
    types = _column(block, "_atom_site_type_symbol")
    return [_element(word, is_type=bool(types)) for word in types or _column(block, "_atom_site_label")]


def _element(word: str, is_type: bool) -> str:
    """Element of a type symbol (``Fe3+``, ``FE``) or of a label (``Fe12``); isotopes of hydrogen are hydrogen."""
    match = re.match(r"[A-Za-z]{1,2}", word)
    if match is None:
        raise StructureError(f"unknown element {word!r} in the CIF")
    letters = match[0].capitalize() if is_type else match[0]
    symbol = letters if letters in ATOMIC_NUMBERS else letters[0]
    if symbol in ("D", "T"):
        return "H"
    if symbol not in ATOMIC_NUMBERS:
        raise StructureError(f"unknown element {word!r} in the CIF")
    return symbol


def _cell(block: Block) -> list[float]:
    """Three lengths in Angstrom and three angles in degrees."""
    words = {tag: next(iter(_column(block, tag)), "?") for tag in CELL}
    values = _numbers(words.values())
    for (tag, word), value in zip(words.items(), values, strict=True):
        if not value > 0:
            raise StructureError(f"the CIF has no cell lengths and angles that can be used: {tag} is {word}")
    return values


def _lattice(cell: list[float]) -> np.ndarray:
    """``[3, 3]``, a row a lattice vector."""
    from gemmi import UnitCell

    return np.array(UnitCell(*cell).orth.mat.tolist()).T


def _fractional_sites(block: Block) -> np.ndarray:
    """``[n_sites, 3]`` as written."""
    columns = [_column(block, tag) for tag in SITES]
    if len(set(map(len, columns))) > 1:
        found = ", ".join(f"{len(words)} of {tag}" for tag, words in zip(SITES, columns, strict=True))
        raise StructureError(f"the CIF has {found}; expected as many of each")
    sites = np.array(list(map(_numbers, columns))).T
    for words, site in zip(zip(*columns, strict=True), sites, strict=True):
        if not np.isfinite(site).all():
            raise StructureError(f"a coordinate in the CIF is not a number: {' '.join(words)}")
    return sites


def _operations(block: Block, cell: list[float]) -> list[Op]:
    """The symmetry operations that are written, else the space group's."""
    from gemmi import Op

    for tag in OPERATIONS:
        if written := [text for text in _column(block, tag) if text not in UNKNOWN]:
            return [_operation(text) for text in written]
    group = _space_group(block, cell)
    if group is not None:
        return list(group)
    _refuse_other_symmetry(block)
    return [Op("x,y,z")]


def _refuse_other_symmetry(block: Block) -> None:
    """Refuse symmetry in a form that is not read, instead of taking a part of the cell for all of it."""
    in_loops = [tag for item in block if item.loop is not None for tag in item.loop.tags]
    for tag in [*(tag for tag, _ in _pairs(block)), *in_loops]:
        if OTHER_SYMMETRY.search(tag) and any(value not in UNKNOWN for value in _column(block, tag)):
            raise StructureError(
                f"the symmetry in the CIF stands under {tag}, which is not read; write {OPERATIONS[0]}"
            )


def _operation(text: str) -> Op:
    from gemmi import Op

    try:
        operation = Op(text.replace(" ", "").strip("'\";"))
    except (RuntimeError, ValueError) as error:
        raise StructureError(
            f"the symmetry operation {text!r} in the CIF cannot be read: {error}; expected such as -x+1/2,y,z with "
            "multiples of 1/24"
        ) from error
    if abs(operation.det_rot()) != operation.DEN**3:
        raise StructureError(f"{text!r} in the CIF is not a symmetry operation")
    return operation


def _space_group(block: Block, cell: list[float]) -> GroupOps | None:
    """The operations of the space group: by its symbol, which tells the setting, by its number or its Hall symbol."""
    from gemmi import symops_from_hall

    name, number = _first_known(block, GROUP_NAMES), _first_known(block, GROUP_NUMBERS)
    group = _named(name, cell) or _numbered(number, cell, only_if_unique=name is not None)
    if group is not None:
        return group.operations()
    hall = _first_known(block, HALL_SYMBOLS)
    if hall is not None:
        try:
            return symops_from_hall(hall)
        except (RuntimeError, ValueError):
            name = name or number or hall
    if name is None and number is None:
        return None
    raise StructureError(
        f"the CIF has no symmetry operations, and the space group {name or number!r} is not known; "
        f"write the operations ({OPERATIONS[0]})"
    )


def _named(name: str | None, cell: list[float]) -> SpaceGroup | None:
    from gemmi import find_spacegroup_by_name

    if name is None or name.isdecimal():
        return _numbered(name, cell)
    symbol, _, last = re.sub(r"[_()]", "", name).rpartition(" ")
    symbol = f"{symbol} {ORIGINS.get(last, last)}".strip()
    *_, alpha, _, gamma = cell  # they tell rhombohedral axes from hexagonal ones
    return find_spacegroup_by_name(symbol, alpha, gamma)


def _numbered(number: str | None, cell: list[float], only_if_unique: bool = False) -> SpaceGroup | None:
    from gemmi import find_spacegroup_by_number, spacegroup_table

    group = find_spacegroup_by_number(int(number)) if number is not None and number.isdecimal() else None
    if group is None or (only_if_unique and sum(other.number == group.number for other in spacegroup_table()) > 1):
        return None
    return _named(group.hm, cell)


def _first_known(block: Block, tags: Iterable[str]) -> str | None:
    values = chain.from_iterable(_column(block, tag) for tag in tags)
    return next((value for value in values if value not in UNKNOWN), None)


def _images(images: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """``[n_atoms, 3]`` in the cell: every atom of the images ``[n_operations, 3]`` of one site.

    Images that fall together are one atom on a special position, written with few digits; their mean lies on it.
    """
    if len(images) == 1:  # no symmetry: the most frequent case
        return images % 1.0
    steps = images - images[:, None]  # from each of the first axis to each of the second
    steps -= np.round(steps)
    vectors = steps @ lattice
    together = np.einsum("ijk,ijk->ij", vectors, vectors) < SAME_SITE**2
    first = together.argmax(axis=1) == np.arange(len(images))
    means = np.einsum("ijk,ij->ik", steps[first], together[first]) / together[first].sum(axis=1)[:, None]
    return (images[first] + means) % 1.0
