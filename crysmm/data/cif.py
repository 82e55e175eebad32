"""Crystallographic information files: the full cell, by the symmetry operations as they are written.

gemmi reads the text. What it says is then held against itself: operations against the cell and the space group's names
(:mod:`crysmm.data.symmetry_operations`), elements against the formula (:mod:`crysmm.data.site_species`), atoms against
each other's radii. Where these leave more than one crystal, the file is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, cast

import numpy as np

from crysmm.crystal import FULL_OCCUPANCY, Crystal
from crysmm.data.site_species import Formula, Readings, choose_elements, compare_formula, read_label, read_type
from crysmm.data.source import Reading
from crysmm.data.symmetry_operations import (
    SAME_SITE,
    GroupNames,
    Operations,
    identity,
    magnetic_operations,
    written_operations,
)
from crysmm.errors import StructureError, first_of
from crysmm.graphs.neighbors import close_pairs, too_close

if TYPE_CHECKING:
    from gemmi import cif

UNKNOWN = ("?", ".", "")
LENGTHS = [f"_cell_length_{axis}" for axis in "abc"]
ANGLES = [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
MAGNETIC_OPERATIONS = "_space_group_symop_magn_operation_xyz"
MAGNETIC_CENTRINGS = "_space_group_symop_magn_centering_xyz"
GROUP_NAMES = ("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m")
GROUP_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
HALL_SYMBOLS = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
SITES = [f"_atom_site_fract_{axis}" for axis in "xyz"]
OTHER_SYMMETRY = re.compile(r"symop|symmetry_equiv|space_group_magn|space_group_name|hall|name_h-m")
PARENT = "_parent_space_group"  # of a magnetic or distorted structure, not its own
SPACES = re.compile(r"[^\S\n\r]|[\u200b\u2060\ufeff]")  # no-break and thin spaces among them
HEADER = re.compile(r"(?im)^(data_\S*)[ \t]+(?![_#]|loop_|save_).*$")  # with blanks in its name
GLUED = re.compile(r"(?m)^((?:_\S+)?[ \t]*(['\"])[^\n]*\2)[^\s'\"]+[ \t]*$")  # 'A. One, B. Two',
WHERE = re.compile(r"string:?(?P<line>\d*)[^ ]*(?: in \S+)?: (?P<what>.*)", re.DOTALL)  # how gemmi words an error


def parse_cif(text: str) -> Reading:
    """Return the structure in a CIF with every atom of its cell, and notes on how it was read.

    Raises:
        StructureError: there is none or more than one, it is disordered, or what the file says of it is ambiguous or
            contradicts itself.
    """
    blocks = [block for block in map(Tags, _document(text)) if block.has_sites]
    if not blocks:
        raise StructureError("the CIF has no atom sites with fractional coordinates (_atom_site_fract_x, _y, _z)")
    if len(blocks) > 1:
        names = first_of([block.name for block in blocks])
        raise StructureError(f"the file holds {len(blocks)} structures (data blocks {names}); expected one a file")
    return _Structure(blocks[0]).read()


def _document(text: str) -> cif.Document:
    """Return the data blocks of a text.

    Raises:
        StructureError: it is no CIF; the text says where.
    """
    from gemmi import cif

    is_cif2 = text.startswith("#\\#CIF_2")
    text = HEADER.sub(r"\1", SPACES.sub(" ", text).encode("ascii", "replace").decode())  # what else is no CIF 1
    try:
        try:
            return cif.read_string(text, check_level=0)
        except (ValueError, RuntimeError):
            return cif.read_string(GLUED.sub(r"\1", text), check_level=0)
    except (ValueError, RuntimeError) as error:
        found = WHERE.match(str(error))
        where = f"line {found['line']} of the CIF" if found and found["line"] else "the CIF"
        remedy = "lists and triple quotes of CIF 2 are not read" if is_cif2 else "values with blanks need quotes"
        raise StructureError(f"{where} cannot be read: {found['what'] if found else error}; {remedy}") from error


class Tags:
    """The values in a data block by tag, in lower case and with ``_`` for the ``.`` of newer dictionaries."""

    def __init__(self, block: cif.Block):
        self.name = block.name
        self._columns: dict[str, list[list[str]]] = defaultdict(list)
        for item in block:
            if item.pair is not None:
                tag, value = cast(tuple[str, str], item.pair)
                self._columns[_normal(tag)].append([value])
            elif item.loop is not None:
                width, values = len(item.loop.tags), item.loop.values
                for column, tag in enumerate(item.loop.tags):
                    self._columns[_normal(tag)].append(values[column::width])

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    @property
    def has_sites(self) -> bool:
        """Whether a site has a coordinate."""
        return any(word not in UNKNOWN for words in self._columns.get(SITES[0], []) for word in words)

    def column(self, tag: str) -> list[str]:
        """Return the values of a tag without their quotes, ``?`` and ``.`` as they are; none where it is missing.

        Where the tag stands there more than once, values that are all unknown do not count.

        Raises:
            StructureError: the tag stands there more than once, with different values.
        """
        from gemmi import cif

        found = [
            [word if word in UNKNOWN else cif.as_string(word).strip() for word in words]
            for words in self._columns.get(tag, [])
        ]
        known = [words for words in found if any(word not in UNKNOWN for word in words)] or found[:1]
        if any(words != known[0] for words in known):
            several = ", ".join(sorted({words[0] for words in known}))
            raise StructureError(f"{tag} stands in the CIF more than once: {several}; expected one structure a file")
        return known[0] if known else []

    def known(self, *tags: str) -> str | None:
        """Return the first value that is known of some tags."""
        values = chain.from_iterable(self.column(tag) for tag in tags)
        return next((value for value in values if value not in UNKNOWN), None)


def _normal(tag: str) -> str:
    return tag.lower().replace(".", "_")


def _numbers(words: Iterable[str]) -> list[float]:
    """Return numbers without their uncertainties; NaN for what is none."""
    from gemmi import cif

    return [cif.as_number(word) for word in words]


@dataclass
class _Cell:
    """Atoms of the full cell as one setting of the space group gives them."""

    crystal: Crystal
    notes: tuple[str, ...]


class _Structure:
    """One data block, read step by step; see :func:`parse_cif`."""

    def __init__(self, tags: Tags):
        self.tags = tags
        self.notes: list[str] = []
        self.rows = self._real_sites()
        self.labels = self._site_column("_atom_site_label") or [f"number {row + 1}" for row in self.rows]
        self.words = self._coordinates()
        self._check_order()
        self.readings = self._readings()
        self.sites = np.array([_numbers(words) for words in self.words])
        self.steps = np.array([list(map(_last_unit, words)) for words in self.words])
        self.lattice = self._lattice()
        self.formula = Formula.parse(tags.known("_chemical_formula_sum"))

    def read(self) -> Reading:
        """Return the crystal, if the file leaves one.

        Raises:
            StructureError: it leaves none, or several.
        """
        names = GroupNames(*(self.tags.known(*tags) for tags in (GROUP_NAMES, GROUP_NUMBERS, HALL_SYMBOLS)))
        written = self._written_operations()
        if written is not None:
            written.check(self.lattice)
            cell = self._fill(written)
            self._compare_with_names(written, names, cell)
        elif names == GroupNames():
            self._refuse_other_symmetry()
            cell = self._fill(identity())
        else:
            cell = self._fill_one_of(names.settings(self.lattice))
        return Reading(cell.crystal, (*self.notes, *cell.notes), self.formula is not None)

    def _real_sites(self) -> list[int]:
        """Return the rows of the sites that are atoms: dummies and empty sites mark a place, as of a ring's center."""
        n_sites = len(self.tags.column(SITES[0]))
        flags = self.tags.column("_atom_site_calc_flag")
        dummies = {row for row, flag in enumerate(flags) if flag.lower() == "dum"}
        if dummies:
            self.notes.append(f"dummy sites (_atom_site_calc_flag dum) are no atoms: {len(dummies)} left out")
        occupancies = _numbers(self.tags.column("_atom_site_occupancy"))
        empty = {row for row, value in enumerate(occupancies) if value == 0} - dummies
        if empty:
            self.notes.append(f"sites of occupancy 0 are no atoms: {len(empty)} left out")
        return [row for row in range(n_sites) if row not in dummies | empty]

    def _site_column(self, tag: str) -> list[str]:
        """Return a column of the sites that are atoms; none where it is missing.

        Raises:
            StructureError: it has not a value for each site.
        """
        values = self.tags.column(tag)
        n_sites = len(self.tags.column(SITES[0]))
        if values and len(values) != n_sites:
            raise StructureError(f"the CIF has {n_sites} of {SITES[0]}, {len(values)} of {tag}; expected as many")
        return [values[row] for row in self.rows] if values else []

    def _coordinates(self) -> list[tuple[str, ...]]:
        columns = [self._site_column(tag) for tag in SITES]
        for tag, column in zip(SITES, columns, strict=True):
            if not column:
                raise StructureError(f"the CIF has no {tag}; expected as many as of {SITES[0]}")
        sites = list(zip(*columns, strict=True))
        for label, words in zip(self.labels, sites, strict=True):
            if not np.isfinite(_numbers(words)).all():
                raise StructureError(
                    f"site {label}: a coordinate in the CIF is not a number: {' '.join(words)}; write it, or leave the "
                    "site out"
                )
        return sites

    def _check_order(self) -> None:
        """Refuse sites that are partly occupied or alternatives of each other.

        Raises:
            StructureError: naming a site.
        """
        occupancies = self._site_column("_atom_site_occupancy")
        for label, word, value in zip(self.labels, occupancies, _numbers(occupancies), strict=False):
            if word not in UNKNOWN and not abs(value - 1) <= FULL_OCCUPANCY:
                raise StructureError(
                    f"partial occupancy: site {label} is occupied to {word}; give an ordered structure"
                )
        groups = self._site_column("_atom_site_disorder_group")
        assemblies = self._site_column("_atom_site_disorder_assembly") or ["."] * len(groups)
        alternatives: dict[str, set[str]] = defaultdict(set)
        for assembly, group in zip(assemblies, groups, strict=False):  # no groups, no alternatives
            if group not in (*UNKNOWN, "0"):
                alternatives[assembly].add(group)
        for assembly, found in alternatives.items():
            if len(found) > 1 or any(group.startswith("-") for group in found):
                raise StructureError(
                    f"disorder groups {', '.join(sorted(found))} of assembly {assembly} are alternatives of each "
                    "other; give an ordered structure"
                )

    def _readings(self) -> list[Readings]:
        """Return what the type symbol of each site, or its label where it has none, can mean."""
        types = self._site_column("_atom_site_type_symbol") or ["?"] * len(self.rows)
        given = self._site_column("_atom_site_label") or ["?"] * len(self.rows)
        return [
            read_type(word) if word not in UNKNOWN else read_label(label)
            for word, label in zip(types, given, strict=True)
        ]

    def _lattice(self) -> np.ndarray:
        """Return ``[3, 3]``, rows are the lattice vectors in Angstrom.

        Raises:
            StructureError: a length or an angle is missing or no positive number.
        """
        from gemmi import UnitCell

        missing = [tag for tag in ANGLES if not self.tags.column(tag)]
        if missing:
            self.notes.append(f"{', '.join(missing)}: missing, so 90 degrees, the dictionary's default")
        words = [next(iter(self.tags.column(tag)), "90" if tag in missing else "?") for tag in (*LENGTHS, *ANGLES)]
        values = _numbers(words)
        for tag, word, value in zip((*LENGTHS, *ANGLES), words, values, strict=True):
            if not value > 0:
                raise StructureError(f"the CIF has no cell lengths and angles that can be used: {tag} is {word}")
        return np.array(UnitCell(*values).orth.mat.tolist()).T

    def _written_operations(self) -> Operations | None:
        """Return the symmetry operations that are written; None if there are none.

        Raises:
            StructureError: one cannot be read, or two lists differ.
        """
        lists = [self._known_values(tag) for tag in OPERATIONS]
        found = [written_operations(texts) for texts in lists if texts]
        if len(found) == 2 and found[0].triplets != found[1].triplets:
            raise StructureError(f"the CIF has two lists of symmetry operations that differ: {', '.join(OPERATIONS)}")
        if found:
            return found[0]
        magnetic = self._known_values(MAGNETIC_OPERATIONS)
        if magnetic:
            return magnetic_operations(magnetic, self._known_values(MAGNETIC_CENTRINGS))
        return None

    def _known_values(self, tag: str) -> list[str]:
        return [text for text in self.tags.column(tag) if text not in UNKNOWN]

    def _refuse_other_symmetry(self) -> None:
        """Refuse symmetry in a form that is not read, instead of taking a part of the cell for all of it."""
        for tag in self.tags:
            if tag.startswith(PARENT) or not OTHER_SYMMETRY.search(tag):
                continue
            if self._known_values(tag):
                raise StructureError(
                    f"the symmetry in the CIF stands under {tag}, which is not read; write {OPERATIONS[0]}"
                )

    def _fill(self, operations: Operations) -> _Cell:
        """Return the atoms that the sites and some operations give.

        Raises:
            StructureError: elements, formula or distances do not allow them.
        """
        images = [
            operations.images(site, self.lattice, steps) for site, steps in zip(self.sites, self.steps, strict=True)
        ]
        counts = list(map(len, images))
        elements = choose_elements(self.readings, counts, self.formula)
        origin = np.repeat(np.arange(len(images)), counts)  # site of each atom
        crystal = Crystal.from_arrays(
            self.lattice, np.concatenate(images), chain.from_iterable(map(repeat, elements, counts))
        )
        crystal, notes = self._each_once(crystal, [self.labels[site] for site in origin])
        notes += compare_formula(crystal.elements, self.formula)
        return _Cell(crystal, (*self._moved(images), *notes))

    def _each_once(self, crystal: Crystal, labels: Sequence[str]) -> tuple[Crystal, tuple[str, ...]]:
        """Leave out atoms that an earlier site has given already, in a file that lists all atoms beside the symmetry.

        Raises:
            StructureError: two atoms are too close and not one atom given twice, or the sites are more than symmetry
                needs and less than the cell: then the symmetry may be another cell's.
        """
        first, second, distance = close_pairs(crystal)
        same = (distance < SAME_SITE) & (crystal.atomic_numbers[first] == crystal.atomic_numbers[second])
        same &= first != second
        if not same.all():
            pair = np.flatnonzero(~same)[distance[~same].argmin()]
            sites = f" (sites {labels[first[pair]]} and {labels[second[pair]]})"
            raise StructureError(too_close(crystal, int(first[pair]), int(second[pair]), float(distance[pair]), sites))
        if not len(same):
            return crystal, ()
        repeated = np.unique(np.maximum(first, second))
        kept = np.setdiff1d(np.arange(len(crystal)), repeated)
        once = Crystal(crystal.lattice, crystal.frac_coords[kept], crystal.atomic_numbers[kept])
        names = list(dict.fromkeys(labels[atom] for atom in repeated))
        if len(once) != len(self.sites) and not self._is_z(once):
            raise StructureError(
                f"sites {first_of(names)} are where symmetry puts atoms of other sites, and symmetry makes more atoms "
                f"({len(once)}) than the {len(self.sites)} sites; give either all atoms or one of each kind"
            )
        return once, (f"atoms given more than once, by {first_of(names)}, were taken once",)

    def _moved(self, images: Sequence[np.ndarray]) -> list[str]:
        """Return a note on sites that were put on the special position their digits leave open."""
        notes = []
        for label, site, atoms in zip(self.labels, self.sites, images, strict=True):
            steps = atoms - site
            distance = np.linalg.norm((steps - np.round(steps)) @ self.lattice, axis=1).min()
            if distance > SAME_SITE:
                notes.append(f"site {label}: rounded, put on the special position {distance:.2f} Angstrom away")
        return notes

    def _fill_one_of(self, settings: Sequence[Operations]) -> _Cell:
        """Return the atoms by the one setting that elements, formula and distances allow.

        Raises:
            StructureError: none does, or several do.
        """
        if len(settings) == 1:
            return self._fill(settings[0])
        cells, reasons = {}, []
        for setting in settings:
            try:
                cells[setting.name] = self._fill(setting)
            except StructureError as error:
                reasons.append(f"{setting.name}: {error}")
        if len(cells) > 1:
            cells = {name: cell for name, cell in cells.items() if self._is_z(cell.crystal)}
        if len(cells) != 1:
            names = " and ".join(setting.name for setting in settings)
            why = "; ".join(reasons) if reasons else "its atoms fit more than one"
            raise StructureError(
                f"the space group in the CIF may be {names}, and {why}; write the symmetry operations or the Hall "
                "symbol"
            )
        name, cell = next(iter(cells.items()))
        return _Cell(cell.crystal, (f"{name}: told by the atoms, the file leaves the origin open", *cell.notes))

    def _is_z(self, crystal: Crystal) -> bool:
        """Whether there are as many atoms, hydrogen aside, as Z and the formula say."""
        z = self.tags.known("_cell_formula_units_z")
        if z is None or self.formula is None or not _numbers([z])[0] > 0:
            return False
        expected = _numbers([z])[0] * sum(count for symbol, count in self.formula.counts.items() if symbol != "H")
        return bool(abs(np.count_nonzero(crystal.atomic_numbers > 1) - expected) < 0.5)

    def _compare_with_names(self, written: Operations, names: GroupNames, cell: _Cell) -> None:
        """Refuse operations that are more or fewer than those of the space group the file names.

        They are taken where Z says that the cell is full, or where the atoms already have the symmetry of that group,
        as in a file that lists all of them.

        Raises:
            StructureError: the file gives both.
        """
        try:
            named = names.named(self.lattice)
        except StructureError:  # names of two groups say nothing of these operations
            return
        settings = [setting for setting in named if setting.fit(self.lattice)] or named
        by_number = names.symbol is None and names.hall is None
        orders = {setting.n_rotations if by_number else len(setting) for setting in settings}
        order = written.n_rotations if by_number else len(written)
        if not orders or order in orders or self._is_z(cell.crystal):
            return
        if any(setting.fit(self.lattice) and _has_symmetry(cell.crystal, setting) for setting in settings):
            return
        raise StructureError(
            f"the CIF gives {order} symmetry operations, and its space group {settings[0].name} has "
            f"{max(orders)}; write all of them, or the right name"
        )


def _last_unit(word: str) -> float:
    """Return one unit of the last digit of a coordinate; 0 where it has fewer than two, and may be exact."""
    decimals = re.match(r"[-+]?\d*\.(\d{2,})(?:\(|$)", word)
    return 10.0 ** -len(decimals[1]) if decimals else 0.0


def _has_symmetry(crystal: Crystal, operations: Operations) -> bool:
    """Return True if the operations put every atom of a cell on one of the same element."""
    from scipy.spatial import cKDTree

    for number in np.unique(crystal.atomic_numbers):
        atoms = crystal.frac_coords[crystal.atomic_numbers == number] % 1.0 % 1.0  # twice: -1e-17 gives 1.0 first
        images = np.einsum("oij,aj->oai", operations.rotations, atoms) + operations.translations[:, None]
        distance, _ = cKDTree(atoms, boxsize=1.0).query(images.reshape(-1, 3) % 1.0 % 1.0)
        if distance.max() * np.linalg.norm(crystal.lattice, axis=1).max() > SAME_SITE:
            return False
    return True
