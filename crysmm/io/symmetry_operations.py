"""Symmetry operations of a cell: from a space group's names or as written, checked, and applied to sites.

gemmi reads the operations and knows the settings of the space groups. The operations are applied here: libraries decide
by fractions of a cell whether two images are one atom, or replace what is written by their table's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from crysmm.crystals.crystal import cell_parameters
from crysmm.errors import StructureError, shown

if TYPE_CHECKING:
    from gemmi import Op, SpaceGroup

SAME_SITE = 0.05  # Angstrom; images of one site nearer than this are one atom on a special position
MOST_OPERATIONS = 768  # four times those of the largest space groups, for magnetic cells
METRIC_TOLERANCE = 0.01  # of squared lengths: 0.5% of a length, 0.6 degrees of an angle
MARKED = re.compile(r"^(.+?)[\s:]*(?:\(?\s*origin[\w\s]*([12])\s*\)?|:?O?([12SZHR]))$", re.IGNORECASE)
SCREWS = frozenset("21 31 32 41 42 43 61 62 63 64 65".split())
THREEFOLD_SCREW = re.compile(r"P\s*3[12][\s\d]*$")
OPEN_SCREW = re.compile(r"P\s*2 1")  # P 21 or P 2, which have as many operations
LONGEST_SYMBOL = 60  # characters; "I 41/a -3 2/d (origin choice 1)" has 32
TIME_REVERSAL = re.compile(r",\s*[-+]?1\s*$")
ORDERS = {3: 1, -1: 2, 0: 3, 1: 4, 2: 6}
"""Order of a rotation by the trace of its matrix."""
AXES = {
    "triclinic": (1, 1), "anorthic": (1, 1), "monoclinic": (2, 2), "orthorhombic": (2, 4), "tetragonal": (4, 4),
    "trigonal": (3, 3), "rhombohedral": (3, 3), "hexagonal": (3, 3), "cubic": (3, 12),
}  # fmt: skip
"""Order of an axis that every crystal of a system has, and its least number of rotations; hexagonal may be the cell."""
ENDINGS = {"S": "1", "Z": "2"}  # as ICSD ends the names of the two origins


@dataclass(frozen=True, eq=False)
class Operations:
    """The symmetry operations of a setting of a space group.

    Args:
        name: Of the setting, for messages.
        ops: Every operation of the group, centrings included, each once.
    """

    name: str
    ops: tuple[Op, ...]

    @classmethod
    def once(cls, name: str, ops: Iterable[Op]) -> Operations:
        """Make the operations of a list that may hold some of them twice."""
        return cls(name, tuple({op.wrap().triplet(): op for op in ops}.values()))

    def __len__(self) -> int:
        return len(self.ops)

    @cached_property
    def triplets(self) -> frozenset[str]:
        """The operations as texts; two lists are the same group in the same setting if these agree."""
        return frozenset(op.triplet() for op in self.ops)

    @cached_property
    def rotations(self) -> np.ndarray:
        """Matrices that turn fractional coordinates, ``[n, 3, 3]``."""
        return np.array([op.rot for op in self.ops]) / self.ops[0].DEN

    @cached_property
    def translations(self) -> np.ndarray:
        """Shifts after the turn, ``[n, 3]``, in fractions of the cell."""
        return np.array([op.tran for op in self.ops]) / self.ops[0].DEN

    @property
    def n_rotations(self) -> int:
        """Order of the point group, which is the same in all settings."""
        return len({str(op.rot) for op in self.ops})

    @cached_property
    def number(self) -> int | None:
        """Number of the space group, where gemmi's table has this setting of it."""
        from gemmi import GroupOps, find_spacegroup_by_ops

        group = find_spacegroup_by_ops(GroupOps(list(self.ops)))
        return None if group is None else int(group.number)

    def number_in(self, lattice: np.ndarray) -> int | None:
        """Return the number of the space group, also of a setting that gemmi's table lacks; None if there is none."""
        if self.number is not None:
            return self.number
        from spglib import get_spacegroup_type_from_symmetry

        found = get_spacegroup_type_from_symmetry(self.rotations.round().astype(int), self.translations, lattice)
        return None if found is None else int(found.number)

    def suffice_for(self, system: str) -> bool:
        """Return True if there are at least the axes that every crystal of a system has."""
        axis, number = AXES.get(system, (2, 2))
        proper = self.rotations * np.linalg.det(self.rotations)[:, None, None]
        proper = np.unique(proper.round().astype(int), axis=0)
        orders = [ORDERS[trace] for trace in np.trace(proper, axis1=1, axis2=2).tolist()]
        return len(proper) >= number and any(order % axis == 0 for order in orders)

    def fit(self, lattice: np.ndarray) -> bool:
        """Return True if every operation keeps the lengths and angles of the cell."""
        metric = lattice @ lattice.T
        moved = np.swapaxes(self.rotations, 1, 2) @ metric @ self.rotations
        lengths = np.sqrt(np.diag(metric))
        return bool((np.abs(moved - metric) <= METRIC_TOLERANCE * np.outer(lengths, lengths)).all())

    def check(self, lattice: np.ndarray) -> None:
        """Refuse operations that are no symmetry of the cell or no group.

        Raises:
            StructureError: With the reason.
        """
        if self.triplets == {"x,y,z"}:
            return
        if not self.fit(lattice):
            raise StructureError(
                f"{self.name} are no symmetry of the cell ({_cell_in_words(lattice)}); correct one or the other"
            )
        if len(self) > MOST_OPERATIONS or not self._is_closed():
            raise StructureError(
                f"{self.name} ({len(self)}) form no group: some are missing or wrong; write all of them"
            )

    def _is_closed(self) -> bool:
        """Return True if the product of any two operations is one of them, which makes a finite set a group."""
        n_ops = len(self)
        rotations = np.einsum("aij,bjk->abik", self.rotations, self.rotations, optimize=True)
        translations = np.einsum("aij,bj->abi", self.rotations, self.translations) + self.translations[:, None]
        products = _keys(rotations.reshape(n_ops**2, 9), translations.reshape(n_ops**2, 3))
        return bool(np.isin(products, _keys(self.rotations.reshape(n_ops, 9), self.translations)).all())

    def images(self, site: np.ndarray, lattice: np.ndarray, steps: np.ndarray | None = None) -> np.ndarray:
        """Return ``[n_atoms, 3]`` in the cell: every atom that a site represents.

        Images that fall together are one atom on a special position, written with few digits; their mean lies on it.

        Args:
            site: ``[3]`` fractional coordinates.
            lattice: ``[3, 3]``, rows are the lattice vectors, Angstrom.
            steps: ``[3]``, one unit of the last digit of each coordinate; without them a site is on a special position
                only within ``SAME_SITE``.
        """
        images = self.rotations @ site + self.translations
        if len(images) == 1:  # no symmetry: the most frequent case
            return images % 1.0
        if steps is not None and is_coarse(steps, lattice):
            special = self._special_position(site, images, steps)
            if special is not None:
                images = self.rotations @ special + self.translations
        return merged(images, lattice)

    def _special_position(self, site: np.ndarray, images: np.ndarray, steps: np.ndarray) -> np.ndarray | None:
        """Return the special position that a site written with few digits represents; None if it is general."""
        moves = images - site
        moves -= np.round(moves)
        rounding = steps + np.abs(self.rotations) @ steps  # of the site and of its image
        kept = (np.abs(moves) <= rounding + 1e-9).all(axis=1)
        moved = moves[kept].mean(axis=0)
        cut_off = (moved * site >= 0) & (np.abs(moved) < steps)  # 0.66 for 2/3
        if kept.sum() == 1 or not (cut_off | (np.abs(moved) <= steps / 2 + 1e-9)).all():
            return None
        special = site + moved
        moves = self.rotations @ special + self.translations - special
        fixed = (np.abs(moves - np.round(moves)) < 1e-6).all(axis=1)
        return special if (fixed == kept).all() else None


def is_coarse(steps: np.ndarray, lattice: np.ndarray) -> bool:
    """Return True if rounding by such steps of a coordinate can move an atom off its special position."""
    return bool((steps * np.linalg.norm(lattice, axis=1)).max() > SAME_SITE / 4)


def _keys(rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """Return one integer for each operation: rotations ``[n, 9]`` of small integers, translations ``[n, 3]``."""
    entries = np.rint(rotations).astype(np.int64) + 3
    steps = np.rint(translations * 24).astype(np.int64) % 24
    keys: np.ndarray = entries @ 7 ** np.arange(9) * 24**3 + steps @ 24 ** np.arange(3)
    return keys


def merged(images: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Return the different atoms ``[n_atoms, 3]`` of images ``[n, 3]`` of which some may be one, in the cell."""
    steps = images - images[:, None]  # from each of the first axis to each of the second
    steps -= np.round(steps)
    vectors = steps @ lattice
    together = np.einsum("ijk,ijk->ij", vectors, vectors) < SAME_SITE**2
    first = together.argmax(axis=1) == np.arange(len(images))
    means = np.einsum("ijk,ij->ik", steps[first], together[first]) / together[first].sum(axis=1)[:, None]
    atoms: np.ndarray = (images[first] + means) % 1.0
    return atoms


def identity() -> Operations:
    """Return the operations of a cell without symmetry."""
    from gemmi import Op

    return Operations("no symmetry", (Op("x,y,z"),))


def written_operations(texts: Iterable[str]) -> Operations:
    """Return operations such as ``-x+1/2,y,z``.

    Raises:
        StructureError: One cannot be read.
    """
    return Operations.once("the symmetry operations", map(_operation, texts))


def _operation(text: str) -> Op:
    from gemmi import Op

    try:
        operation = Op(text.replace(" ", "").strip("'\";"))
    except (RuntimeError, ValueError) as error:
        raise StructureError(
            f"the symmetry operation {text!r} cannot be read: {error}; expected such as -x+1/2,y,z with "
            "multiples of 1/24"
        ) from error
    if abs(operation.det_rot()) != operation.DEN**3:
        raise StructureError(f"{text!r} is not a symmetry operation")
    return operation


def magnetic_operations(texts: Sequence[str], centrings: Sequence[str]) -> Operations:
    """Return operations such as ``x,y,z,-1`` and their products with the centrings, without time reversal.

    Raises:
        StructureError: One cannot be read.
    """
    written = [_operation(TIME_REVERSAL.sub("", text)) for text in texts]
    shifts = [_operation(TIME_REVERSAL.sub("", text)) for text in centrings] or [_operation("x,y,z")]
    return Operations.once("the symmetry operations", (op * shift for op, shift in product(written, shifts)))


@dataclass(frozen=True)
class GroupNames:
    """Names of a space group in a file: every symbol, number and Hall symbol it gives, and the code of its setting."""

    symbols: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    halls: tuple[str, ...] = ()
    setting: str | None = None

    def __bool__(self) -> bool:
        return bool(self.symbols or self.numbers or self.halls)

    def group_numbers(self, lattice: np.ndarray) -> dict[str, int]:
        """Return the number of each group that is known, by what it is called."""
        found = {}
        for symbol in self.symbols:
            if entries := entries_of_symbol(symbol, lattice):
                found[symbol] = int(entries[0].number)
        found |= {f"number {number}": int(number) for number in self.numbers if _table(number)}
        for hall in self.halls:
            operations = _by_hall(hall)
            number = None if operations is None else operations.number
            if number is not None:
                found[hall] = number
        return found

    def named(self, lattice: np.ndarray) -> list[Operations]:
        """Return the settings that these names allow, whether they fit the cell or not; none for unknown names.

        A Hall symbol gives the setting. A Hermann-Mauguin symbol leaves the origin open where the group has two, a
        number the axes as well, unless the code of the setting (``b1``, ``cab``, ``2``, ``h``) stands beside it.

        Raises:
            StructureError: The names are those of different groups.
        """
        numbers = self.group_numbers(lattice)
        if len(set(numbers.values())) > 1:
            called = " and ".join(f"{name} ({number})" for name, number in numbers.items())
            raise StructureError(f"the file names two space groups, {called}; write the symmetry operations")
        halls = [operations for hall in self.halls if (operations := _by_hall(hall)) is not None]
        by_symbol = [
            list(map(_operations_of, self._of_code(entries, entries[0].number)))
            for symbol in self.symbols
            if (entries := entries_of_symbol(symbol, lattice))
        ]
        allowed = [[hall] for hall in halls] + by_symbol
        if not allowed and self.numbers:
            settings = _entries_of_number(self.numbers[0])
            if self.symbols and len(settings) > 1:  # of a symbol that is not known the number does not give the setting
                return []
            return list(map(_operations_of, self._of_code(settings, self.numbers[0])))
        shared = set.intersection(*({each.triplets for each in some} for some in allowed)) if allowed else set()
        if allowed and not shared:
            called = " and ".join((*self.halls, *self.symbols))
            raise StructureError(f"the file names two settings of a group, {called}; write the symmetry operations")
        return [operations for operations in allowed[0] if operations.triplets in shared] if allowed else []

    def _of_code(self, entries: Sequence[SpaceGroup], number: int | str) -> Sequence[SpaceGroup]:
        """Return the settings with the code that is written; all where it is the code of no setting of the group.

        Raises:
            StructureError: It is the code of other settings.
        """
        coded = [entry for entry in entries if self.setting in _codes(entry)]
        if not coded and any(self.setting in _codes(entry) for entry in _table(str(number))):
            raise StructureError(
                f"the file names the setting {entries[0].xhm()} of a group, and the code {self.setting} of another; "
                "write the symmetry operations"
            )
        return coded or entries

    def settings(self, lattice: np.ndarray) -> list[Operations]:
        """Return the settings these names allow in a cell: one, or several that only the atoms can tell apart.

        Raises:
            StructureError: No group is known by these names, they contradict each other, or none of its settings fits
                the cell.
        """
        possible = self.named(lattice)
        unclear = next(filter(_leaves_a_screw_open, self.symbols), None)
        if unclear is not None and not self.numbers and not self.halls:
            raise StructureError(
                f"the space group {unclear!r} may have a screw axis there, or two axes; write its full symbol, such as "
                "P 1 21 1, or the symmetry operations"
            )
        fitting = [setting for setting in possible if setting.fit(lattice)]
        if possible and not fitting:
            raise StructureError(
                f"the space group {possible[0].name} does not fit the cell ({_cell_in_words(lattice)}); "
                "write the symmetry operations"
            )
        if not fitting:
            name = next(iter((*self.symbols, *self.numbers, *self.halls)))
            raise StructureError(
                f"the space group {name!r} is not known, and there are no symmetry operations; write them "
                "(_space_group_symop_operation_xyz)"
            )
        return list({setting.triplets: setting for setting in fitting}.values())


def _by_hall(symbol: str) -> Operations | None:
    from gemmi import symops_from_hall

    try:
        return Operations.once(symbol, symops_from_hall(symbol))
    except (RuntimeError, ValueError):
        return None


def entries_of_symbol(symbol: str, lattice: np.ndarray) -> list[SpaceGroup]:
    """Return the settings that a Hermann-Mauguin symbol, short or full, allows in a cell; none if it is not known."""
    if symbol.isdecimal():
        return list(_entries_of_number(symbol))
    symbol = re.sub(r"(?<!\d)2 1 ?/", "21/", symbol)
    if OPEN_SCREW.fullmatch(symbol):
        return []
    read = _read_symbol(symbol)
    if read is None:
        return []
    base, settings = read
    is_short = settings[0].crystal_system_str() == "monoclinic" and "1" not in base.split()
    if is_short and not _operations_of(settings[0]).fit(lattice):
        bare = _without_ones(base)  # P 2/m leaves the axis open; the cell may show that it is not b
        others = [entry for entry in _table(str(settings[0].number)) if _without_ones(entry.hm) == bare]
        return [entry for entry in others if _operations_of(entry).fit(lattice)] or settings
    return settings


def _read_symbol(symbol: str) -> tuple[str, list[SpaceGroup]] | None:
    """Return a symbol without the mark of its origin, and its settings; None if it is not known."""
    for base, extension in _spellings(symbol):
        group = _find(base)
        if group is None:
            continue
        table = _table(str(group.number))
        if settings := [entry for entry in table if entry.hm == group.hm and extension in ("", entry.ext)]:
            return base, settings
    return None


def _leaves_a_screw_open(symbol: str) -> bool:
    """Return True if digits that are read as two axes may be a screw: ``P 1 21`` is spelled as P 1 2 1 is."""
    read = _read_symbol(symbol)
    if read is None:
        return False
    base, (setting, *_) = read
    is_respaced = base.replace(" ", "").lower() == setting.hm.replace(" ", "").lower()
    return is_respaced and bool(_named_screws(symbol) - _named_screws(setting.hm))


def _named_screws(symbol: str) -> Counter[str]:
    """Return the screw axes that a symbol seems to name: ``2(1)``, ``2_1``, or a word of its own, ``21``."""
    if re.match("[A-Z]_", symbol):
        symbol = symbol.replace("_", " ")
    marked = map("".join, re.findall(r"(?<!-)([2346])(?:_([1-5])|\(([1-5])\))", symbol))
    words = re.split(r"[\s/]+", re.sub(r"^([A-Z])(?=\d)", r"\1 ", symbol.strip()))
    # R 32, P 4 32 and P 31 m are spelled without a blank.
    screws = SCREWS if THREEFOLD_SCREW.match(symbol) else SCREWS - {"31", "32"}
    screws -= {"21"} if re.match(r"P\s*3", symbol) else set()
    return Counter([screw for screw in marked if screw in SCREWS] + [word for word in words if word in screws])


def _spellings(symbol: str) -> list[tuple[str, str]]:
    """Return ``(symbol, extension)`` of each way to read a symbol: ``P 2(1)/c``, ``Fm-3m (225)``, ``F d -3 m Z``."""
    if len(symbol) > LONGEST_SYMBOL:
        return []
    bare = re.sub(r"\s*\((?:no\.?\s*)?\d+\)$", "", symbol, flags=re.IGNORECASE)
    readings = []
    for text in (symbol, bare):
        if found := MARKED.match(text.strip(" _")):
            mark = (found[2] or found[3]).upper()
            readings.append((found[1], ENDINGS.get(mark, mark)))
        readings.append((text, ""))
    return [(re.sub(r"[_()]", "", text).strip(), extension) for text, extension in readings]


@cache
def _find(symbol: str) -> SpaceGroup | None:
    """Return a setting of the group with this symbol, which may be a full one: ``F 4/m -3 2/m``."""
    from gemmi import find_spacegroup_by_name, spacegroup_table
    from moyopy import HallSymbolEntry

    group = None if ":" in symbol else find_spacegroup_by_name(symbol)
    if group is not None:
        return group
    short = _without_ones(symbol)
    for entry in spacegroup_table():
        if entry.crystal_system_str() == "monoclinic" and _without_ones(entry.hm) == short:
            return entry
    squeezed = symbol.replace(" ", "").lower()
    for number in range(1, 531):
        full = HallSymbolEntry(number)
        if full.hm_full.replace(" ", "").replace("_", "").lower() == squeezed:
            return find_spacegroup_by_name(full.hm_short.replace("_", ""))
    return None


@cache
def _table(number: str) -> tuple[SpaceGroup, ...]:
    """Return every setting of a group in gemmi's table."""
    from gemmi import spacegroup_table

    return tuple(entry for entry in spacegroup_table() if str(entry.number) == number)


@cache
def _operations_of(entry: SpaceGroup) -> Operations:
    return Operations.once(entry.xhm(), entry.operations())


@cache
def _entries_of_number(number: str) -> tuple[SpaceGroup, ...]:
    """Return the settings of a group in the International Tables: its axes, cells and origins."""
    from gemmi import spacegroup_table_itb

    return tuple(entry for entry in spacegroup_table_itb() if str(entry.number) == number)


def _codes(entry: SpaceGroup) -> tuple[str, str, str]:
    """Return the codes of a setting in CIFs: of its origin or its kind of axes, of its axes, and of both."""
    origin, axes = entry.ext.strip("\0").lower(), entry.qualifier or "abc"
    return origin, axes, origin + axes


def _without_ones(symbol: str) -> str:
    """Return a monoclinic symbol without the axes that have no symmetry: ``P 1 21/c 1`` is ``P21/c``."""
    centring, *axes = re.sub(r"^(\S)(?=\S)", r"\1 ", symbol.strip()).split() or [""]
    return centring + "".join(axis for axis in axes if axis != "1")


def _cell_in_words(lattice: np.ndarray) -> str:
    words = " ".join(f"{number:.4g}" for part in cell_parameters(lattice) for number in part)
    return shown(words).strip("'")
