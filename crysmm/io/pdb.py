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

from crysmm.crystal import FULL_OCCUPANCY, Crystal
from crysmm.elements import ATOMIC_NUMBERS, HYDROGENS
from crysmm.errors import StructureError
from crysmm.io.site_species import read_label
from crysmm.io.source import Reading
from crysmm.io.symmetry_operations import GroupNames, identity

if TYPE_CHECKING:
    from gemmi import CRA, Structure

ATOM = re.compile(r"ATOM|HETATM", re.IGNORECASE)  # gemmi, too, minds no case
OTHER_NUMBERS = re.compile(r"REMARK|SIGATM", re.IGNORECASE)
NUMBER = re.compile(r" *-?\d+\.\d* *")
COORDINATES = ((30, 38), (38, 46), (46, 54))  # where each begins and ends
CELL = ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))
ELEMENT_BESIDE_ITS_COLUMNS = re.compile(r".{72}(?: {3}[A-Za-z]{2}|.{4}[ A-Za-z][A-Za-z]{2})")
OF_BIOPOLYMERS = {"H", "C", "N", "O", "P", "S", "Se"}


def parse_pdb(text: str) -> Reading:
    """Return the structure in a PDB file with every atom of its cell.

    Raises:
        StructureError: it has no cell, several models, alternative or partly occupied sites, or atoms without element.
    """
    from gemmi import read_pdb_string

    lines = text.splitlines()
    _check_lines(lines)
    structure = read_pdb_string(text)
    _check_cell(structure)
    if len(structure) != 1:
        raise StructureError(f"the file holds {len(structure)} structures (models); expected one a file")
    lattice = np.array(structure.cell.orth.mat.tolist()).T
    symbol = structure.spacegroup_hm.strip()
    settings = [identity()] if symbol in ("", "P 1") else GroupNames((symbol,)).settings(lattice)
    if len(settings) > 1:
        names = " and ".join(setting.name for setting in settings)
        raise StructureError(f"the space group of CRYST1 may be {names}; name the origin")
    without_element = {line[6:11].strip() for line in lines if ATOM.match(line) and not line[76:78].strip()}
    elements, images = [], []
    for site in structure[0].all():
        elements.append(_element(site, str(site.atom.serial) in without_element))
        fractional = np.array(structure.cell.fractionalize(site.atom.pos).tolist())
        images.append(settings[0].images(fractional, lattice))
    if not images:
        raise StructureError("the PDB file has no atoms")
    symbols = chain.from_iterable(map(repeat, elements, map(len, images)))
    return Reading(Crystal.from_arrays(lattice, np.concatenate(images), symbols))


def _check_lines(lines: list[str]) -> None:
    """Refuse what gemmi would read as zero, from other columns, or not at all.

    Raises:
        StructureError: naming the line.
    """
    ends = [number for number, line in enumerate(lines, 1) if line.rstrip() == "END"]
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
            if ends and number > ends[0]:
                raise StructureError(f"the file holds more than one structure: line {number} is behind END")
        elif ATOM.match(line.lstrip()) or (_has_numbers(line, COORDINATES) and not OTHER_NUMBERS.match(line)):
            raise StructureError(f"{where} is of an atom and begins with {line[:6]!r}; expected 'ATOM  ' or 'HETATM'")
        elif line.upper().startswith("CRYST1") and not _has_numbers(line, CELL):
            raise StructureError(
                f"{where} has the cell {line[6:54].strip()!r}; expected lengths in columns 7 to 33, nine for each, "
                "and angles in columns 34 to 54, seven for each"
            )
    if sum(line.upper().startswith("CRYST1") for line in lines) > 1:
        raise StructureError("the PDB file has several CRYST1 lines; expected one structure a file")


def _has_numbers(line: str, columns: Iterable[tuple[int, int]]) -> bool:
    """Return True if there is a number in each of some columns of a line."""
    return all(NUMBER.fullmatch(line[start:end]) for start, end in columns)


def _check_cell(structure: Structure) -> None:
    """Refuse a file without a cell, or with a statement of it that is not applied here.

    Raises:
        StructureError: with what is missing or not read.
    """
    cell = structure.cell
    if cell.a == cell.b == cell.c == 1:
        raise StructureError(
            "the PDB file has no cell: a CRYST1 line gives it, and one of 1 x 1 x 1 stands for 'of no crystal'"
        )
    if cell.explicit_matrices:
        raise StructureError(
            "the SCALE lines of the PDB file are not those of its cell; leave them out if CRYST1 is right"
        )
    if any(not operation.given for operation in structure.ncs):
        raise StructureError("the PDB file leaves atoms to MTRIX operations, which are not applied; write all of them")


def _element(site: CRA, is_guessed: bool) -> str:
    """Return the element of a fully occupied atom.

    Columns 13 and 14 tell it where columns 77 and 78 do not, but many programs shift them: then it is believed only if
    the name leaves no other (``Zn``, ``O1``), and in amino acids, nucleotides and water, whose few elements are known.

    Raises:
        StructureError: the atom is not fully there, or nothing tells its element.
    """
    from gemmi import find_tabulated_residue

    atom, residue = site.atom, find_tabulated_residue(site.residue.name)
    where = f"atom {atom.serial} ({atom.name} of {site.residue.name})"
    if atom.altloc != "\0" or abs(atom.occ - 1) > FULL_OCCUPANCY:
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
