"""Conversion of the structures of other libraries, and of their dicts, to :class:`Crystal`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from crysmm.crystals.crystal import Crystal, check_crystal, to_fractional
from crysmm.crystals.statements import (
    NOT_PERIODIC,
    is_null,
    only_element,
    plain,
    refuse_open_directions,
    refuse_other_cell,
    refuse_other_kind,
    refuse_other_sites,
    refuse_statements,
)
from crysmm.errors import StructureError, shown

WHOLE_CELL = ("unit_cell", "molecular_unit_cell")  # what the sites of OPTIMADE 1.3 may be


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
            try:
                return reader(structure)
            except (AttributeError, KeyError):  # another of its types, such as one site or a cell
                break
    raise TypeError(
        "expected a JARVIS Atoms, a pymatgen Structure, an ase Atoms, a Crystal or a dict of one, "
        f"got {type(structure).__name__}"
    )


def _from_dict(structure: Mapping[str, Any]) -> Crystal:
    """Convert a dict; pandas may have turned its lists into arrays and its missing keys into nulls."""
    structure = {key: value for key, value in plain(structure).items() if key == "cartesian" or not is_null(value)}
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
    props = structure.get("props")
    for statements in (structure, props if isinstance(props, Mapping) else {}):
        refuse_statements(statements, len(crystal))
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
            refuse_other_sites(lattice, structure["frac_coords"], coords, None if is_open else bool(cartesian))
    else:
        refuse_other_kind(structure, cartesian=bool(cartesian))
        sites = to_fractional(lattice, coords) if cartesian else coords
        crystal = Crystal.from_arrays(lattice, sites, structure["elements"])
        if is_open and np.abs(np.array(coords, dtype=float)).max() > 1:  # before atoms are wrapped into a reduced cell
            raise StructureError("coords beyond 1 may be fractional, or in Angstrom; add cartesian, true or false")
    refuse_open_directions(structure.get("pbc"))
    if structure.get("periodic") is False:
        raise StructureError(NOT_PERIODIC)
    refuse_other_cell(lattice, structure.get("abc"), structure.get("angles"))
    return crystal


def _from_pymatgen_dict(structure: Mapping[str, Any]) -> Crystal:
    try:
        lattice, sites = structure["lattice"], structure["sites"]
        periodic, matrix = lattice.get("pbc") or (True, True, True), lattice["matrix"]
        symbols = [
            only_element(f"site {number}", ((kind["element"], kind.get("occu", 1)) for kind in site["species"]))
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
    refuse_other_cell(matrix, list(map(lattice.get, "abc")), list(map(lattice.get, ("alpha", "beta", "gamma"))))
    if twice := [(site["abc"], site["xyz"]) for site in sites if site.get("xyz") is not None]:
        fractional, cartesian = zip(*twice, strict=True)
        refuse_other_sites(matrix, fractional, cartesian, cartesian=True)
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
    span = structure.get("site_coordinate_span")
    if span not in (None, *WHOLE_CELL):
        raise StructureError(f"the sites of the OPTIMADE structure are its {span}; give those of the unit cell")
    try:
        lattice, positions = structure["lattice_vectors"], structure["cartesian_site_positions"]
        elements: dict[str, Any] = {}
        for kind in structure["species"]:
            name, found, occupancies = kind["name"], kind["chemical_symbols"], kind["concentration"]
            if name in elements or kind.get("attached") or len(found) != len(occupancies):
                raise StructureError(
                    f"species {name} of the OPTIMADE structure is given twice, has attached atoms, or not one "
                    "concentration for each symbol; give an ordered structure with all its atoms"
                )
            elements[name] = only_element(f"a site of species {name}", zip(found, occupancies, strict=True))
        symbols = [elements[name] for name in structure["species_at_sites"]]
        if features and all(len(kind["chemical_symbols"]) < 2 for kind in structure["species"]):
            raise StructureError(
                "the OPTIMADE structure has disorder, and each of its species one element; correct one or the other"
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise StructureError(f"the OPTIMADE structure is incomplete: {error!r}") from error
    if not all(structure.get("dimension_types") or (True,)) or structure.get("nperiodic_dimensions", 3) != 3:
        raise StructureError(NOT_PERIODIC)
    sites = to_fractional(lattice, positions)
    crystal = Crystal.from_arrays(lattice, sites, symbols)
    if isinstance(again := structure.get("fractional_site_positions"), list):
        refuse_other_sites(lattice, sites, again, cartesian=False)
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


def _from_jarvis(atoms: Any) -> Crystal:
    return Crystal.from_arrays(atoms.lattice_mat, atoms.frac_coords, atoms.elements)


def _from_pymatgen(structure: Any) -> Crystal:
    if not hasattr(structure, "lattice"):
        raise StructureError(f"a pymatgen {type(structure).__name__} has no lattice; a periodic Structure is needed")
    if not all(structure.lattice.pbc):
        raise StructureError(NOT_PERIODIC)
    symbols = [
        only_element(f"site {number}", ((kind.symbol, occupancy) for kind, occupancy in site.species.items()))
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
