"""Crystallographic information files: the full cell, by the symmetry operations as they are written.

gemmi reads the text. What it says is then held against itself: operations against the cell and the space group's names
(:mod:`crysmm.io.symmetry_operations`), elements against the formula (:mod:`crysmm.io.site_species`), atoms against
each other's radii. Where these leave more than one crystal, the file is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat

import numpy as np

from crysmm.crystals.crystal import MINIMUM_VOLUME_PER_ATOM, Crystal
from crysmm.crystals.statements import OCCUPANCY_TOLERANCE
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.errors import StructureError, first_of, shown
from crysmm.graphs.neighbors import close_pairs, too_close
from crysmm.io.cif_tags import (
    ALTERNATIVES,
    ANGLES,
    CARTESIAN_SITES,
    GROUP_NAMES,
    GROUP_NUMBERS,
    HALL_SYMBOLS,
    LENGTHS,
    MAGNETIC_CENTRINGS,
    MAGNETIC_OPERATIONS,
    MODULATION,
    OCCUPANCIES,
    OPERATIONS,
    OTHER_SYMMETRY,
    PARENT,
    REFERENCE_NAME,
    SITE_SYMMETRIES,
    SITES,
    SYSTEMS,
    TRANSFORMS,
    UNKNOWN,
    WYCKOFF,
    Tags,
    numbers,
    read_blocks,
)
from crysmm.io.formula import Formula
from crysmm.io.site_species import (
    Readings,
    choose_elements,
    compare_formula,
    read_label,
    read_type,
    refuse_mixed,
    refuse_other_label,
)
from crysmm.io.source import Reading
from crysmm.io.symmetry_operations import (
    SAME_SITE,
    GroupNames,
    Operations,
    identity,
    is_coarse,
    magnetic_operations,
    written_operations,
)

VOLUME_TOLERANCE = 0.01  # of the volume, besides the rounding of what is written; programs differ by a tenth of it
VOLUME_OF_INFERRED = 0.002  # the same where an angle is not written; one of 95 degrees changes it by 0.004
DENSITY_TOLERANCE = 0.25  # of the density, as hydrogen may be missing; lost operations leave two thirds or less
GRAMS_PER_CM3 = 1.66054  # in one atomic mass unit per cubic Angstrom
SHARED = re.compile(r"\([^()]*[A-Z][a-z]?[\d.]*\s*,\s*[A-Z][^()]*\)")  # (Na,K) in a formula
NO_SYMMETRY = re.compile(r"1|p1?|ap\d*|1:p1|triclinic|anorthic|a,b,c;0,0,0|x,y,z(?:;0,0,0)?", re.IGNORECASE)


def parse_cif(text: str) -> Reading:
    """Return the structure in a CIF with every atom of its cell, and notes on how it was read.

    Raises:
        StructureError: There is none or more than one, it is disordered, or what the file says of it is ambiguous or
            contradicts itself.
    """
    everything = read_blocks(text)
    blocks = [block for block in everything if block.has_sites()]
    if not blocks:
        others = "; Cartesian ones are not read" if any(one.has_sites(CARTESIAN_SITES) for one in everything) else ""
        raise StructureError(
            f"the CIF has no atom sites with fractional coordinates (_atom_site_fract_x, _y, _z){others}"
        )
    blocks += [block for block in everything if block.has_sites(CARTESIAN_SITES) and not block.has_sites()]
    if len(blocks) > 1:
        names = first_of([block.name for block in blocks])
        raise StructureError(f"the file holds {len(blocks)} structures (data blocks {names}); expected one a file")
    elsewhere = next((block.name for block in everything if not all(map(is_trivial, block.symmetry()))), None)
    if elsewhere is not None and not blocks[0].symmetry():
        raise StructureError(
            f"the CIF has its sites in the data block {blocks[0].name}, and symmetry in {elsewhere} alone; write both "
            "in one block"
        )
    return _Structure(blocks[0]).read()


def is_trivial(symmetry: str) -> bool:
    """Return True for a name, a system or an operation of a cell without symmetry, or with no more than triclinic."""
    return NO_SYMMETRY.fullmatch(symmetry.replace(" ", "")) is not None


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
        self.sites = np.array([numbers(words) for words in self.words])
        self.lattice = self._lattice()
        written = tags.only("_chemical_formula_sum")
        self.formula = Formula.parse(written)
        self.readings = self._readings()
        if written is not None and self.formula is None:
            self.notes.append(f"the formula {shown(written)} is not of the form 'Fe2 O3', and was not compared")

    def read(self) -> Reading:
        """Return the crystal, if the file leaves one.

        Raises:
            StructureError: It leaves none, or several.
        """
        self._refuse_modulation()
        names = self._group_names()
        written = self._written_operations()
        if written is not None:
            written.check(self.lattice)
            cell = self._fill(written)
            self._compare_with_names(written, names, cell)
        elif not names:
            self._refuse_other_symmetry()
            cell = self._fill(identity())
        else:
            cell = self._fill_one_of(names.settings(self.lattice))
        if not names and not self._is_z(cell.crystal):
            self._refuse_lost_system(written or identity())
        self._compare_with_z(cell.crystal)
        self._compare_with_density(cell.crystal)
        self._refuse_absent(cell.crystal)
        attached = sum(count for count in numbers(self._site_column("_atom_site_attached_hydrogens")) if count > 0)
        if attached and self.formula is None:  # which would show itself what is missing
            self.notes.append(f"{attached:g} hydrogen atoms (_atom_site_attached_hydrogens) have no positions")
        return Reading(cell.crystal, (*self.notes, *cell.notes), self.formula is not None)

    def _group_names(self) -> GroupNames:
        symbols, group_numbers, halls = (
            self.tags.all_known(*tags) for tags in (GROUP_NAMES, GROUP_NUMBERS, HALL_SYMBOLS)
        )
        transforms = {re.sub(r"[\s;,]|0", "", text.lower()) for text in self.tags.all_known(*TRANSFORMS)}
        if not symbols and transforms <= {"abc", "xyz"}:
            symbols = self.tags.all_known(REFERENCE_NAME)
        group_numbers = tuple(re.sub(r"(?i)^no\.?\s*", "", number) for number in group_numbers)
        setting = self.tags.known("_space_group_it_coordinate_system_code", "_symmetry_it_coordinate_system_code")
        return GroupNames(symbols, group_numbers, halls, setting and setting.lower())

    @cached_property
    def steps(self) -> np.ndarray:
        """One unit of the last digit of each coordinate, ``[n_sites, 3]``."""
        return np.array([list(map(_last_unit, words)) for words in self.words])

    def _real_sites(self) -> list[int]:
        """Return the rows of the sites that are atoms: dummies and empty sites mark a place, as of a ring's center."""
        n_sites = len(self.tags.column(SITES[0]))
        flags = self.tags.column("_atom_site_calc_flag")
        dummies = {row for row, flag in enumerate(flags) if flag.lower() == "dum"}
        if dummies:
            self.notes.append(f"dummy sites (_atom_site_calc_flag dum) are no atoms: {len(dummies)} left out")
        occupancies = numbers(self.tags.column("_atom_site_occupancy"))
        empty = {row for row, value in enumerate(occupancies) if value == 0} - dummies
        if empty:
            self.notes.append(f"sites of occupancy 0 are no atoms: {len(empty)} left out")
        left_out = dummies | empty
        return [row for row in range(n_sites) if row not in left_out]

    def _site_column(self, tag: str) -> list[str]:
        """Return a column of the sites that are atoms; none where it is missing.

        Raises:
            StructureError: It has not a value for each site, or nothing shows which belongs to which.
        """
        values = self.tags.column(tag)
        n_sites = len(self.tags.column(SITES[0]))
        if values and len(values) != n_sites:
            raise StructureError(f"the CIF has {n_sites} of {SITES[0]}, {len(values)} of {tag}; expected as many")
        if len(values) > 1 and not self.tags.are_joined(tag, SITES[0]):
            raise StructureError(
                f"{tag} stands in another loop than {SITES[0]}, and no column of both shows which value is of which "
                "site; write them in one loop"
            )
        return [values[row] for row in self.rows] if values else []

    def _coordinates(self) -> list[tuple[str, ...]]:
        columns = [self._site_column(tag) for tag in SITES]
        if not self.rows:
            raise StructureError("the CIF has no atoms: all its sites are dummies or of occupancy 0")
        for tag, column in zip(SITES, columns, strict=True):
            if not column:
                raise StructureError(f"the CIF has no {tag}; expected as many as of {SITES[0]}")
        sites = list(zip(*columns, strict=True))
        for label, words in zip(self.labels, sites, strict=True):
            if not np.isfinite(numbers(words)).all():
                is_open = any(word in UNKNOWN for word in words)
                what = f"site {label}: a coordinate in the CIF is not a number: {' '.join(words)}"
                todo = "write it, or leave the site out" if is_open else "write it with decimals, such as 0.33333"
                raise StructureError(f"{what}; {todo}")
        return sites

    def _check_order(self) -> None:
        """Refuse sites that are partly occupied or alternatives of each other.

        Raises:
            StructureError: Naming a site.
        """
        for tag in filter(OCCUPANCIES.fullmatch, self.tags):
            occupancies = self._site_column(tag)
            for label, word, value in zip(self.labels, occupancies, numbers(occupancies), strict=False):
                if word not in UNKNOWN and not abs(value - 1) <= OCCUPANCY_TOLERANCE:
                    raise StructureError(
                        f"partial occupancy: site {label} is occupied to {word} ({tag}); give an ordered structure"
                    )
        for tag, what in ALTERNATIVES.items():
            found = set(self._site_column(tag)).difference(UNKNOWN)
            if len(found) > 1:
                raise StructureError(f"the CIF has several {what} ({tag} {first_of(sorted(found))}); keep one")
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
        if self.formula is None:
            for label in given:
                refuse_mixed(label)
        pairs = list(zip(types, given, strict=True))
        readings = [read_type(word) if word not in UNKNOWN else read_label(label) for word, label in pairs]
        if self.formula is None:
            for (word, label), reading in zip(pairs, readings, strict=True):
                if word not in UNKNOWN:
                    refuse_other_label(label, word, reading)
        return readings

    def _lattice(self) -> np.ndarray:
        """Return ``[3, 3]``, rows are the lattice vectors in Angstrom.

        Raises:
            StructureError: A length or an angle is missing or no positive number.
        """
        from gemmi import UnitCell

        missing = [tag for tag in ANGLES if not self.tags.column(tag)]
        if missing and 90 in numbers(word for tag in ANGLES for word in self.tags.column(tag)):
            raise StructureError(f"the CIF writes right angles, but no {missing[0]}; write all three angles")
        if missing:
            self.notes.append(f"{', '.join(missing)}: missing, so 90 degrees, the dictionary's default")
        words = [self.tags.only(tag) or ("90" if tag in missing else "?") for tag in (*LENGTHS, *ANGLES)]
        values = numbers(words)
        for tag, word, value in zip((*LENGTHS, *ANGLES), words, values, strict=True):
            if not value > 0:
                raise StructureError(
                    f"the CIF has no cell lengths and angles that can be used: {tag} is {word or 'empty'}"
                )
        cell = UnitCell(*values)
        written = self.tags.only("_cell_volume")
        volume = numbers([written])[0] if written else cell.volume
        if not cell.volume > 0:
            raise StructureError(f"no cell has the angles {' '.join(words[3:])}")
        tolerance, inferred = VOLUME_OF_INFERRED if missing else VOLUME_TOLERANCE, ""
        if written:
            tolerance += sum(_rounding(word) / value for word, value in zip(words[:3], values[:3], strict=True))
            tolerance += _rounding(written) / cell.volume
            inferred = f", with 90 degrees for {', '.join(missing)}" if missing else ""
        if abs(volume / cell.volume - 1) > tolerance:
            raise StructureError(
                f"_cell_volume is {written}, lengths and angles give {cell.volume:.1f}{inferred}; correct the one that "
                "is wrong"
            )
        return np.array(cell.orth.mat.tolist()).T

    def _written_operations(self) -> Operations | None:
        """Return the symmetry operations that are written; None if there are none.

        Raises:
            StructureError: One cannot be read, or two lists differ.
        """
        lists = [self._known_values(tag) for tag in OPERATIONS]
        found = [written_operations(texts) for texts in lists if texts]
        magnetic = self._known_values(MAGNETIC_OPERATIONS)
        if magnetic:
            found.append(magnetic_operations(magnetic, self._known_values(MAGNETIC_CENTRINGS)))
        if any(operations.triplets != found[0].triplets for operations in found):
            raise StructureError("the CIF has two lists of symmetry operations, and they differ; keep the right one")
        return found[0] if found else None

    def _known_values(self, tag: str) -> list[str]:
        return [text for text in self.tags.column(tag) if text not in UNKNOWN]

    def _refuse_modulation(self) -> None:
        """Refuse a structure whose atoms are displaced from cell to cell: its average is another crystal."""
        for tag in filter(MODULATION.match, self.tags):
            ordinary = "1" if tag == "_cell_subsystems_number" else "0"
            if any(word != ordinary for word in self._known_values(tag)):
                raise StructureError(
                    f"the CIF is of a modulated structure ({tag}), whose cells differ; give a supercell of it"
                )

    def _refuse_other_symmetry(self) -> None:
        """Refuse symmetry in a form that is not read, instead of taking a part of the cell for all of it."""
        for tag in self.tags:
            if tag.startswith(PARENT) or tag in SYSTEMS or not OTHER_SYMMETRY.match(tag):
                continue
            if not all(map(is_trivial, self._known_values(tag))):
                raise StructureError(
                    f"the symmetry in the CIF stands under {tag}, which is not read; write {OPERATIONS[0]}"
                )

    def _refuse_lost_system(self, operations: Operations) -> None:
        """Refuse a crystal system that the symmetry does not have: tools and people lose operations alone."""
        system = self.tags.known(*SYSTEMS)
        if system is not None and not operations.suffice_for(system.lower()):
            given = "gives no symmetry" if len(operations) == 1 else f"has {len(operations)} operations of a lower one"
            raise StructureError(
                f"the CIF says {system!r} and {given}; write {OPERATIONS[0]}, or the group 'P 1' if the sites are all "
                "atoms of the cell"
            )

    def _compare_with_site_symmetry(self, counts: Sequence[int], operations: Operations) -> None:
        """Refuse sites that give more or fewer atoms than their multiplicity, or the order of their symmetry, says.

        SHELXL writes the order under the name of the multiplicity, and some programs 1 for all sites.

        Raises:
            StructureError: Naming the first such site.
        """
        for tag in SITE_SYMMETRIES:
            values = numbers(self._site_column(tag))
            if not any(value > 1 for value in values):
                continue
            for label, value, count in zip(self.labels, values, counts, strict=True):
                if np.isfinite(value) and value not in (count, len(operations) / count):
                    raise StructureError(
                        f"{tag} of site {label} is {value:g}, and {operations.name} ({len(operations)}) gives it "
                        f"{count} atoms; write all operations, or leave this column out if they are right"
                    )
        for tag, label, letter in self._wyckoff_letters() if len(operations) == 1 else ():
            if letter not in UNKNOWN and not letter.endswith("a"):
                raise StructureError(
                    f"{tag} of site {label} is {letter}, and the CIF has no symmetry but x,y,z; write all "
                    "operations, or leave this column out if the sites are all atoms of the cell"
                )

    def _wyckoff_letters(self) -> Iterator[tuple[str, str, str]]:
        """Yield tag, label and letter of each site that has one."""
        for tag in WYCKOFF:
            yield from ((tag, *pair) for pair in zip(self.labels, self._site_column(tag), strict=False))

    def _fill(self, operations: Operations) -> _Cell:
        """Return the atoms that the sites and some operations give.

        Raises:
            StructureError: Elements, formula or distances do not allow them.
        """
        if len(operations) == 1:  # the most frequent case; atoms too close are found with the neighbors
            images, repeated = list(self.sites[:, None] % 1.0), set[int]()
        else:
            images, repeated = self._images(operations)
        counts = list(map(len, images))
        kept = [site for site in range(len(images)) if site not in repeated]
        own = [counts[site] for site in kept]
        elements = choose_elements([self.readings[site] for site in kept], own, self.formula)
        crystal = Crystal.from_arrays(
            self.lattice,
            np.concatenate([images[site] for site in kept]),
            chain.from_iterable(map(repeat, elements, own)),
        )
        notes: tuple[str, ...] = ()
        if len(operations) > 1:
            self._refuse_close(crystal, np.repeat(kept, own))
            notes = (*self._moved(images), *self._note_repeated(crystal, sorted(repeated)))
        if len(operations) > 1 or not self._is_z(crystal):  # where Z says that the cell is full, all atoms are listed
            self._compare_with_site_symmetry(counts, operations)
        return _Cell(crystal, (*notes, *compare_formula(crystal.elements, self.formula)))

    def _images(self, operations: Operations) -> tuple[list[np.ndarray], set[int]]:
        """Return the atoms that each site gives, and the sites whose atoms an earlier one has given already.

        So it is in a file that lists all atoms beside the symmetry.

        Raises:
            StructureError: There are more atoms than any cell of this volume holds.
        """
        images: list[np.ndarray] = []
        repeated: set[int] = set()
        given: dict[tuple[str, ...], np.ndarray] = defaultdict(lambda: np.empty((0, 3)))
        most = abs(np.linalg.det(self.lattice)) / MINIMUM_VOLUME_PER_ATOM
        for number, (site, steps, reading) in enumerate(zip(self.sites, self.steps, self.readings, strict=True)):
            atoms = operations.images(site, self.lattice, steps)
            images.append(atoms)
            moves = given[reading.elements] - atoms[0]
            distances = np.linalg.norm((moves - np.round(moves)) @ self.lattice, axis=1)
            if (distances < SAME_SITE).any():
                repeated.add(number)
                continue
            given[reading.elements] = np.concatenate([given[reading.elements], atoms])
            most -= len(atoms)
            if most < 0:
                raise StructureError("sites and symmetry give more atoms than a cell of this volume holds")
        return images, repeated

    def _refuse_close(self, crystal: Crystal, origin: np.ndarray) -> None:
        """Refuse two atoms that are too close.

        Args:
            crystal: The atoms of all sites.
            origin: Site of each atom.

        Raises:
            StructureError: With the sites.
        """
        first, second, distance = close_pairs(crystal)
        if len(first):
            pair = distance.argmin()
            sites = f" (sites {self.labels[origin[first[pair]]]} and {self.labels[origin[second[pair]]]})"
            raise StructureError(too_close(crystal, int(first[pair]), int(second[pair]), float(distance[pair]), sites))

    def _note_repeated(self, crystal: Crystal, repeated: Sequence[int]) -> tuple[str, ...]:
        """Return a note on sites that repeat atoms of others.

        Args:
            crystal: The atoms, each once.
            repeated: Numbers of these sites.

        Raises:
            StructureError: The sites are more than symmetry needs and less than the cell: then the symmetry may be
                another cell's.
        """
        if not repeated:
            return ()
        names = first_of(list(dict.fromkeys(self.labels[site] for site in repeated)))
        if len(crystal) != len(self.sites) and not self._is_z(crystal):
            raise StructureError(
                f"sites {names} repeat atoms of other sites, and the {len(self.sites)} sites are not the "
                f"{len(crystal)} atoms of the cell; give either every atom once or one of each kind"
            )
        return (f"atoms given more than once, by {names}, were taken once",)

    def _moved(self, images: Sequence[np.ndarray]) -> list[str]:
        """Return a note on sites that were put on the special position their digits leave open."""
        notes = []
        for label, site, atoms, steps in zip(self.labels, self.sites, images, self.steps, strict=True):
            if not is_coarse(steps, self.lattice):
                continue
            moves = atoms - site
            distance = np.linalg.norm((moves - np.round(moves)) @ self.lattice, axis=1).min()
            if distance > SAME_SITE:
                notes.append(f"site {label}: rounded, put on the special position {distance:.2f} Angstrom away")
        return notes

    def _fill_one_of(self, settings: Sequence[Operations]) -> _Cell:
        """Return the atoms by the one setting that elements, formula and distances allow.

        Raises:
            StructureError: None does, or several do.
        """
        if len(settings) == 1:
            return self._fill(settings[0])
        cells: dict[str, _Cell] = {}
        reasons = []
        for setting in settings:
            try:
                cell = self._fill(setting)
            except StructureError as error:
                reasons.append(f"{setting.name}: {error}")
                continue
            if not any(_have_same_atoms(cell.crystal, other.crystal) for other in cells.values()):
                cells[setting.name] = cell
        if len(cells) > 1:
            cells = {name: cell for name, cell in cells.items() if self._is_z(cell.crystal)} or cells
        if len(cells) != 1:
            names = " or ".join(cells or [setting.name for setting in settings])
            why = "its atoms fit more than one" if cells else reasons[0]
            raise StructureError(
                f"the space group in the CIF may be {names}, and {why}; write its full symbol with the axes and the "
                "origin, the Hall symbol or the symmetry operations"
            )
        name, cell = next(iter(cells.items()))
        return _Cell(
            cell.crystal, (f"{name}: the setting that fits the atoms, as the file leaves it open", *cell.notes)
        )

    def _expected_atoms(self) -> set[float]:
        """Return how many atoms besides hydrogen Z and the formula promise; nothing where one is missing.

        The formula may be the one of the whole cell, of which Z then is a divisor: so pymatgen writes both, and with
        N5 half of it, as its unit is N2.
        """
        z = self.tags.only("_cell_formula_units_z")
        if z is None or self.formula is None or not numbers([z])[0] > 0:
            return set()
        number, counts = numbers([z])[0], self.formula.counts
        total = sum(count for symbol, count in counts.items() if symbol != "H")
        is_pymatgens = self.tags.known("_chemical_formula_structural") is not None
        is_halved = len(counts) == 1 and number == total // 2
        of_cell = is_pymatgens and (is_halved or all(count % number == 0 for count in counts.values()))
        return {number * total, total} if of_cell else {number * total}

    def _is_z(self, crystal: Crystal) -> bool:
        """Return True if there are as many atoms as Z and the formula promise."""
        n_atoms = np.count_nonzero(crystal.atomic_numbers > 1)
        return any(abs(n_atoms - expected) < 0.5 for expected in self._expected_atoms())

    def _compare_with_z(self, crystal: Crystal) -> None:
        """Refuse a cell that holds more or fewer atoms than Z and the formula promise, or than Z where none is written.

        Raises:
            StructureError: With both numbers.
        """
        z, most = self.tags.only("_cell_formula_units_z"), np.bincount(crystal.atomic_numbers).max()
        if z is not None and self.formula is None and numbers([z])[0] > most:
            raise StructureError(
                f"Z is {z}, and of no element the cell has more than {most} atoms: symmetry, sites or Z are wrong; "
                "correct them, or set Z to ?"
            )
        expected = self._expected_atoms()
        if expected and not self._is_z(crystal):
            raise StructureError(
                f"the cell has {np.count_nonzero(crystal.atomic_numbers > 1)} atoms besides hydrogen, Z and the "
                f"formula promise {max(expected):g}: symmetry, sites or Z are wrong; correct them, or set Z to ?"
            )

    def _refuse_absent(self, crystal: Crystal) -> None:
        """Refuse atoms without an element of a formula such as ``(Na,K) Cl``, which shares sites.

        Raises:
            StructureError: With the elements.
        """
        written = self.tags.only("_chemical_formula_sum")
        if self.formula is None and written is not None and SHARED.search(written):
            named = {symbol for symbol in re.findall("[A-Z][a-z]?", written) if symbol in ATOMIC_NUMBERS}
            if absent := sorted(named - {*crystal.elements, "H"}):  # which may have no positions
                raise StructureError(
                    f"the formula {shown(written)} shares sites, and no site is {' or '.join(absent)}: disordered; "
                    "give an ordered structure"
                )

    def _compare_with_density(self, crystal: Crystal) -> None:
        """Refuse a cell whose atoms weigh much less or more than the file says, unless Z and the formula promise them.

        Raises:
            StructureError: With both densities.
        """
        from gemmi import Element

        written = self.tags.known("_exptl_crystal_density_diffrn")
        expected = numbers([written])[0] if written else np.nan
        if not expected > 0 or self._is_z(crystal):
            return
        weight = sum(Element(number).weight for number in crystal.atomic_numbers.tolist())
        density = weight / crystal.volume * GRAMS_PER_CM3
        if abs(density - expected) > DENSITY_TOLERANCE * expected:
            raise StructureError(
                f"_exptl_crystal_density_diffrn is {written}, the atoms of the cell have {density:.2f} g/cm3: "
                "symmetry, sites or density are wrong; correct them, or set it to ?"
            )

    def _compare_with_names(self, written: Operations, names: GroupNames, cell: _Cell) -> None:
        """Refuse operations of another group than the file names.

        They are taken, with a note, where Z says that the cell is full, or where the atoms already have the symmetry of
        the named group, as in a file that lists all of them.

        Raises:
            StructureError: Nothing shows which of both is right.
        """
        group_numbers = names.group_numbers(self.lattice)
        try:
            named = names.named(self.lattice)
        except StructureError:
            if not self._is_z(cell.crystal) and (len(written) == 1 or written.number not in group_numbers.values()):
                raise
            self.notes.append(f"the file names two space groups or settings; its operations are of {written.number}")
            return
        number = written.number_in(self.lattice)
        settings = [setting for setting in named if setting.fit(self.lattice)] or named
        if not settings and len(written) == 1 and names and not self._is_z(cell.crystal):
            name = next(iter((*names.symbols, *names.numbers, *names.halls)))
            raise StructureError(f"the space group {name!r} is not known, and x,y,z stands alone; write all operations")
        if not settings:  # of a name that is not known; a number beside it leaves the setting open
            if group_numbers and number not in (None, *group_numbers.values()) and not self._is_z(cell.crystal):
                called = " and ".join(f"{name} ({known})" for name, known in group_numbers.items())
                raise StructureError(
                    f"the {len(written)} symmetry operations are of the space group {number}, and the file names "
                    f"{called}; write all of them, or the right name"
                )
            return
        by_number = not names.symbols and not names.halls
        orders = {setting.n_rotations if by_number else len(setting) for setting in settings}
        order = written.n_rotations if by_number else len(written)
        if order in orders and number in (None, *group_numbers.values()):
            is_of_table = written.number is not None and not by_number  # else the origin may be another, as of quartz
            if (names.halls or is_of_table) and all(setting.triplets != written.triplets for setting in settings):
                name = names.halls[0] if names.halls else settings[0].name
                self._refuse_other_cell(cell, settings, name)
                self.notes.append(f"the symmetry operations, which were taken, are not those of {name}")
            return
        if self._is_z(cell.crystal):
            self.notes.append(f"the symmetry operations, which were taken, are not those of {settings[0].name}")
            return
        # Some operations of a group may be those of both its origins, and the atoms fit one of them by chance.
        possible = [some for some in settings if some.triplets >= written.triplets and some.fit(self.lattice)]
        have_symmetry = [_has_symmetry(cell.crystal, setting) for setting in possible]
        if order >= max(orders) or not (any(have_symmetry) if len(written) == 1 else possible and all(have_symmetry)):
            raise StructureError(
                f"the file gives {order} symmetry operations, and its space group {settings[0].name} has others "
                f"({max(orders)}); write all of them, or the right name"
            )

    def _refuse_other_cell(self, cell: _Cell, settings: Sequence[Operations], name: str) -> None:
        """Refuse a cell by operations of another setting than the named one, which the atoms allow as well.

        Args:
            cell: The cell by the operations.
            settings: Operations of the named settings.
            name: Their name.

        Raises:
            StructureError: The named setting gives another crystal, and Z does not show which is right.
        """
        for setting in settings:
            try:
                other = self._fill(setting)
            except StructureError:
                continue
            if self._is_z(cell.crystal) and not self._is_z(other.crystal):
                continue
            if not _have_same_atoms(cell.crystal, other.crystal):
                raise StructureError(
                    f"the symmetry operations are not those of {name}, and the atoms allow both: {len(cell.crystal)} "
                    f"by the operations, {len(other.crystal)} by the name; correct the one that is wrong"
                )


def _rounding(word: str) -> float:
    """Return how far a number may be from the written one: its uncertainty, or half a unit of the last digit."""
    decimals, uncertainty, exponent = re.findall(r"^[-+]?\d*\.?(\d*)(?:\((\d+)\))?(?:[eE]([-+]?\d+))?", word)[0]
    return float(uncertainty or 0.5) * 10.0 ** (int(exponent or 0) - len(decimals))


def _last_unit(word: str) -> float:
    """Return one unit of the last digit of a coordinate; 0 where it has fewer than two, and may be exact."""
    decimals = re.match(r"[-+]?\d*\.(\d{2,})(?:\(|$)", word)
    return 10.0 ** -len(decimals[1]) if decimals else 0.0


def _has_symmetry(crystal: Crystal, operations: Operations) -> bool:
    """Return True if the operations put every atom of a cell on one of the same element."""
    images = np.einsum("oij,aj->oai", operations.rotations, crystal.frac_coords) + operations.translations[:, None]
    return _are_on_atoms(images, crystal)


def _have_same_atoms(crystal: Crystal, other: Crystal) -> bool:
    """Return True if two crystals of the same sites in one cell have their atoms in the same places."""
    order, others = np.argsort(crystal.atomic_numbers), np.argsort(other.atomic_numbers)
    if not np.array_equal(crystal.atomic_numbers[order], other.atomic_numbers[others]):
        return False
    images = np.empty_like(other.frac_coords)
    images[others] = crystal.frac_coords[order]
    return _are_on_atoms(images[None], other)


def _are_on_atoms(images: np.ndarray, crystal: Crystal) -> bool:
    """Return True if all images of a crystal's atoms, ``[n_images, n_atoms, 3]``, are on atoms of the same element."""
    from scipy.spatial import cKDTree

    for number in np.unique(crystal.atomic_numbers):
        of_element = crystal.atomic_numbers == number
        atoms = crystal.frac_coords[of_element] % 1.0 % 1.0  # twice: -1e-17 gives 1.0 first
        distance, _ = cKDTree(atoms, boxsize=1.0).query(images[:, of_element].reshape(-1, 3) % 1.0 % 1.0)
        if distance.max() * np.linalg.norm(crystal.lattice, axis=1).max() > SAME_SITE:
            return False
    return True
