"""The representation of a structure inside the package."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crysmm.elements import ATOMIC_NUMBERS, SYMBOLS
from crysmm.errors import StructureError, shown

if TYPE_CHECKING:
    import ase
    from jarvis.core.atoms import Atoms

MINIMUM_VOLUME_PER_ATOM = 0.1  # cubic Angstrom
MAXIMUM_VOLUME_PER_ATOM = 1e6  # cubic Angstrom; JARVIS' single atoms have 8,000, and a crystal in pm 1e7
# At most 15 in 120,000 crystals of JARVIS, the Materials Project and matminer. No lattice vector is longer than this
# many times the distance between the faces it joins, so 8 Angstrom span at most 96 cells with vectors of 2.5 Angstrom.
LARGEST_SKEW = 30
LARGEST_CANCELLATION = 1e9  # product of the lengths over the volume; beyond, rounding decides the reduced cell
LARGEST_NUMBER = 1e6  # Angstrom or cells; no crystal is larger, and distances would be lost in rounding


@dataclass(frozen=True, eq=False)
class Crystal:
    """Periodic structure.

    Args:
        lattice: Lattice vectors as rows, ``[3, 3]`` float64, Angstrom.
        frac_coords: Fractional coordinates as written, not wrapped into the cell, ``[n_atoms, 3]`` float64.
        atomic_numbers: Atomic numbers, ``[n_atoms]`` uint8.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray

    @classmethod
    def from_arrays(cls, lattice: Any, frac_coords: Any, elements: Any) -> Crystal:
        """Create and check a crystal from lattice vectors (Angstrom), fractional coordinates and element symbols.

        A cell too skewed for neighbor search (``LARGEST_SKEW``) is reduced, and its atoms are wrapped into it.

        Raises:
            StructureError: Shapes are wrong, elements unknown, numbers not finite or too large, or the cell is flat.
        """
        if isinstance(elements, str | Set | Mapping) or not isinstance(elements, Iterable):
            raise StructureError(f"expected a list of element symbols, got {shown(elements)}")
        numbers = np.array([atomic_number(symbol) for symbol in elements], dtype=np.uint8)
        try:
            crystal = cls(np.array(lattice, dtype=np.float64), np.array(frac_coords, dtype=np.float64), numbers)
        except (TypeError, ValueError, OverflowError) as error:
            raise StructureError(f"lattice or coordinates are not numbers: {error}") from error
        check_crystal(crystal)
        return _less_skewed(crystal)

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    @property
    def elements(self) -> list[str]:
        """Element symbols, ``[n_atoms]``."""
        return [SYMBOLS[number] for number in self.atomic_numbers]

    @property
    def formula(self) -> str:
        """Reduced formula with elements in alphabetical order: ``Al2O3``."""
        numbers, counts = np.unique(self.atomic_numbers, return_counts=True)
        counts = counts // np.gcd.reduce(counts)
        parts = sorted((SYMBOLS[number], count) for number, count in zip(numbers, counts, strict=True))
        return "".join(symbol + (str(count) if count > 1 else "") for symbol, count in parts)

    @property
    def checksum(self) -> str:
        """Checksum of the arrays as they are, without any tolerance, 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for array in (self.lattice, self.frac_coords, self.atomic_numbers):
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    @property
    def volume(self) -> float:
        """Volume of the cell, cubic Angstrom."""
        return self._volume_and_faces()[0]

    @property
    def heights(self) -> list[float]:
        """Distances between opposite faces of the cell, Angstrom."""
        volume, faces = self._volume_and_faces()
        return [volume / face for face in faces]

    @property
    def skew(self) -> float:
        """Skewness of the cell: its volume times its reciprocal lengths; 1 for an orthogonal cell."""
        volume, (first, second, third) = self._volume_and_faces()
        return first * second * third / volume**2

    def _volume_and_faces(self) -> tuple[float, list[float]]:
        """Return volume and face areas. Plain Python: four times faster than NumPy for nine numbers."""
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = self.lattice.tolist()
        normal = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        others = (
            (cy * az - cz * ay, cz * ax - cx * az, cx * ay - cy * ax),
            (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx),
        )
        volume = abs(ax * normal[0] + ay * normal[1] + az * normal[2])
        return volume, [math.hypot(*face) for face in (normal, *others)]

    def to_jarvis(self) -> Atoms:
        """Convert to ``jarvis.core.atoms.Atoms``; JARVIS rounds lattice vectors to 5 decimals."""
        from jarvis.core.atoms import Atoms

        return Atoms(
            lattice_mat=self.lattice.tolist(),
            coords=self.frac_coords.tolist(),
            elements=self.elements,
            cartesian=False,
        )

    def to_ase(self) -> ase.Atoms:
        """Convert to ``ase.Atoms``."""
        from ase import Atoms

        return Atoms(numbers=self.atomic_numbers, cell=self.lattice, scaled_positions=self.frac_coords, pbc=True)


def atomic_number(symbol: Any) -> int:
    """Return the atomic number of an element symbol; deuterium, D, is hydrogen.

    Raises:
        StructureError: The symbol is not that of an element.
    """
    try:
        return ATOMIC_NUMBERS[symbol]
    except (KeyError, TypeError):
        if isinstance(symbol, str) and symbol == "D":
            return ATOMIC_NUMBERS["H"]
        raise StructureError(f"unknown element {shown(symbol)}: expected a symbol such as 'Si' or 'O'") from None


def check_crystal(crystal: Crystal) -> None:
    """Refuse a structure that no graph can be built for; atoms that are too close are found by the neighbor search.

    Raises:
        StructureError: The structure is not usable; the text gives the reason.
    """
    n_atoms = len(crystal)
    if n_atoms == 0:
        raise StructureError("the structure has no atoms")
    if crystal.lattice.shape != (3, 3) or crystal.frac_coords.shape != (n_atoms, 3):
        raise StructureError(
            f"expected a 3 x 3 lattice and {n_atoms} x 3 coordinates for {n_atoms} elements, "
            f"got {crystal.lattice.shape} and {crystal.frac_coords.shape}"
        )
    if not np.isfinite(crystal.lattice).all():
        raise StructureError("the lattice holds a number that is not finite")
    if not np.isfinite(crystal.frac_coords).all():
        raise StructureError("a coordinate is not finite")
    if max(np.abs(crystal.lattice).max(), np.abs(crystal.frac_coords).max()) > LARGEST_NUMBER:
        raise StructureError(f"a lattice vector or a coordinate is larger than {LARGEST_NUMBER:g}; expected Angstrom")
    if not ((crystal.atomic_numbers > 0) & (crystal.atomic_numbers < len(SYMBOLS))).all():
        found = shown(crystal.atomic_numbers.tolist())
        raise StructureError(f"atomic numbers are {found}; expected 1 to {len(SYMBOLS) - 1}")
    if not MINIMUM_VOLUME_PER_ATOM <= crystal.volume / n_atoms <= MAXIMUM_VOLUME_PER_ATOM:
        raise StructureError(f"the cell of {n_atoms} atoms has a volume of {crystal.volume:.3g} cubic Angstrom")


def cell_parameters(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths a, b and c (Angstrom) and the angles alpha, beta and gamma (degrees) of a cell.

    Args:
        lattice: Lattice vectors as rows, ``[3, 3]``, Angstrom.
    """
    # alpha is the angle between b and c, beta between c and a, gamma between a and b.
    lengths = np.linalg.norm(lattice, axis=1)
    directions = lattice / lengths[:, None]
    cosines = [directions[i] @ directions[j] for i, j in ((1, 2), (2, 0), (0, 1))]
    return lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def to_fractional(lattice: Any, cartesian: Any) -> np.ndarray:
    """Convert Cartesian coordinates (Angstrom) to fractional coordinates.

    Raises:
        StructureError: The lattice has no volume or the arrays are not numeric.
    """
    try:
        return np.linalg.solve(np.asarray(lattice, dtype=float).T, np.asarray(cartesian, dtype=float).T).T
    except (np.linalg.LinAlgError, ValueError, TypeError, OverflowError) as error:
        raise StructureError(f"cartesian coordinates cannot be turned into fractional ones: {error}") from error


def _less_skewed(crystal: Crystal) -> Crystal:
    """Return a crystal skewed beyond ``LARGEST_SKEW`` in its Minkowski-reduced cell, and any other unchanged.

    Only an unlucky choice of lattice vectors gives such a cell, and puts neighbors hundreds of cells apart.
    """
    if crystal.skew <= LARGEST_SKEW:
        return crystal
    if np.linalg.norm(crystal.lattice, axis=1).prod() > LARGEST_CANCELLATION * crystal.volume:
        return crystal
    from ase.geometry import minkowski_reduce

    try:
        lattice = np.array(minkowski_reduce(crystal.lattice)[0])
    except RuntimeError:  # the reduction does not converge
        return crystal
    frac_coords = to_fractional(lattice, crystal.frac_coords @ crystal.lattice)
    return Crystal(lattice, frac_coords - np.floor(frac_coords), crystal.atomic_numbers)
