"""Statements of a source beside cell, sites and elements, and refusals of what contradicts these.

Occupancies, periodicity, units of length, and a cell or coordinates that are given a second time: a structure that
contradicts itself, or is not the whole crystal, is never read as another one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from crysmm.crystals.crystal import LARGEST_NUMBER, cell_parameters, to_fractional
from crysmm.errors import StructureError, shown

OCCUPANCY_TOLERANCE = 1e-3 + 1e-9  # largest deviation from 1 of one that counts as full, so that 0.999 and 1.001 do
LARGEST_ROUNDING = 0.1  # Angstrom between coordinates that are given twice, rounded differently
OCCUPANCY = re.compile(  # keys that give a site's occupancy; d_occupation counts electrons
    r"(?:(?:atom(?:ic)?|sites?|partial)[_-]?)*(?:occ(?:u|upanc(?:y|ies)|upations?)?(?:_factors?)?|sof)", re.IGNORECASE
)
OF_A_CELL = "(?:lattice|cell)(?:_?(?:vector|constant|parameter|mat(?:rix)?))?"
LENGTHS = f"(?:length|distance|{OF_A_CELL}|box|(?:atom(?:ic)?_?)?(?:pos(?:ition)?|coord(?:inate)?)|xyz)s?"
UNITS = re.compile("units?", re.IGNORECASE)
UNITS_OF_LENGTHS = re.compile(rf"{LENGTHS}[_-]?units?|units?[_-](?:of[_-])?(?:length|distance)s?", re.IGNORECASE)
OTHER_UNITS = frozenset("bohr bohrs au a.u. a0 nm nanometer nanometers pm picometer picometers m".split())
UNITS_OF_ANYTHING = frozenset({"au", "a.u.", "m"})  # of energies, say, where no length is named
IN_WORDS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
IS_CARTESIAN = re.compile(r"(?:coord(?:inate)?s_are_|is_)?(?P<kind>cartesian|fractional)", re.IGNORECASE)
KIND_OF_COORDINATES = re.compile(r"(?:coord(?:inate)?|pos(?:ition)?)s?(?:_?(?:type|system|kind|mode))?", re.IGNORECASE)
CARTESIAN = frozenset({"cartesian", "cart"})
FRACTIONAL = frozenset({"fractional", "frac", "direct", "scaled", "crystal", "relative"})
NOT_PERIODIC = "the structure is not periodic in three directions; give it a full cell"


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
                refuse_vacancies(_occupancies(str(name), plain(value), n_sites))
        of_lengths = UNITS_OF_LENGTHS.fullmatch(str(name)) is not None
        if (of_lengths or UNITS.fullmatch(str(name))) and _names_other_unit(value, of_lengths=of_lengths):
            raise StructureError(f"the unit is {shown(value)} ({name}); expected Angstrom")


def _names_other_unit(value: Any, *, of_lengths: bool) -> bool:
    """Return True for another unit than Angstrom, also in a list of units, or under a length in a dict of them.

    Args:
        value: A unit, or several.
        of_lengths: True if it is that of lengths; otherwise it may be that of another property, such as atomic units.
    """
    if isinstance(value, Mapping):
        lengths = [item for key, item in value.items() if re.fullmatch(LENGTHS, str(key), re.IGNORECASE)]
        return any(_names_other_unit(item, of_lengths=True) for item in lengths)
    units = value if isinstance(value, list | tuple) else [value]
    others = OTHER_UNITS if of_lengths else OTHER_UNITS - UNITS_OF_ANYTHING
    return any(str(unit).strip().lower() in others for unit in units)


def refuse_other_kind(properties: Mapping[Any, Any], *, cartesian: bool) -> None:
    """Refuse a structure if another property contradicts whether its coordinates are Cartesian.

    Args:
        properties: Values by name.
        cartesian: True if they are taken for Cartesian.

    Raises:
        StructureError: With the property.
    """
    for name, value in properties.items():
        if are_cartesian(str(name), str(value)) is (not cartesian):
            taken, right = ("Cartesian", "false") if cartesian else ("fractional", "true")
            raise StructureError(
                f"the coordinates are taken for {taken}, and {name} is {shown(value)}; correct it, or give cartesian, "
                f"{right}"
            )


def are_cartesian(name: str, value: str) -> bool | None:
    """Return what a property says of the coordinates: that they are Cartesian, that they are not, or None."""
    word = value.strip().lower()
    if match := IS_CARTESIAN.fullmatch(name):
        is_so = IN_WORDS.get(word)
        return None if is_so is None else is_so == (match["kind"].lower() == "cartesian")
    if not KIND_OF_COORDINATES.fullmatch(name):
        return None
    return True if word in CARTESIAN else False if word in FRACTIONAL else None


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
        if not abs(occupancy - 1) <= OCCUPANCY_TOLERANCE:
            raise StructureError(
                f"partial occupancy: atom {atom} is occupied to {occupancy:g}; give an ordered structure"
            )


def refuse_shared_sites(occupancy: Mapping[Any, Any], kinds: Iterable[Any]) -> None:
    """Refuse atoms that ASE read from a disordered CIF: it keeps the most frequent species of each site only.

    Args:
        occupancy: ASE's record of the disorder by kind of site, ``{"0": {"Fe": 0.6, "Ni": 0.4}}``.
        kinds: Kinds of the sites present; if none is known, all of them.

    Raises:
        StructureError: A site is shared or not fully occupied.
    """
    sites = {str(kind): occupancies for kind, occupancies in occupancy.items()}
    for kind in sorted((set(map(str, kinds)) or set(sites)) & set(sites)):
        try:
            only_element(f"by 'occupancy', kind {kind} of 'spacegroup_kinds'", sites[kind].items())
        except (AttributeError, TypeError):
            raise StructureError(
                f"'occupancy' of kind {kind} is {shown(sites[kind])}; expected symbols and numbers"
            ) from None


def only_element(site: str, species: Iterable[tuple[Any, float]]) -> Any:
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
    if len(occupancies) == 1 and all(abs(total - 1) <= OCCUPANCY_TOLERANCE for total in occupancies.values()):
        return next(iter(occupancies))
    found = ", ".join(f"{symbol} {total:g}" for symbol, total in occupancies.items()) or "nothing"
    raise StructureError(f"partial occupancy: {site} holds {found}; give an ordered structure")


def refuse_open_directions(pbc: Any) -> None:
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


def refuse_other_cell(lattice: Any, lengths: Any, angles: Any) -> None:
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


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) and not abs(value) > LARGEST_NUMBER for value in values)


def refuse_other_sites(lattice: Any, frac_coords: Any, others: Any, cartesian: bool | None) -> None:
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


def plain(value: Any) -> Any:
    """Return a value with lists in the place of tuples and arrays, such as Parquet's arrays of arrays."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        return list(map(plain, value))
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def is_null(value: Any) -> bool:
    """Return True for None, NaN and pandas' NA, also as text."""
    if isinstance(value, str):
        return value in ("nan", "<NA>")
    is_nan = isinstance(value, float | np.floating) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ == "NAType"  # without pandas, which is slow to import
