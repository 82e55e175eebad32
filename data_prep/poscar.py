"""Writing of POSCAR text with all digits."""

from itertools import groupby

from crysmm.crystals.crystal import Crystal


def format_poscar(crystal: Crystal, comment: str) -> str:
    """Return a VASP 5 POSCAR with the atoms in the order of the crystal.

    Consecutive atoms of one element form a group; an element may have several groups.

    Args:
        crystal: Crystal to write.
        comment: First line.
    """
    groups = [(element, len(list(atoms))) for element, atoms in groupby(crystal.elements)]
    lines = [
        comment,
        "1.0",
        *(" ".join(map(repr, vector)) for vector in crystal.lattice.tolist()),
        " ".join(element for element, _ in groups),
        " ".join(str(count) for _, count in groups),
        "Direct",
        *(" ".join(map(repr, position)) for position in crystal.frac_coords.tolist()),
    ]
    return "\n".join(lines) + "\n"
