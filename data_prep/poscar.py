"""POSCAR text with every digit kept."""

from itertools import groupby

from crysmm.crystal import Crystal


def format_poscar(crystal: Crystal, comment: str) -> str:
    """A VASP 5 POSCAR: atoms in the crystal's order, an element named again where it comes again."""
    groups = [(element, len(list(atoms))) for element, atoms in groupby(crystal.elements)]
    lines = [
        comment,
        "1.0",
        *(_numbers(vector) for vector in crystal.lattice.tolist()),
        " ".join(element for element, _ in groups),
        " ".join(str(count) for _, count in groups),
        "Direct",
        *(_numbers(position) for position in crystal.frac_coords.tolist()),
    ]
    return "\n".join(lines) + "\n"


def _numbers(values: list[float]) -> str:
    return " ".join(repr(value) for value in values)
