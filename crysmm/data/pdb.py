"""Files of the Protein Data Bank: crystals of molecules, whose atoms are expanded by the space group of CRYST1.

gemmi reads the text: where the element is missing, columns 13 and 14 tell calcium from an alpha carbon.
"""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np

from crysmm.crystal import FULL_OCCUPANCY, Crystal
from crysmm.data.source import Reading
from crysmm.data.symmetry_operations import GroupNames, identity
from crysmm.elements import ATOMIC_NUMBERS, HYDROGENS
from crysmm.errors import StructureError


def parse_pdb(text: str) -> Reading:
    """Return the structure in a PDB file with every atom of its cell.

    Raises:
        StructureError: it has no cell, several models, alternative or partly occupied sites, or atoms without element.
    """
    from gemmi import read_pdb_string

    structure = read_pdb_string(text)
    if "CRYST1" not in text:
        raise StructureError("the PDB file has no cell; a CRYST1 line gives it")
    if not structure.cell.is_crystal():
        raise StructureError("the PDB file is of no crystal: its CRYST1 line, a cell of 1 x 1 x 1, stands for none")
    if len(structure) != 1:
        raise StructureError(f"the file holds {len(structure)} structures (models); expected one a file")
    lattice = np.array(structure.cell.orth.mat.tolist()).T
    symbol = structure.spacegroup_hm.strip()
    settings = [identity()] if symbol in ("", "P 1") else GroupNames(symbol).settings(lattice)
    if len(settings) > 1:
        names = " and ".join(setting.name for setting in settings)
        raise StructureError(f"the space group of CRYST1 may be {names}; name the origin")
    elements, images = [], []
    for site in structure[0].all():
        atom, where = site.atom, f"atom {site.atom.serial} ({site.atom.name} of {site.residue.name})"
        if atom.altloc != "\0" or abs(atom.occ - 1) > FULL_OCCUPANCY:
            raise StructureError(f"partial occupancy: {where} is not fully occupied; give an ordered structure")
        symbol = HYDROGENS.get(atom.element.name, atom.element.name)
        if symbol not in ATOMIC_NUMBERS:
            raise StructureError(f"{where} has no element; expected its symbol in columns 77 and 78")
        elements.append(symbol)
        fractional = np.array(structure.cell.fractionalize(atom.pos).tolist())
        images.append(settings[0].images(fractional, lattice))
    if not images:
        raise StructureError("the PDB file has no atoms")
    symbols = chain.from_iterable(map(repeat, elements, map(len, images)))
    return Reading(Crystal.from_arrays(lattice, np.concatenate(images), symbols))
