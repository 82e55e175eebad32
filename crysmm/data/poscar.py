"""VASP's POSCAR, read strictly: a file that is cut off or contradicts itself is refused with the line that does.

Libraries read this format too, but take what is missing from other files in the folder (POTCAR), drop a symbol
without a count, or fail without saying where; a training set needs a reason for every file.
Format: https://www.vasp.at/wiki/index.php/POSCAR
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, repeat

import numpy as np

from crysmm.crystal import Crystal, to_fractional
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.errors import StructureError

HEADER_SYMBOL = re.compile(r"([A-Z][a-z]?)(\d*)$")  # a word of a VASP 4 comment: "Si" or "Si2"


def parse_poscar(text: str) -> Crystal:
    """The structure in a POSCAR or CONTCAR: VASP 4 or 5, direct or cartesian, any kind of scale.

    Raises:
        StructureError: with the line where the text stops being a POSCAR.
    """
    lines = text.splitlines()
    if len(lines) < 8:
        raise StructureError(f"the POSCAR ends after {len(lines)} lines; expected at least 8")
    lattice, scale = _read_lattice(lines)
    symbols, counts, position = _read_species(lines)
    n_atoms = sum(counts)
    if _first_letter(lines, position) == "s":
        position += 1  # selective dynamics: the flags behind the coordinates are not needed
    cartesian = _first_letter(lines, position) in "ck"
    coords = _read_rows(lines, position + 1, n_atoms, "coordinates")
    if cartesian:
        coords = to_fractional(lattice, coords * scale)
    return Crystal.from_arrays(lattice, coords, chain.from_iterable(map(repeat, symbols, counts)))


def _read_lattice(lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The lattice in Angstrom, and the factors (one, or one a direction) that made it so."""
    words = lines[1].split()
    three = len(words) >= 3 and all(_is_number(word) for word in words[:3])
    if not words or not _is_number(words[0]):
        raise StructureError(f"line 2 of the POSCAR is {_shown(lines[1])}; expected the scale")
    scale = np.array([float(word) for word in words[: 3 if three else 1]])
    lattice = _read_rows(lines, 2, 3, "lattice vectors")
    if three and (scale <= 0).any():
        raise StructureError(f"line 2 of the POSCAR is {_shown(lines[1])}; three scales must be positive")
    if scale[0] < 0:  # the volume of the cell
        unscaled = abs(np.linalg.det(lattice))
        if not unscaled > 0:
            raise StructureError("the lattice vectors span no volume")
        scale = np.cbrt(-scale / unscaled)
    return lattice * scale, scale


def _read_species(lines: Sequence[str]) -> tuple[list[str], list[int], int]:
    """Symbols, their counts, and the index of the line behind them."""
    words = _words(lines[5])
    if not words:
        raise StructureError("line 6 of the POSCAR is empty; expected element symbols or counts")
    if words[0].lstrip("+-").isdigit():
        counts = _read_counts(lines, 5)
        return _symbols_of_comment(lines[0], counts), counts, 6
    counts = _read_counts(lines, 6)
    if len(words) != len(counts):
        raise StructureError(f"the POSCAR names {len(words)} elements ({' '.join(words)}) but has {len(counts)} counts")
    return [_bare_symbol(word) for word in words], counts, 7


def _read_counts(lines: Sequence[str], index: int) -> list[int]:
    words = _words(lines[index])
    if not words or not all(word.isdecimal() and word.isascii() for word in words):
        raise StructureError(f"line {index + 1} of the POSCAR is {_shown(lines[index])}; expected counts of atoms")
    counts = [int(word) for word in words]
    if sum(counts) > len(lines):
        raise StructureError(f"the POSCAR is cut off: {sum(counts)} atoms in {len(lines)} lines")
    return counts


def _symbols_of_comment(comment: str, counts: Sequence[int]) -> list[str]:
    """Elements of a VASP 4 file, which has them, if anywhere, in its first line: ``Si O`` or ``Si2 O4``."""
    words = _words(comment)
    matches = [HEADER_SYMBOL.match(_bare_symbol(word)) for word in words]
    found = [(match[1], match[2]) for match in matches if match and match[1] in ATOMIC_NUMBERS]
    agree = all(not number or int(number) == count for (_, number), count in zip(found, counts, strict=False))
    if len(found) != len(words) or len(found) != len(counts) or not agree:
        raise StructureError(
            f"no element symbols: line 6 of the POSCAR holds counts, and the first line, {_shown(comment)}, "
            f"is not the {len(counts)} symbols; write the symbols above the counts"
        )
    return [symbol for symbol, _ in found]


def _read_rows(lines: Sequence[str], start: int, count: int, what: str) -> np.ndarray:
    """``[count, 3]`` numbers from the first three words of each line."""
    rows = [line.split(None, 3)[:3] for line in lines[start : start + count]]
    try:
        return np.array(rows, dtype=np.float64).reshape(count, 3)
    except ValueError:
        pass
    for offset, row in enumerate(rows):
        if not row:
            break
        if len(row) < 3 or not all(_is_number(word) for word in row):
            line = start + offset
            raise StructureError(f"line {line + 1} of the POSCAR is {_shown(lines[line])}; expected {what}")
    found = next((offset for offset, row in enumerate(rows) if not row), len(rows))
    raise StructureError(f"the POSCAR is cut off: {found} of {count} lines of {what}")


def _first_letter(lines: Sequence[str], index: int) -> str:
    line = lines[index].strip() if index < len(lines) else ""
    if not line:
        raise StructureError(f"the POSCAR has no line {index + 1}; expected 'Direct' or 'Cartesian'")
    if _is_number(line.split()[0]):
        raise StructureError(f"line {index + 1} of the POSCAR is {_shown(line)}; expected 'Direct' or 'Cartesian'")
    return line[0].lower()


def _words(line: str) -> list[str]:
    """The words before a comment."""
    return re.split(r"[!#]", line, maxsplit=1)[0].split()


def _bare_symbol(word: str) -> str:
    """``Fe`` of ``Fe_pv`` and ``Si/0123abc``; hydrogen of its isotopes."""
    symbol = re.split(r"[_/]", word, maxsplit=1)[0]
    return "H" if symbol in ("D", "T") else symbol


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _shown(line: str) -> str:
    return repr(line.strip()[:40])
