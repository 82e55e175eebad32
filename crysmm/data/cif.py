"""Crystallographic information files: the full cell, by the symmetry operations as they are written.

ASE reads the text. The operations are applied here: ASE's own builder replaces them by its table's for some
settings, and its duplicates are judged in fractions of a cell.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from crysmm.crystal import Crystal
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.errors import StructureError

if TYPE_CHECKING:
    from ase.io.cif import CIFBlock
    from ase.spacegroup import Spacegroup

SAME_SITE = 0.05  # Angstrom; images of one site nearer than this are one atom on a special position
FULL_OCCUPANCY = 1e-3  # how far from 1 an occupancy may be rounded
RHOMBOHEDRAL = frozenset((146, 148, 155, 160, 161, 166, 167))  # space groups with two kinds of axes
UNKNOWN = ("?", ".")


def parse_cif(text: str) -> Crystal:
    """The first structure in a CIF, with every atom of its cell.

    Raises:
        StructureError: there is none, or it is disordered, or its symmetry is not given in a usable way.
    """
    from ase.io.cif import parse_cif as ase_blocks

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        block = next((block for block in ase_blocks(io.StringIO(text)) if _has_sites(block)), None)
    for warning in caught:  # ASE leaves such a row out and goes on
        if "Wrong number" in str(warning.message):
            raise StructureError(f"a row of a CIF loop is incomplete: {warning.message}")
    if block is None:
        raise StructureError("the CIF has no atom sites with fractional coordinates (_atom_site_fract_x, _y, _z)")
    _check_occupancy(block)
    symbols = _symbols(block)
    if not all(isinstance(value, int | float) for value in block.get_cellpar() or [None]):
        raise StructureError("the CIF has no cell lengths and angles")
    lattice = block.get_cell().array
    sites = _fractional_sites(block)
    rotations, translations = _operations(block)
    coords = [_images(site, rotations, translations, lattice) for site in sites]
    elements = [symbol for symbol, images in zip(symbols, coords, strict=True) for _ in images]
    return Crystal.from_arrays(lattice, np.concatenate(coords), elements)


def _has_sites(block: CIFBlock) -> bool:
    return any(value not in UNKNOWN for value in _column(block, "_atom_site_fract_x"))


def _check_occupancy(block: CIFBlock) -> None:
    for label, value in zip(_labels(block), _column(block, "_atom_site_occupancy"), strict=False):
        if value not in UNKNOWN and abs(float(value) - 1) > FULL_OCCUPANCY:
            raise StructureError(f"partial occupancy: site {label} is occupied to {value}; give an ordered structure")


def _column(block: CIFBlock, tag: str) -> list:
    values = block.get(tag, [])
    return values if isinstance(values, list) else [values]


def _labels(block: CIFBlock) -> list[str]:
    return [str(value) for value in _column(block, "_atom_site_label") or _column(block, "_atom_site_type_symbol")]


def _symbols(block: CIFBlock) -> list[str]:
    types = _column(block, "_atom_site_type_symbol")
    words = types or _column(block, "_atom_site_label")
    return [_element(str(word), is_type=bool(types)) for word in words]


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


def _fractional_sites(block: CIFBlock) -> np.ndarray:
    """``[n_sites, 3]`` as written."""
    columns = [_column(block, f"_atom_site_fract_{axis}") for axis in "xyz"]
    try:
        return np.array(columns, dtype=np.float64).T
    except ValueError as error:
        raise StructureError(f"a coordinate in the CIF is not a number: {error}") from error


def _operations(block: CIFBlock) -> tuple[np.ndarray, np.ndarray]:
    """``[n, 3, 3]`` rotations and ``[n, 3]`` translations: those written, else the space group's."""
    from ase.spacegroup.spacegroup import parse_sitesym

    for tag in (
        "_space_group_symop_operation_xyz",
        "_space_group_symop.operation_xyz",
        "_symmetry_equiv_pos_as_xyz",
    ):
        written = [str(operation).strip("'\"") for operation in _column(block, tag)]
        if written:
            rotations, translations = parse_sitesym(written)
            if not np.isclose(np.abs(np.linalg.det(rotations)), 1).all():
                raise StructureError(f"a symmetry operation in the CIF is not one: {', '.join(written[:3])} ...")
            return rotations, translations
    group = _space_group(block)
    if group is None:
        return np.eye(3, dtype=int)[None], np.zeros((1, 3))
    rotations, translations = zip(*group.get_symop(), strict=True)
    return np.array(rotations), np.array(translations)


def _space_group(block: CIFBlock) -> Spacegroup | None:
    """The space group by its symbol, which tells the setting, else by its number."""
    from ase.spacegroup import Spacegroup
    from ase.spacegroup.spacegroup import SpacegroupError

    tags = ("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m")
    number_tags = ("_space_group_it_number", "_symmetry_int_tables_number")
    name = _first_known(block, tags)
    number = _first_known(block, number_tags)
    if name is None and number is None:
        return None
    symbol, _, suffix = (name or "").partition(":")
    key = symbol.strip() if name is not None else int(str(number))
    try:
        group = Spacegroup(key)
        setting = 2 if suffix.strip().upper() in ("2", "R") or (not suffix and _is_rhombohedral(block, group)) else 1
        return Spacegroup(key, setting)
    except SpacegroupError as error:
        raise StructureError(
            f"the CIF has no symmetry operations, and the space group {name or number!r} is not known; "
            "write the operations (_space_group_symop_operation_xyz)"
        ) from error


def _first_known(block: CIFBlock, tags: Iterable[str]) -> str | None:
    values = (str(block.get(tag, "?")) for tag in tags)
    return next((value for value in values if value not in UNKNOWN), None)


def _is_rhombohedral(block: CIFBlock, group: Spacegroup) -> bool:
    """A rhombohedral group on its own axes, not on hexagonal ones."""
    cell = block.get_cellpar()
    return group.no in RHOMBOHEDRAL and cell is not None and abs(float(cell[5]) - 120) > 1


def _images(site: np.ndarray, rotations: np.ndarray, translations: np.ndarray, lattice: np.ndarray) -> list[np.ndarray]:
    """Every atom that the operations make of one site.

    Images that fall together are one atom on a special position, written with few digits; their mean lies on it.
    """
    images = rotations @ site + translations
    atoms: list[np.ndarray] = []
    left = np.ones(len(images), dtype=bool)
    while left.any():
        steps = images - images[left.argmax()]
        steps -= np.round(steps)
        together = left & (np.linalg.norm(steps @ lattice, axis=1) < SAME_SITE)
        atoms.append((images[left.argmax()] + steps[together].mean(axis=0)) % 1.0)
        left &= ~together
    return atoms
