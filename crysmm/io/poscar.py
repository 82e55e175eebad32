"""Strict reading of VASP's POSCAR: a file that is truncated or contradicts itself is refused, naming the line.

Libraries read this format too, but take missing symbols from other files in the folder (POTCAR), drop a symbol without
a count, or fail without a location; a training set needs a reason for every refused file.
Format: https://www.vasp.at/wiki/index.php/POSCAR
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, chain, groupby, repeat, takewhile

import numpy as np

from crysmm.crystals.crystal import Crystal, to_fractional
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.errors import StructureError, first_of
from crysmm.io.formula import NUMBER

SPECIES = re.compile(rf"([A-Z][a-z]?)(?:(\d+)|{NUMBER}?[+-]{NUMBER}?)?$")  # "Si", "Si2" and "Si4+"
OTHER_ELEMENT = re.compile(r"([A-Z][a-z]?)[\d.+-]*$")  # "Ni" and "Ni0.5"; the ends of POTCARs' names are none
FRACTION = re.compile(r"[A-Z][a-z]?[:(=]?0?[.,]\d")  # "Cs0.5Rb0.5", "Na:0.5,K:0.5"
OCCUPIED = re.compile(r"(?:occ\w*|sof)\s*[=:]\s*0?[.,]\d|(?<!\d)\d{1,2}\s*%")  # "occ=0.5", "50%"
HYDROGEN = re.compile(r"(?:D\d*|T|H\d*\.\d+)$")  # isotopes, and VASP's hydrogen of fractional charge: "H1.33", "H.5"
OTHER_UNIT = re.compile(r"(?i:bohr|\ba\.u\b|\ba0\b)|\bau\b|\b[np]m\b")
CARTESIAN = re.compile(r"[ck](art|(?![a-z]))", re.IGNORECASE)
MODE = re.compile(r"\s*(?:[ckd]|cart\w*|kart\w*|dir\w*)\b", re.IGNORECASE)
FLAGS = {"T", "F", ".T.", ".F.", "TRUE", "FALSE", ".TRUE.", ".FALSE."}  # of selective dynamics
FORTRAN = str.maketrans("Dd_", "EE?")  # Fortran's exponent "1.0D0"; "1_0" is a number in Python only
LONGEST_HEADER = 100  # lines before the coordinates
LATTICE_VELOCITIES = 8  # lines: the heading, a number, and two times three vectors


def parse_poscar(text: str) -> Crystal:
    """Return the structure in a POSCAR or CONTCAR: VASP 4 or 5, direct or Cartesian, any kind of scale.

    Raises:
        StructureError: A line cannot be read as part of a POSCAR, or two statements contradict each other.
    """
    lines = text.splitlines()
    if len(lines) < 8:
        raise StructureError(f"the POSCAR ends after {len(lines)} lines; expected at least 8")
    lattice, scale = _read_lattice(lines)
    symbols, counts, position = _read_species(lines)
    n_atoms = sum(counts)
    if n_atoms > len(lines):
        raise StructureError(f"the POSCAR is cut off: {n_atoms} atoms in {len(lines)} lines")
    selective = _first_letter(lines, position) == "s"
    if selective:
        position += 1
    cartesian = _first_letter(lines, position) in "ck"
    start, end = position + 1, position + 1 + n_atoms
    coords = _read_rows(lines, start, n_atoms, "coordinates")
    _refuse_more_atoms(lines, end, n_atoms)
    if cartesian:
        coords = to_fractional(lattice, coords * scale)
    elements = _elements(lines, symbols, counts, _names_behind(lines, start, end, selective))
    return Crystal.from_arrays(lattice, coords, elements)


def _read_lattice(lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lattice in Angstrom and its scale: one factor, or one per direction."""
    words = list(takewhile(is_number, _words(lines[1])))
    if len(words) not in (1, 3):
        found = f"{_shown(lines[1])}, {len(words)} numbers" if words else _shown(lines[1])
        raise StructureError(f"line 2 of the POSCAR is {found}; expected the scale: one number or three")
    if OTHER_UNIT.search(_without_comment(lines[1])):
        raise StructureError(f"line 2 of the POSCAR is {_shown(lines[1])}; expected a scale, of vectors in Angstrom")
    scale = np.array([read_number(word) for word in words])
    lattice = _read_rows(lines, 2, 3, "lattice vectors")
    for number, line in enumerate(lines[2:5], 3):
        fourth = (_words(line)[3:] or [""])[0]
        if is_number(fourth) or OTHER_UNIT.search(_without_comment(line)):
            raise StructureError(
                f"line {number} of the POSCAR is {_shown(line)}; expected a lattice vector, three numbers in Angstrom"
            )
    if len(words) == 3 and (scale <= 0).any():
        raise StructureError(f"line 2 of the POSCAR is {_shown(lines[1])}; three scales must be positive")
    if scale[0] < 0:  # the volume of the cell
        unscaled = abs(np.linalg.det(lattice))
        if not unscaled > 0:
            raise StructureError("the lattice vectors span no volume")
        scale = np.cbrt(-scale / unscaled)
    return lattice * scale, scale


def _read_species(lines: Sequence[str]) -> tuple[list[str] | None, list[int], int]:
    """Return symbols (None for VASP 4), their counts, and the index of the following line.

    Long lists of symbols and counts continue on further lines.
    """
    words = _words(lines[5])
    if not words:
        raise StructureError("line 6 of the POSCAR is empty; expected element symbols or counts")
    if words[0].lstrip("+-").isdigit():
        counts, position = _read_counts(lines, 5, len(lines))
        return None, counts, position
    position = 6
    while position < len(lines) and (more := _words(lines[position])) and all(map(_element, more)):
        words += more
        position += 1
    counts, position = _read_counts(lines, position, len(words))
    if len(words) != len(counts):
        raise StructureError(f"the POSCAR names {len(words)} elements ({first_of(words)}) but has {len(counts)} counts")
    return [_element(word) or word for word in words], counts, position


def _read_counts(lines: Sequence[str], start: int, expected: int) -> tuple[list[int], int]:
    """Return counts from as many lines as contain the expected number, and the index of the following line."""
    counts: list[int] = []
    position = start
    while position < len(lines) and len(counts) < expected:
        words = _words(re.sub(r"(?i)\batoms?\s*$", "", lines[position]))
        if not words or not all(word.isdecimal() and word.isascii() for word in words):
            break
        counts += map(int, words)
        position += 1
    if not counts:
        found = f"is {_shown(lines[start])}" if start < len(lines) else "is missing"
        raise StructureError(f"line {start + 1} of the POSCAR {found}; expected counts of atoms")
    return counts, position


def _elements(
    lines: Sequence[str], symbols: Sequence[str] | None, counts: Sequence[int], names: Sequence[str]
) -> list[str]:
    """Return the element of every atom.

    Args:
        lines: Lines of the file.
        symbols: Symbols above the counts, one per count; in VASP 4 the first line may name them instead.
        counts: Numbers of atoms.
        names: Words after the coordinates, one per atom. If all of them are elements, each must be the atom's;
            otherwise it may not be another element of the structure.

    Raises:
        StructureError: Nothing names the elements, or two places contradict each other.
    """
    place = "the line of symbols"
    behind = list(map(_element, names))
    has_all = all(behind)
    if symbols is None:
        place, symbols = "the first line", _symbols_of_comment(lines[0], counts)
    if symbols is None and has_all and behind:
        starts = accumulate(counts, initial=0)
        place, symbols = "the counts", [behind[min(start, len(behind) - 1)] or "" for start in starts][:-1]
    if symbols is None:
        raise StructureError(
            f"no element symbols: line 6 of the POSCAR holds counts, and the first line, {_shown(lines[0])}, "
            f"is not the {len(counts)} symbols; write the symbols above the counts"
        )
    elements = list(chain.from_iterable(map(repeat, symbols, counts)))
    if not has_all:  # CL and cl beside Na and Cl are meant for Cl, and B1 may be any site
        behind = [_element(name.capitalize() if re.match("[A-Za-z]{2}\\d*$", name) else name) for name in names]
        behind = [other if other in symbols else None for other in behind]
    for atom, (element, other) in enumerate(zip(elements, behind, strict=True)):
        if other not in (None, element):
            runs = [symbol for symbol, _ in groupby(filter(None, behind))]
            raise StructureError(
                f"the POSCAR contradicts itself: by {place} ({first_of(symbols)}) atom {atom + 1} is {element}, "
                f"and behind its coordinates stands {other} ({first_of(runs)}); correct the one that is wrong"
            )
    return elements


def _symbols_of_comment(comment: str, counts: Sequence[int]) -> list[str] | None:
    """Return the elements in the first line of a VASP 4 file, one per count: ``Si O`` or ``Si2 O4``; None without."""
    words = _words(comment)
    symbols = [symbol for symbol in map(_element, words) if symbol]
    matches = map(SPECIES.match, words)
    agree = all(
        not (match and match[2]) or int(match[2]) == count for match, count in zip(matches, counts, strict=False)
    )
    return symbols if len(symbols) == len(words) == len(counts) and agree else None


def _names_behind(lines: Sequence[str], start: int, end: int, selective: bool) -> list[str]:
    """Return the first word after the coordinates of each atom, in a comment or not, or an empty one.

    Flags of selective dynamics precede such a word; the flag F is not fluorine.

    Raises:
        StructureError: What follows the coordinates may be an occupancy or another element on the site, or there are
            four numbers.
    """
    names = []
    for index in range(start, end):
        line, *comment = re.split(r"[!#]", lines[index], maxsplit=1)
        words = line.split()[3:]
        flags = len(list(takewhile(lambda word: word.upper() in FLAGS, words)))
        if flags >= 3:
            words = words[3:]
        elif flags == 2 or (flags and selective):  # neither three flags nor an element
            words = []
        shown = repr(" ".join(words)[:40])
        if words and is_number(words[0]):
            raise StructureError(
                f"line {index + 1} of the POSCAR has {shown} behind three numbers; expected no other number, before or "
                "behind them"
            )
        if words and _is_disordered(words):
            where = f"line {index + 1} of the POSCAR has {shown} behind the coordinates"
            raise StructureError(f"partial occupancy: {where}; give an ordered structure")
        names.append(next(iter([*words, *"".join(comment).split()]), ""))
    return names


def _is_disordered(words: Sequence[str]) -> bool:
    """Return whether words behind coordinates name a fraction of an atom, or several elements."""
    name, *rest = words
    is_followed = bool(rest) and is_number(rest[0]) and 0 < read_number(rest[0]) < 1
    if is_followed and (len(rest) == 1 or not is_number(rest[1])):  # several numbers may be a magnetic moment
        return True
    if OCCUPIED.search(" ".join(words)):
        return True
    if _element(name):
        return False
    # O_H and C-H are labels.
    several = [match[1] for part in re.split("[/,+&:|]", name) if (match := OTHER_ELEMENT.match(part))]
    return FRACTION.search(name) is not None or sum(symbol in ATOMIC_NUMBERS for symbol in several) > 1


def _refuse_more_atoms(lines: Sequence[str], end: int, n_atoms: int) -> None:
    """Refuse a file that continues with atoms or with another structure after the counted atoms.

    Velocities may follow after empty lines or the word Direct or Cartesian; VASP's molecular dynamics writes more
    blocks of numbers after them, and others before them.

    Raises:
        StructureError: More atoms or another structure follow; the text names the line.
    """
    if end < len(lines) and _is_row(lines[end]):
        raise StructureError(
            f"the counts of the POSCAR say {n_atoms} atoms, and line {end + 1}, {_shown(lines[end])}, is one more; "
            "correct the counts, or put an empty line before velocities"
        )
    for index in range(end, len(lines)):
        if not lines[index][:80].lstrip()[:1].isalpha():
            continue
        headers = (lines[start : start + LONGEST_HEADER] for start in range(max(end, index - 7), index - 4))
        if re.match(r"\s*direct\s+configuration", lines[index], re.IGNORECASE) or any(map(_is_header, headers)):
            raise StructureError(
                f"the file holds more than one structure: another one begins before line {index + 1}, "
                f"{_shown(lines[index])}; expected one a file"
            )
    first = _first_filled(lines, end)
    if first < len(lines) and lines[first].lower().lstrip().startswith("lattice velocities"):
        first = _first_filled(lines, first + LATTICE_VELOCITIES)
    if first == len(lines):
        return
    is_velocity = MODE.match(lines[first]) is not None or _is_row(lines[first])
    start = next((index for index in range(first, len(lines)) if _is_row(lines[index])), len(lines))
    block = list(takewhile(_is_row, lines[start:]))
    if block and (not is_velocity or len(block) != n_atoms or any(len(_words(line)) > 3 for line in block)):
        raise StructureError(
            f"{len(block)} rows of numbers follow the coordinates of the POSCAR, from line {start + 1}; expected none, "
            f"or velocities of the {n_atoms} atoms, three numbers each, behind an empty line; of a CHGCAR give the "
            "lines above"
        )


def _first_filled(lines: Sequence[str], start: int) -> int:
    """Return the index of the first line from there on that is not blank, or the number of lines."""
    return next((index for index in range(start, len(lines)) if lines[index].strip()), len(lines))


def _is_header(lines: Sequence[str]) -> bool:
    """Return True if the lines begin like a POSCAR, up to the coordinates."""
    if len(lines) < 7:
        return False
    try:
        _read_lattice(lines)
        _first_letter(lines, _read_species(lines)[2])
    except StructureError:
        return False
    return True


def _is_row(line: str) -> bool:
    """Return True if a line begins with three numbers."""
    words = line.split(None, 3)[:3]
    return len(words) == 3 and all(map(is_number, words))


def _read_rows(lines: Sequence[str], start: int, count: int, what: str) -> np.ndarray:
    """Return the numbers in the first three words of each line, ``[count, 3]``."""
    block = "\n".join(lines[start : start + count]).translate(FORTRAN)
    rows = [line.split(None, 3)[:3] for line in block.split("\n")] if count else []
    try:
        return np.array(rows, dtype=np.float64).reshape(count, 3)
    except ValueError:
        pass
    for offset, row in enumerate(rows):
        if not row:
            break
        if len(row) < 3 or not all(is_number(word) for word in row):
            line = start + offset
            raise StructureError(f"line {line + 1} of the POSCAR is {_shown(lines[line])}; expected {what}")
    found = next((offset for offset, row in enumerate(rows) if not row), len(rows))
    raise StructureError(f"the POSCAR is cut off: {found} of {count} lines of {what}")


def _first_letter(lines: Sequence[str], index: int) -> str:
    line = lines[index].strip() if index < len(lines) else ""
    if not line:
        what = "line {} of the POSCAR is empty" if index < len(lines) else "the POSCAR has no line {}"
        raise StructureError(f"{what.format(index + 1)}; expected 'Direct' or 'Cartesian'")
    # VASP reads the first letter alone: it takes Crystal for Cartesian, and Angstrom for Direct.
    if line[0].lower() not in "dfs" and not CARTESIAN.match(line):
        raise StructureError(f"line {index + 1} of the POSCAR is {_shown(line)}; expected 'Direct' or 'Cartesian'")
    if line[0].lower() in "ck" and OTHER_UNIT.search(_without_comment(line)):
        raise StructureError(f"line {index + 1} of the POSCAR is {_shown(line)}; expected coordinates in Angstrom")
    return line[0].lower()


def _without_comment(line: str) -> str:
    return re.split(r"[!#]", line, maxsplit=1)[0]


def _words(line: str) -> list[str]:
    """Return the words before a comment."""
    return _without_comment(line).split()


def _element(word: str) -> str | None:
    """Return the element of a species, Fe for ``Fe``, ``Fe_pv``, ``Fe/012abc``, ``Fe3+`` and ``Fe,spin=1``, or None."""
    word, _, attribute = word.partition(",")
    word, *behind = re.split(r"[_/]", word)
    if (attribute and not re.match(r"\w+=", attribute)) or any(
        (match := OTHER_ELEMENT.match(part)) and match[1] in ATOMIC_NUMBERS for part in behind
    ):  # Fe,Ni and Fe_Ni: a shared site
        return None
    if HYDROGEN.match(word):
        return "H"
    match = SPECIES.match(word)
    return match[1] if match and match[1] in ATOMIC_NUMBERS else None


def read_number(word: str) -> float:
    """Read a number as Fortran does: ``1.5``, ``1.5E0`` or ``1.5D0``.

    Raises:
        ValueError: The word is not a number.
    """
    return float(word.translate(FORTRAN))


def is_number(word: str) -> bool:
    """Return True if :func:`read_number` accepts a word."""
    try:
        read_number(word)
    except ValueError:
        return False
    return True


def _shown(line: str) -> str:
    return repr(line.strip()[:40])
