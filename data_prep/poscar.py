"""POSCAR text, written and read with every digit kept."""

from itertools import groupby

from crysmm.crystal import Crystal
from crysmm.errors import StructureError


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


def parse_poscar(text: str) -> Crystal:
    """A crystal from a VASP 5 POSCAR of scale 1 in direct coordinates, as the matminer tables hold them.

    Raises:
        StructureError: anything else.
    """
    lines = [line.split() for line in text.strip().splitlines()]
    try:
        counts = [int(count) for count in lines[6]]
        if float(lines[1][0]) != 1 or lines[7] != ["direct"]:
            raise StructureError(f"expected a POSCAR of scale 1 in direct coordinates, got {lines[1]} and {lines[7]}")
        elements = [symbol for symbol, count in zip(lines[5], counts, strict=True) for _ in range(count)]
        lattice = [[float(value) for value in line[:3]] for line in lines[2:5]]
        positions = [[float(value) for value in line[:3]] for line in lines[8 : 8 + len(elements)]]
    except (IndexError, ValueError) as error:
        raise StructureError(f"not a POSCAR: {error}") from error
    return Crystal.from_arrays(lattice, positions, elements)
