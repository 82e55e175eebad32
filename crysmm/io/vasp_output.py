"""Last structure of a VASP calculation, in its ``vasprun.xml`` or ``OUTCAR``; ASE reads both.

From a file that is cut off or damaged, ASE takes the last structure before that place, or the first of all, and puts
atoms without positions at the origin. Such files are refused.
"""

from __future__ import annotations

import io
from xml.etree import ElementTree

from crysmm.crystals.conversion import as_crystal
from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError


def parse_vasprun(text: str) -> Crystal:
    """Return the last structure in the text of a ``vasprun.xml``.

    Raises:
        StructureError: The calculation did not end, or its last structure is not usable.
    """
    from ase.io.vasp import read_vasp_xml

    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise StructureError(f"vasprun.xml is cut off or damaged: {error}; did the calculation end?") from error
    n_atoms = len(root.findall("atominfo/array[@name='atoms']/set/rc"))
    structures = root.findall("calculation/structure")
    if not (n_atoms and structures):
        raise StructureError("vasprun.xml has no atoms or no step of a calculation; is it VASP's, and did it begin?")
    rows = structures[-1].findall("varray[@name='positions']/v")
    if len(rows) != n_atoms:
        raise StructureError(f"vasprun.xml is damaged: its last structure has {len(rows)} of {n_atoms} positions")
    return as_crystal(next(read_vasp_xml(io.StringIO(text), index=-1)))


def parse_outcar(text: str) -> Crystal:
    """Return the last structure in the text of an ``OUTCAR``.

    Raises:
        StructureError: The calculation did not end, or its last structure is not usable.
    """
    from ase.io.vasp import read_vasp_out

    if "General timing and accounting informations for this job" not in text[text.rfind("TOTAL-FORCE") :]:
        raise StructureError("OUTCAR is cut off: it has no timing at its end; did the calculation end?")
    stream = io.StringIO(text)
    stream.name = "no folder/OUTCAR"  # where ASE looks for a POSCAR with constraints, which do not matter here
    return as_crystal(read_vasp_out(stream, index=-1))
