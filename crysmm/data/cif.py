"""Crystallographic information files: the full cell, by the symmetry operations as they are written.

gemmi reads the text, the operations and the names of space groups. The operations are applied here: libraries judge by
fractions of a cell whether two images are one atom, or replace what is written by their table's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, repeat
from typing import TYPE_CHECKING

import numpy as np

from crysmm.crystal import Crystal
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.errors import StructureError

if TYPE_CHECKING:
    from gemmi import Op, SpaceGroup
    from gemmi.cif import Block

SAME_SITE = 0.05  # Angstrom; images of one site nearer than this are one atom on a special position
FULL_OCCUPANCY = 1e-3  # how far from 1 an occupancy may be rounded
UNKNOWN = ("?", ".")
CELL = [f"_cell_length_{axis}" for axis in "abc"] + [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_space_group_symop.operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
)
GROUP_NAMES = ("_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M", "_space_group_name_H-M")
GROUP_NUMBERS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
WHERE = re.compile(r"string:(?P<line>\d+)[^ ]*(?: in \S+)?: (?P<what>.*)", re.DOTALL)  # how gemmi words an error


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

    try:
        return cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        found = WHERE.match(str(error))
        where, what = (f"line {found['line']} of the CIF", found["what"]) if found else ("the CIF", error)
        raise StructureError(f"{where} cannot be read: {what}") from error


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

    return [cif.as_string(value) or value for value in block.find_values(tag)]


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
    values = _numbers(block.find_value(tag) or "?" for tag in CELL)
    if not np.isfinite(values).all():
        raise StructureError("the CIF has no cell lengths and angles")
    return values


def _lattice(cell: list[float]) -> np.ndarray:
    """``[3, 3]``, a row a lattice vector."""
    from gemmi import UnitCell

    return np.array(UnitCell(*cell).orth.mat.tolist()).T


def _fractional_sites(block: Block) -> np.ndarray:
    """``[n_sites, 3]`` as written."""
    columns = [_column(block, f"_atom_site_fract_{axis}") for axis in "xyz"]
    sites = np.array(list(map(_numbers, columns))).T
    for words, site in zip(zip(*columns, strict=True), sites, strict=True):
        if not np.isfinite(site).all():
            raise StructureError(f"a coordinate in the CIF is not a number: {' '.join(words)}")
    return sites


def _operations(block: Block, cell: list[float]) -> list[Op]:
    """The symmetry operations that are written, else the space group's."""
    from gemmi import Op

    for tag in OPERATIONS:
        if written := _column(block, tag):
            return [_operation(text) for text in written]
    group = _space_group(block, cell)
    return [Op("x,y,z")] if group is None else list(group.operations())


def _operation(text: str) -> Op:
    from gemmi import Op

    try:
        operation = Op(text.strip("'\""))
    except RuntimeError as error:
        raise StructureError(f"the symmetry operation {text!r} in the CIF cannot be read: {error}") from error
    if abs(operation.det_rot()) != operation.DEN**3:
        raise StructureError(f"{text!r} in the CIF is not a symmetry operation")
    return operation


def _space_group(block: Block, cell: list[float]) -> SpaceGroup | None:
    """The space group by its symbol, which tells the setting, else by its number; the first setting if none does."""
    from gemmi import find_spacegroup_by_name, find_spacegroup_by_number

    known = _first_known(block, GROUP_NAMES) or _first_known(block, GROUP_NUMBERS)
    if known is None:
        return None
    numbered = find_spacegroup_by_number(int(known)) if known.isdecimal() else None
    *_, alpha, _, gamma = cell  # they tell rhombohedral axes from hexagonal ones
    group = find_spacegroup_by_name(numbered.hm if numbered else known, alpha, gamma)
    if group is None or (known.isdecimal() and numbered is None):
        raise StructureError(
            f"the CIF has no symmetry operations, and the space group {known!r} is not known; "
            "write the operations (_space_group_symop_operation_xyz)"
        )
    return group


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
