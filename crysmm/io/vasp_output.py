"""Last structure of a VASP calculation, in its ``vasprun.xml`` or ``OUTCAR``.

From a file that is cut off or damaged, other readers take the last structure before that place, or the first of all;
such files are refused. So are calculations that displace atoms, whose last structure is not that of the crystal.
"""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from crysmm.crystals.conversion import as_crystal
from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError

FINITE_DIFFERENCES = ("5", "6")  # values of IBRION
ENERGY_OF_A_STEP = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"


def parse_vasprun(text: str) -> Crystal:
    """Return the last structure in the text of a ``vasprun.xml``, which may be of a step by a machine-learned field.

    Raises:
        StructureError: The calculation did not end, displaced atoms, or its last structure is not usable.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise StructureError(f"vasprun.xml is cut off or damaged: {error}; did the calculation end?") from error
    symbols = [(row[0].text or "").strip() for row in root.findall("atominfo/array[@name='atoms']/set/rc")]
    steps = [structure for structure in root.iter("structure") if "name" not in structure.attrib]
    if not (symbols and steps):
        raise StructureError("vasprun.xml has no atoms or no step of a calculation; is it VASP's, and did it begin?")
    _refuse_displacements(root.findtext("parameters//i[@name='IBRION']", ""))
    lattice, positions = (
        [(vector.text or "").split() for vector in steps[-1].findall(f"{path}/v")]
        for path in ("crystal/varray[@name='basis']", "varray[@name='positions']")
    )
    if len(positions) != len(symbols):
        raise StructureError(
            f"vasprun.xml is damaged: its last structure has {len(positions)} of {len(symbols)} positions"
        )
    return Crystal.from_arrays(lattice, positions, symbols)


def parse_outcar(text: str) -> Crystal:
    """Return the last structure in the text of an ``OUTCAR``, as ASE reads it.

    Raises:
        StructureError: The calculation did not end, displaced atoms, is not the only one, or its last structure is not
            usable.
    """
    from ase.io import ParseError
    from ase.io.vasp import read_vasp_out

    last = text.rfind("TOTAL-FORCE")
    if "General timing and accounting informations for this job" not in text[last:]:
        raise StructureError("OUTCAR is cut off: it has no timing at its end; did the calculation end?")
    if text.count("ions per type =") > 1:  # ASE reads the elements of the first and the positions of the last
        raise StructureError("OUTCAR holds several calculations; expected one")
    if last > text.rfind(ENERGY_OF_A_STEP):  # ASE takes the step before
        raise StructureError("the last step of OUTCAR has positions but no energy; give CONTCAR")
    if found := re.search(r"IBRION =\s+(-?\d+)", text):
        _refuse_displacements(found[1])
    stream = io.StringIO(text)
    stream.name = "no folder/OUTCAR"  # where ASE looks for a POSCAR with constraints, which do not matter here
    try:
        atoms = read_vasp_out(stream, index=-1)
    except (ValueError, LookupError, ParseError) as error:  # ASE reads the energies and forces, too
        raise StructureError(f"OUTCAR cannot be read by ASE ({error}); give CONTCAR or vasprun.xml") from error
    return as_crystal(atoms)


def _refuse_displacements(ibrion: str) -> None:
    """Refuse a calculation by finite differences.

    Raises:
        StructureError: It is one.
    """
    if ibrion.strip() in FINITE_DIFFERENCES:
        raise StructureError(
            f"the calculation displaces atoms (IBRION = {ibrion.strip()}), and its last structure is not that of the "
            "crystal; give its POSCAR"
        )
