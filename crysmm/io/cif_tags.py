"""Data blocks of a CIF, their values by tag, and the names of the tags that are read; gemmi parses the text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, cast

from crysmm.errors import StructureError, first_of

if TYPE_CHECKING:
    from gemmi import cif

LENGTHS = [f"_cell_length_{axis}" for axis in "abc"]
ANGLES = [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
MAGNETIC_OPERATIONS = "_space_group_symop_magn_operation_xyz"
MAGNETIC_CENTRINGS = "_space_group_symop_magn_centering_xyz"
GROUP_NAMES = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m",
    "_space_group_name_h-m_full",
)
REFERENCE_NAME = "_space_group_name_h-m_ref"  # of the setting that a transform leads to
TRANSFORMS = ("_space_group_transform_pp_abc", "_space_group_transform_qq_xyz")
GROUP_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
HALL_SYMBOLS = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
SITES = [f"_atom_site_fract_{axis}" for axis in "xyz"]
CARTESIAN_SITES = "_atom_site_cartn_x"
OTHER_SYMMETRY = re.compile(
    r"(?!.*_id$)(?:_symmetry|.*(?:space_?group|sg_num|symop|name_hall|h-m|pearson|aflow_proto))"
)
SYSTEMS = ("_symmetry_cell_setting", "_space_group_crystal_system")
SITE_SYMMETRIES = [  # numbers of atoms of a site, or of operations that keep it
    f"_atom_site_{name}"
    for name in (
        "symmetry_multiplicity",
        "site_symmetry_multiplicity",
        "site_multiplicity",
        "multiplicity",
        "site_symmetry_order",
    )
]
WYCKOFF = [f"_atom_site_wyckoff_{name}" for name in ("symbol", "label", "letter")]
# A number for each site, unlike its uncertainty, flags of its refinement and remarks.
OCCUPANCIES = re.compile(r"_atom_site_(?!.*(?:flag|refine|constrain|details|method|_su$|_esd$|_sigma$)).*(?:occ|sof).*")
ALTERNATIVES = {"_atom_site_label_alt_id": "alternative sites", "_atom_site_pdbx_pdb_model_num": "models"}
MODULATION = re.compile(  # of structures whose cells differ, or that have several lattices
    r"_cell_wave_vector|_cell_subsystem|_atom_site_subsystem|_space_group_ssg_|.*symop_ssg|"
    r"_atom_site_(?:displace|occ|rot)_(?:fourier|special|legendre)|_cell_modulation_dimension"
)
PARENT = "_parent_space_group"  # of a magnetic or distorted structure, not its own
UNKNOWN = ("?", ".", "")
SPACES = re.compile(r"[^\S\n\r \t]|[\u200b\u2060\ufeff]")  # no-break and thin spaces
NO_ASCII = re.compile(r"[^\x00-\x7f]")
CONTROL = re.compile(r"[\x0c\x1a]")  # form feeds, and the end of a file of DOS
HEADER = re.compile(r"(?im)^(data_\S*)[ \t]++(?![_#]|loop_|save_).*$")  # with blanks in its name
START = re.compile(r"(?im)^data_")
MINUS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"))
GLUED = re.compile(r"(?m)^((?:[^\n'\"]*[ \t])?(['\"])[^\n]*\2)[^\s'\"]+[ \t]*$")  # 'A. One, B. Two',
FOLDED = re.compile(r"\\[ \t]*\n")  # at the end of a line that goes on in the next
WHERE = re.compile(r"string:?(?P<line>\d*)[^ ]*(?: in \S+)?: (?P<what>.*)", re.DOTALL)  # how gemmi words an error


def read_blocks(text: str) -> list[Tags]:
    """Return the data blocks of a text, and the save frames in them.

    Raises:
        StructureError: It is no CIF; the text says where.
    """
    from gemmi import cif

    is_cif2 = text.startswith("#\\#CIF_2")
    text = CONTROL.sub(" ", re.sub("\r\n?", "\n", text))
    if not text.isascii():
        text = NO_ASCII.sub("~", SPACES.sub(" ", text.translate(MINUS)))  # no CIF 1; "?" would be an unknown value
    text = HEADER.sub(r"\1", _without_preface(text))
    try:
        try:
            document = cif.read_string(text, check_level=0)
        except (ValueError, RuntimeError):
            document = cif.read_string(GLUED.sub(r"\1", text), check_level=0)
    except (ValueError, RuntimeError) as error:
        found = WHERE.match(str(error))
        where = f"line {found['line']} of the CIF" if found and found["line"] else "the CIF"
        remedy = "lists and triple quotes of CIF 2 are not read" if is_cif2 else "values with blanks need quotes"
        raise StructureError(f"{where} cannot be read: {found['what'] if found else error}; {remedy}") from error
    frames = (item.frame for block in document for item in block if item.frame is not None)
    return list(map(Tags, [*document, *frames]))


def _without_preface(text: str) -> str:
    """Return a text without the lines before its first data block, in which JARVIS names itself."""
    start = START.search(text)
    preface = text[: start.start()] if start else ""
    if re.search(r"(?im)^[ \t]*(_|loop_|save_|global_)", preface):
        return text
    return "\n" * preface.count("\n") + text[len(preface) :]  # so that messages count the same lines


class Tags:
    """The values in a data block by tag, in lower case and with ``_`` for the ``.`` of newer dictionaries."""

    def __init__(self, block: cif.Block):
        self.name = block.name
        self._columns: dict[str, list[list[str]]] = defaultdict(list)
        self._loops: list[set[str]] = []
        self._read: dict[str, list[str]] = {}
        for item in block:
            if item.pair is not None:
                tag, value = cast(tuple[str, str], item.pair)
                self._columns[_normal(tag)].append([value])
                self._loops.append({_normal(tag)})
            elif item.loop is not None:
                width, values = len(item.loop.tags), item.loop.values
                self._loops.append(set(map(_normal, item.loop.tags)))
                for column, tag in enumerate(item.loop.tags):
                    self._columns[_normal(tag)].append(values[column::width])

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def has_sites(self, coordinate: str = SITES[0]) -> bool:
        """Return True if a site has this coordinate."""
        return any(word not in UNKNOWN for words in self._columns.get(coordinate, []) for word in words)

    def symmetry(self) -> tuple[str, ...]:
        """Return the names of a space group and the operations that are written."""
        return self.all_known(*GROUP_NAMES, *GROUP_NUMBERS, *HALL_SYMBOLS, *OPERATIONS)

    def are_joined(self, tag: str, other: str) -> bool:
        """Return True if two tags stand in one loop, or in loops that share a column, which then is the same."""
        loops = [loop for loop in self._loops if other in loop]
        return any(tag in loop and not loop.isdisjoint(base) for loop in self._loops for base in loops)

    def column(self, tag: str) -> list[str]:
        """Return the values of a tag without their quotes, ``?`` and ``.`` as they are; none where it is missing.

        Where the tag stands there more than once, values that are all unknown do not count.

        Raises:
            StructureError: The tag stands there more than once, with different values.
        """
        if tag not in self._read:
            self._read[tag] = self._only_column(tag)
        return self._read[tag]

    def _only_column(self, tag: str) -> list[str]:
        from gemmi import cif

        found = [
            [word if word in UNKNOWN else FOLDED.sub("", cif.as_string(word)).strip() for word in words]
            for words in self._columns.get(tag, [])
        ]
        known = [words for words in found if any(word not in UNKNOWN for word in words)] or found[:1]
        if any(words != known[0] for words in known):
            several = ", ".join(sorted({words[0] for words in known}))
            raise StructureError(f"{tag} stands in the CIF more than once: {several}; expected one structure a file")
        return known[0] if known else []

    def only(self, tag: str) -> str | None:
        """Return the value of a tag of which a crystal has one, if it is known.

        Raises:
            StructureError: A loop gives several.
        """
        values = self.all_known(tag)
        if len(values) > 1:
            raise StructureError(
                f"the CIF has several values of {tag}: {first_of(values)}; expected one crystal a file"
            )
        return values[0] if values else None

    def known(self, *tags: str) -> str | None:
        """Return the first value that is known of some tags."""
        return next(iter(self.all_known(*tags)), None)

    def all_known(self, *tags: str) -> tuple[str, ...]:
        """Return the different values that are known of some tags."""
        values = chain.from_iterable(self.column(tag) for tag in tags)
        return tuple(dict.fromkeys(value for value in values if value not in UNKNOWN))


def _normal(tag: str) -> str:
    return tag.lower().replace(".", "_")


def numbers(words: Iterable[str]) -> list[float]:
    """Return numbers without their uncertainties; NaN for what is none."""
    from gemmi import cif

    return [cif.as_number(word) for word in words]
