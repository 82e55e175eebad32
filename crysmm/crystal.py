"""Representation of a structure inside the package, and conversion from those of other libraries."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from numbers import Real
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
FULL_OCCUPANCY = 1e-3 + 1e-9  # largest deviation from 1 of one that counts as full, so that 0.999 and 1.001 do
LARGEST_NUMBER = 1e6  # Angstrom or cells; no crystal is larger, and distances would be lost in rounding
LARGEST_ROUNDING = 0.1  # Angstrom between coordinates that are given twice, rounded differently
OCCUPANCY = re.compile(  # names of what says how far a site is occupied; d_occupation is of electrons
    r"(?:(?:atom(?:ic)?|sites?|partial)[_-]?)*(?:occ(?:u|upanc(?:y|ies)|upations?)?(?:_factors?)?|sof)", re.IGNORECASE
)
OF_A_CELL = "(?:lattice|cell)(?:_?(?:vector|constant|parameter))?"
LENGTHS = f"(?:length|distance|{OF_A_CELL}|box|(?:atom(?:ic)?_?)?(?:pos(?:ition)?|coord(?:inate)?)|xyz)s?"
UNIT_OF_LENGTH = re.compile(rf"{LENGTHS}[_-]?units?|units?[_-](?:of[_-])?(?:length|distance)s?", re.IGNORECASE)
OTHER_UNITS = frozenset("bohr bohrs au a.u. a0 nm nanometer nanometers pm picometer picometers m".split())
IN_WORDS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
NOT_PERIODIC = "the structure is not periodic in three directions; give it a full cell"


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


def as_crystal(structure: Any) -> Crystal:
    """Convert JARVIS ``Atoms``, a pymatgen ``Structure``, ``ase.Atoms`` or a dict to a :class:`Crystal`.

    A dict is JARVIS' (``lattice_mat``, ``coords``, ``elements``, ``cartesian``), pymatgen's (``Structure.as_dict``),
    OPTIMADE's (``lattice_vectors``, ...), or has ``lattice_mat``, ``frac_coords`` and ``elements``. Neither pymatgen
    nor ase needs to be installed.

    Raises:
        StructureError: The structure is disordered, not periodic or not usable (see :func:`check_crystal`).
        TypeError: The structure has none of these types.
    """
    if isinstance(structure, Crystal):
        check_crystal(structure)
        return structure
    if isinstance(structure, Mapping):
        return _from_dict(structure)
    readers = {"jarvis": _from_jarvis, "ase": _from_ase, "pymatgen": _from_pymatgen}
    packages = {base.__module__.partition(".")[0] for base in type(structure).__mro__}  # users subclass these types
    for package, reader in readers.items():  # pymatgen subclasses ase's Atoms, so ase comes first
        if package in packages:
            return reader(structure)
    raise TypeError(
        "expected a JARVIS Atoms, a pymatgen Structure, an ase Atoms, a Crystal or a dict of one, "
        f"got {type(structure).__name__}"
    )


def _from_dict(structure: Mapping[str, Any]) -> Crystal:
    """Convert a dict, in which pandas may have made arrays of lists, and nulls of what is not there."""
    structure = {key: value for key, value in _plain(structure).items() if key == "cartesian" or not is_null(value)}
    readers = {
        ("lattice", "sites"): _from_pymatgen_dict,
        ("lattice_vectors", "species_at_sites"): _from_optimade,
        ("lattice_mat", "elements"): _from_jarvis_dict,
    }
    forms = [keys for keys in readers if structure.keys() >= set(keys)]
    if len(forms) > 1:
        found = " and by ".join(map(", ".join, forms))
        raise StructureError(f"the dict holds {len(forms)} structures, by {found}; keep one")
    try:
        crystal = readers[forms[0]](structure) if forms else _from_jarvis_dict(structure)
    except TypeError as error:
        raise StructureError(f"the dict of a structure cannot be read: {error}") from error
    refuse_statements(structure, len(crystal))
    return crystal


def _from_jarvis_dict(structure: Mapping[str, Any]) -> Crystal:
    """Convert a dict of JARVIS, or one with ``lattice_mat``, ``elements`` and ``frac_coords``."""
    missing = [key for key in ("lattice_mat", "elements") if key not in structure]
    if missing or not ("frac_coords" in structure or "coords" in structure):
        raise StructureError(
            "expected the keys lattice_mat, elements and frac_coords (or JARVIS' coords), "
            f"got {', '.join(sorted(map(str, structure))) or 'none'}"
        )
    cartesian = structure.get("cartesian", False)
    if is_null(cartesian) and "frac_coords" in structure:
        cartesian = False
    if cartesian not in (True, False):
        raise StructureError(f"cartesian is {shown(cartesian)}; expected true or false")
    if cartesian and "coords" not in structure:
        raise StructureError("cartesian is true, and there are frac_coords alone; name cartesian coordinates coords")
    lattice, coords = structure["lattice_mat"], structure.get("coords")
    is_open = is_null(structure.get("cartesian"))
    if "frac_coords" in structure:
        crystal = Crystal.from_arrays(lattice, structure["frac_coords"], structure["elements"])
        if isinstance(coords, list | np.ndarray) and len(coords):
            _refuse_other_sites(lattice, structure["frac_coords"], coords, None if is_open else bool(cartesian))
    else:
        sites = to_fractional(lattice, coords) if cartesian else coords
        crystal = Crystal.from_arrays(lattice, sites, structure["elements"])
        if is_open and np.abs(np.array(coords, dtype=float)).max() > 1:  # before atoms are wrapped into a reduced cell
            raise StructureError("coords beyond 1 may be fractional, or in Angstrom; add cartesian, true or false")
    _refuse_open_directions(structure.get("pbc"))
    _refuse_other_cell(lattice, structure.get("abc"), structure.get("angles"))
    return crystal


def _refuse_open_directions(pbc: Any) -> None:
    """Refuse a structure that is not periodic, as one value or one for each direction says; null says nothing.

    Raises:
        StructureError: A direction is not periodic, or a value is neither true nor false.
    """
    words = pbc.split() if isinstance(pbc, str) else pbc if isinstance(pbc, list) else [pbc]
    meanings = [True if is_null(word) else IN_WORDS.get(str(word).lower()) for word in words]
    if None in meanings:
        raise StructureError(f"pbc is {shown(pbc)}; expected true or false, or one of them for each direction")
    if not all(meanings):
        raise StructureError(NOT_PERIODIC)


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


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) and not abs(value) > LARGEST_NUMBER for value in values)


def _refuse_other_cell(lattice: Any, lengths: Any, angles: Any) -> None:
    """Refuse a structure whose cell is given twice, by its vectors and by numbers that are not theirs.

    Args:
        lattice: Lattice vectors as rows, Angstrom.
        lengths: Their lengths, Angstrom; what is not three numbers is ignored.
        angles: Their angles alpha, beta and gamma, degrees; likewise.

    Raises:
        StructureError: They differ by more than rounding.
    """
    found_lengths, found_angles = cell_parameters(np.array(lattice, dtype=float))
    for what, given, found in (("lengths", lengths, found_lengths), ("angles", angles, found_angles)):
        if not isinstance(given, list | tuple) or len(given) != 3 or not _are_numbers(given):
            continue
        pairs = zip(given, found.tolist(), strict=True)
        if any(number < 0.99 * right - 0.05 or number > 1.01 * right + 0.05 for number, right in pairs):
            raise StructureError(
                f"the structure contradicts itself: its {what} are {shown(given)}, those of its lattice vectors "
                f"{found.round(3).tolist()}; correct the one that is wrong"
            )


def _refuse_other_sites(lattice: Any, frac_coords: Any, others: Any, cartesian: bool | None) -> None:
    """Refuse a structure whose coordinates are given twice, as other sites.

    Args:
        lattice: Lattice vectors as rows, Angstrom.
        frac_coords: Fractional coordinates.
        others: The other coordinates; an atom may be in another cell.
        cartesian: Whether these are in Angstrom; None if they may be or be fractional.

    Raises:
        StructureError: A site is elsewhere, or there are others.
    """
    vectors, sites = np.array(lattice, dtype=float), np.array(frac_coords, dtype=float)
    try:
        coords = np.array(others, dtype=float).reshape(sites.shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise StructureError(f"the two lists of coordinates are not of the same sites: {error}; keep one") from error
    readings = [] if cartesian else [coords]
    if cartesian is not False:
        readings.append(to_fractional(vectors, coords))
    distances = []
    for reading in readings:
        steps = sites - reading
        distances.append(np.linalg.norm((steps - np.round(steps)) @ vectors, axis=1).max())
    if not min(distances) <= LARGEST_ROUNDING:
        raise StructureError(
            f"the structure contradicts itself: its two lists of coordinates are up to {min(distances):.2f} Angstrom "
            "apart; keep the one that is right"
        )


def _plain(value: Any) -> Any:
    """Return a value with lists in the place of tuples and arrays, such as Parquet's arrays of arrays."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        return list(map(_plain, value))
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def is_null(value: Any) -> bool:
    """Return True for None, NaN and pandas' NA, also as text."""
    if isinstance(value, str):
        return value in ("nan", "<NA>")
    is_nan = isinstance(value, float | np.floating) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ == "NAType"  # without pandas, which is slow to import


def _from_pymatgen_dict(structure: Mapping[str, Any]) -> Crystal:
    try:
        lattice, sites = structure["lattice"], structure["sites"]
        periodic, matrix = lattice.get("pbc") or (True, True, True), lattice["matrix"]
        symbols = [
            _only_element(f"site {number}", ((kind["element"], kind.get("occu", 1)) for kind in site["species"]))
            for number, site in enumerate(sites, 1)
        ]
        coords = [site["abc"] for site in sites]
    except (KeyError, TypeError, AttributeError) as error:
        raise StructureError(f"the dict of a pymatgen Structure is incomplete: {error!r}") from error
    if not all(periodic):
        raise StructureError(NOT_PERIODIC)
    crystal = Crystal.from_arrays(matrix, coords, symbols)
    for site in sites:
        properties = site.get("properties")
        known = {key: [value] for key, value in properties.items()} if isinstance(properties, Mapping) else {}
        refuse_statements(known, 1)
    _refuse_other_cell(matrix, list(map(lattice.get, "abc")), list(map(lattice.get, ("alpha", "beta", "gamma"))))
    if all(site.get("xyz") is not None for site in sites):
        _refuse_other_sites(matrix, coords, [site["xyz"] for site in sites], cartesian=True)
    return crystal


def _from_optimade(structure: Mapping[str, Any]) -> Crystal:
    """Convert the attributes of a structure in an OPTIMADE response (version 1)."""
    features = set(structure.get("structure_features") or ()) | (
        {"assemblies"} if structure.get("assemblies") else set()
    )
    if others := features - {"disorder"}:
        raise StructureError(
            f"the OPTIMADE structure has {', '.join(sorted(others))}; give an ordered structure with all its atoms"
        )
    try:
        lattice, positions = structure["lattice_vectors"], structure["cartesian_site_positions"]
        elements: dict[str, Any] = {}
        for kind in structure["species"]:
            name, found, shares = kind["name"], kind["chemical_symbols"], kind["concentration"]
            if name in elements or kind.get("attached") or len(found) != len(shares):
                raise StructureError(
                    f"species {name} of the OPTIMADE structure is given twice, has attached atoms, or not one "
                    "concentration for each symbol; give an ordered structure with all its atoms"
                )
            elements[name] = _only_element(f"a site of species {name}", zip(found, shares, strict=True))
        symbols = [elements[name] for name in structure["species_at_sites"]]
        if features and all(len(kind["chemical_symbols"]) < 2 for kind in structure["species"]):
            raise StructureError(
                "the OPTIMADE structure has disorder, and each of its species one element; correct one or the other"
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise StructureError(f"the OPTIMADE structure is incomplete: {error!r}") from error
    if not all(structure.get("dimension_types") or (True,)) or structure.get("nperiodic_dimensions", 3) != 3:
        raise StructureError(NOT_PERIODIC)
    crystal = Crystal.from_arrays(lattice, to_fractional(lattice, positions), symbols)
    n_sites, formula = structure.get("nsites", len(crystal)), structure.get("chemical_formula_reduced", crystal.formula)
    named = structure.get("elements", crystal.elements)
    has_formula = _proportions(formula) == _proportions(crystal.formula)
    has_elements = isinstance(named, list | tuple) and set(map(str, named)) == set(crystal.elements)
    if n_sites != len(crystal) or not has_formula or not has_elements:
        raise StructureError(
            f"the OPTIMADE structure contradicts itself: nsites is {shown(n_sites)}, chemical_formula_reduced "
            f"{shown(formula)} and elements {shown(named)}, the sites are {len(crystal)} of {crystal.formula}"
        )
    return crystal


def _proportions(formula: Any) -> dict[str, int]:
    """Return the least integers in the proportions of a formula such as ``Al2O3``."""
    counts = {symbol: int(count or 1) for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", str(formula))}
    divisor = math.gcd(*counts.values())
    return {symbol: count // divisor for symbol, count in counts.items() if count}


def _only_element(site: str, species: Iterable[tuple[Any, float]]) -> Any:
    """Return the element of a site, whose species may be several oxidation states of one element.

    Args:
        site: Name of the site.
        species: Symbol and occupancy of each species.

    Raises:
        StructureError: The site has no element or several, or is not fully occupied.
    """
    occupancies: dict[Any, float] = {}
    for symbol, occupancy in species:
        if not isinstance(occupancy, Real) or abs(occupancy) > LARGEST_NUMBER:
            raise StructureError(f"{site} has the occupancy {shown(occupancy)} of {symbol}; expected a number")
        occupancies[symbol] = occupancies.get(symbol, 0) + occupancy
    if len(occupancies) == 1 and all(abs(total - 1) <= FULL_OCCUPANCY for total in occupancies.values()):
        return next(iter(occupancies))
    found = ", ".join(f"{symbol} {total:g}" for symbol, total in occupancies.items()) or "nothing"
    raise StructureError(f"partial occupancy: {site} holds {found}; give an ordered structure")


def to_fractional(lattice: Any, cartesian: Any) -> np.ndarray:
    """Convert Cartesian coordinates (Angstrom) to fractional coordinates.

    Raises:
        StructureError: The lattice has no volume or the arrays are not numeric.
    """
    try:
        return np.linalg.solve(np.asarray(lattice, dtype=float).T, np.asarray(cartesian, dtype=float).T).T
    except (np.linalg.LinAlgError, ValueError, TypeError, OverflowError) as error:
        raise StructureError(f"cartesian coordinates cannot be turned into fractional ones: {error}") from error


def _from_jarvis(atoms: Any) -> Crystal:
    return Crystal.from_arrays(atoms.lattice_mat, atoms.frac_coords, atoms.elements)


def _from_pymatgen(structure: Any) -> Crystal:
    if not hasattr(structure, "lattice"):
        raise StructureError(f"a pymatgen {type(structure).__name__} has no lattice; a periodic Structure is needed")
    if not all(structure.lattice.pbc):
        raise StructureError(NOT_PERIODIC)
    symbols = [
        _only_element(f"site {number}", ((kind.symbol, occupancy) for kind, occupancy in site.species.items()))
        for number, site in enumerate(structure, 1)
    ]
    refuse_statements(structure.site_properties, len(structure))
    return Crystal.from_arrays(structure.lattice.matrix, structure.frac_coords, symbols)


def _from_ase(atoms: Any) -> Crystal:
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise StructureError(NOT_PERIODIC)
    kinds = atoms.arrays.get("spacegroup_kinds", ())
    for statements in (atoms.info, atoms.arrays):
        refuse_statements(statements, len(atoms), kinds)
    lattice = atoms.cell.array
    return Crystal.from_arrays(lattice, to_fractional(lattice, atoms.get_positions()), atoms.get_chemical_symbols())


def refuse_shared_sites(occupancy: Mapping[Any, Any], kinds: Iterable[Any]) -> None:
    """Refuse atoms that ASE read from a disordered CIF: it keeps the most frequent species of each site only.

    Args:
        occupancy: ASE's record of the disorder by kind of site, ``{"0": {"Fe": 0.6, "Ni": 0.4}}``.
        kinds: Kinds of the sites present; if none is known, all of them.

    Raises:
        StructureError: A site is shared or not fully occupied.
    """
    sites = {str(kind): shares for kind, shares in occupancy.items()}
    for kind in sorted((set(map(str, kinds)) or set(sites)) & set(sites)):
        try:
            _only_element(f"by 'occupancy', kind {kind} of 'spacegroup_kinds'", sites[kind].items())
        except (AttributeError, TypeError):
            raise StructureError(
                f"'occupancy' of kind {kind} is {shown(sites[kind])}; expected symbols and numbers"
            ) from None


def refuse_statements(properties: Mapping[Any, Any], n_sites: int, kinds: Iterable[Any] = ()) -> None:
    """Refuse a structure if a property says that sites are partially occupied, or that lengths are not in Angstrom.

    Args:
        properties: Values by name, such as the fields of the structure's row.
        n_sites: Number of sites.
        kinds: Kinds of the sites present, by which ASE's record of disorder names them; empty if not known.

    Raises:
        StructureError: A site is not fully occupied, the text names the first one; or the unit is another.
    """
    for name, value in properties.items():
        if OCCUPANCY.fullmatch(str(name)):
            if isinstance(value, Mapping):
                refuse_shared_sites(value, kinds)
            else:
                refuse_vacancies(_occupancies(str(name), _plain(value), n_sites))
        if UNIT_OF_LENGTH.fullmatch(str(name)) and str(value).strip().lower() in OTHER_UNITS:
            raise StructureError(f"the unit is {shown(value)} ({name}); expected Angstrom")


def _occupancies(name: str, value: Any, n_sites: int) -> list[float]:
    """Return what a property says of the occupancies of sites: a number for each, one for all, or nothing.

    A text without a digit says nothing, nor does one number of a name such as ``occ`` or ``sof``, which may be a
    property of the crystal, nor a table with several numbers for each site, such as those of electrons.

    Raises:
        StructureError: It says something else.
    """
    if isinstance(value, str):
        value = value.replace(",", " ").split() if any(map(str.isdecimal, value)) else []
        value = value[0] if len(value) == 1 else value
    values = value if isinstance(value, list) else [value] * n_sites
    if is_null(value) or not values or (not isinstance(value, list) and "occupanc" not in name.lower()):
        return []
    if all(isinstance(one, list) for one in values):
        if any(len(one) > 1 for one in values):
            return []
        values = [number for one in values for number in one]
    try:
        occupancies = [1.0 if is_null(one) else float(one) for one in values]
    except (TypeError, ValueError, OverflowError):
        occupancies = []
    if len(occupancies) != n_sites:
        raise StructureError(f"{name} is {shown(value)}; expected the occupancies of {n_sites} sites, as numbers")
    return occupancies


def refuse_vacancies(occupancies: Any) -> None:
    """Refuse partially occupied atoms.

    Raises:
        StructureError: An atom is not fully occupied; the text names the first one.
    """
    for atom, occupancy in enumerate(occupancies, 1):
        if not abs(occupancy - 1) <= FULL_OCCUPANCY:
            raise StructureError(
                f"partial occupancy: atom {atom} is occupied to {occupancy:g}; give an ordered structure"
            )
