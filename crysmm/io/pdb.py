"""Files of the Protein Data Bank: molecular crystals, expanded by the space group in CRYST1.

gemmi reads the text but accepts any numbers and elements; the columns are checked here first.
Format: https://www.wwpdb.org/documentation/file-format, version 3.3
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, repeat
from typing import TYPE_CHECKING

import numpy as np

from crysmm.crystals.crystal import Crystal
from crysmm.crystals.statements import OCCUPANCY_TOLERANCE
from crysmm.elements import ATOMIC_NUMBERS, HYDROGENS
from crysmm.errors import StructureError
from crysmm.io.site_species import read_label
from crysmm.io.source import Reading
from crysmm.io.symmetry_operations import GroupNames, identity

if TYPE_CHECKING:
    from gemmi import CRA, Structure

ATOM = re.compile(r"ATOM|HETATM", re.IGNORECASE)  # gemmi, too, minds no case, and takes HETA for an atom
OTHER_NUMBERS = re.compile(r"REMARK|SIGATM", re.IGNORECASE)
NUMBER = re.compile(r" *-?\d+\.\d* *")
COORDINATES = ((30, 38), (38, 46), (46, 54))  # where each begins and ends
HYBRID_36 = 10 * 36**4 - 100_000  # from a number to that which five digits of base 36 hold, A0000 for 100,000
CELL = ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))
ELEMENT_BESIDE_ITS_COLUMNS = re.compile(r".{72}(?: {3}[A-Za-z]{2}|.{4}[ A-Za-z][A-Za-z]{2})")
OF_BIOPOLYMERS = {"H", "C", "N", "O", "P", "S", "Se"}


def parse_pdb(text: str) -> Reading:
    """Return the structure in a PDB file with every atom of its cell.

    Raises:
        StructureError: It has no cell, several models, alternative or partly occupied sites, or atoms without element.
    """
    from gemmi import read_pdb_string

    lines = text.splitlines()
    _check_lines(lines)
    structure = read_pdb_string("\n".join(map(_prepared, range(1, len(lines) + 1), lines)))
    _check_cell(structure)
    if len(structure) != 1:
        raise StructureError(f"the file holds {len(structure)} structures (models); expected one a file")
    sites = list(structure[0].all())
    atoms = [number for number, line in enumerate(lines, 1) if ATOM.match(line)]
    if len(sites) < len(atoms):
        raise StructureError(f"the file holds more than one structure: line {atoms[len(sites)]} is behind END")
    lattice = np.array(structure.cell.orth.mat.tolist()).T
    symbol = structure.spacegroup_hm.strip()
    names = GroupNames((symbol,))
    if symbol and not names.group_numbers(lattice):
        raise StructureError(
            f"the space group {symbol!r} of CRYST1 is not known; write all atoms of the cell, in 'P 1'"
        )
    settings = [identity()] if symbol in ("", "P 1") else names.settings(lattice)
    if len(settings) > 1:
        found = " and ".join(setting.name for setting in settings)
        raise StructureError(f"the space group of CRYST1 may be {found}; name the origin")
    elements, images = [], []
    for site in sites:
        elements.append(_element(site, not _names_element(lines[site.atom.serial - 1])))
        fractional = np.array(structure.cell.fractionalize(site.atom.pos).tolist())
        images.append(settings[0].images(fractional, lattice))
    if not images:
        raise StructureError("the PDB file has no atoms")
    symbols = chain.from_iterable(map(repeat, elements, map(len, images)))
    return Reading(Crystal.from_arrays(lattice, np.concatenate(images), symbols))


def _check_lines(lines: list[str]) -> None:
    """Refuse what gemmi would read as zero, from other columns, or not at all.

    Raises:
        StructureError: Naming the line.
    """
    for number, line in enumerate(lines, 1):
        where = f"line {number} of the PDB file"
        if ATOM.match(line):
            if not _has_numbers(line, COORDINATES):
                raise StructureError(
                    f"{where} has the coordinates {line[30:54].strip()!r}; expected three numbers in columns 31 to 54, "
                    "eight for each"
                )
            if ELEMENT_BESIDE_ITS_COLUMNS.match(line):
                raise StructureError(f"{where} has {line[72:].strip()!r}; expected its element in columns 77 and 78")
        elif line.lstrip()[:4].upper() in ("ATOM", "HETA") or (
            _has_numbers(line, COORDINATES) and not OTHER_NUMBERS.match(line)
        ):
            raise StructureError(f"{where} is of an atom and begins with {line[:6]!r}; expected 'ATOM  ' or 'HETATM'")
        elif line.upper().startswith("CRYST1") and not _has_numbers(line, CELL):
            raise StructureError(
                f"{where} has the cell {line[6:54].strip()!r}; expected lengths in columns 7 to 33, nine for each, "
                "and angles in columns 34 to 54, seven for each"
            )
    begun, ended = (sum(line.upper().startswith(tag) for line in lines) for tag in ("MODEL ", "ENDMDL"))
    if begun > ended:
        raise StructureError("the PDB file is cut off: MODEL has no ENDMDL; are all its atoms there?")
    if sum(line.upper().startswith("CRYST1") for line in lines) > 1:
        raise StructureError("the PDB file has several CRYST1 lines; expected one structure a file")


def _has_numbers(line: str, columns: Iterable[tuple[int, int]]) -> bool:
    """Return True if there is a number in each of some columns of a line."""
    return all(NUMBER.fullmatch(line[start:end]) for start, end in columns)


def _prepared(number: int, line: str) -> str:
    """Return a line of an atom as gemmi has to get it, and any other unchanged.

    The number of the line is its serial number, for gemmi sorts atoms by chain. A blank occupancy is full, as it is
    where the line ends before. Without an element the line ends there: an ID code in columns 73 to 80, as in files
    before 1996, would be a charge.
    """
    if not ATOM.match(line):
        return line
    serial = f"{number:5}" if number < 100_000 else np.base_repr(number + HYBRID_36, 36)
    line = f"{line[:6]}{serial}{line[11:54]}{line[54:60].strip() or '1.00':>6}{line[60:]}"
    return line if _names_element(line) else line[:76]


def _names_element(line: str) -> bool:
    return re.search("[A-Za-z]", line[76:78]) is not None


def _check_cell(structure: Structure) -> None:
    """Refuse a file without a cell, or with a statement of it that is not applied here.

    Raises:
        StructureError: With what is missing or not read.
    """
    cell = structure.cell
    if cell.a == cell.b == cell.c and cell.a in (0, 1):
        raise StructureError(
            "the PDB file has no cell: a CRYST1 line gives it, and one of 1 x 1 x 1 or 0 x 0 x 0 means 'of no crystal'"
        )
    if cell.explicit_matrices:
        raise StructureError(
            "the SCALE lines of the PDB file are not those of its cell; leave them out if CRYST1 is right"
        )
    if any(not operation.given for operation in structure.ncs):
        raise StructureError("the PDB file leaves atoms to MTRIX operations, which are not applied; write all of them")


def _element(site: CRA, is_guessed: bool) -> str:
    """Return the element of a fully occupied atom.

    Columns 13 and 14 give it where columns 77 and 78 do not, but many programs shift them: then it is believed only if
    the name leaves no other (``Zn``, ``O1``), and in amino acids, nucleotides and water, whose few elements are known.

    Raises:
        StructureError: The atom is not fully there, or nothing gives its element.
    """
    from gemmi import find_tabulated_residue

    atom, residue = site.atom, find_tabulated_residue(site.residue.name)
    where = f"the atom in line {atom.serial} ({atom.name} of {site.residue.name})"
    if atom.altloc != "\0" or abs(atom.occ - 1) > OCCUPANCY_TOLERANCE:
        raise StructureError(f"partial occupancy: {where} is not fully occupied; give an ordered structure")
    symbol = HYDROGENS.get(atom.element.name, atom.element.name)
    is_known = True
    if is_guessed:
        by_name = read_label(atom.name)
        is_known = by_name.certain and by_name.elements[0] == symbol
    if residue.is_amino_acid() or residue.is_nucleic_acid() or residue.is_water():
        is_known |= symbol in OF_BIOPOLYMERS
    if symbol not in ATOMIC_NUMBERS or not is_known:
        raise StructureError(f"{where} has no element; expected its symbol in columns 77 and 78")
    return symbol
