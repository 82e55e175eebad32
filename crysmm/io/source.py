"""Interface of all inputs: a source of rows, each of which becomes a record or is skipped with a reason."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, get_args

from crysmm.config.run import FileFormat
from crysmm.config.training import TargetTransform
from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, StructureError, UnlabeledError, first_of

READING_VERSION = 18  # part of every fingerprint: increase it when the same input is read into other numbers
ID_KEYS = ("jid", "id", "material_id")  # of a row that holds its structure; the first one with a value counts
MISSING = frozenset(  # as text, in lower case
    ("", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null", "-", "?")
)


@dataclass(frozen=True)
class Reading:
    """Structure read from a file.

    Args:
        crystal: The structure.
        notes: Notes for the user on how it was read.
        has_formula: True if the file gives a chemical formula, with which the atoms agree.
    """

    crystal: Crystal
    notes: tuple[str, ...] = ()
    has_formula: bool = False


@dataclass(frozen=True)
class Record:
    """Readable row of the input.

    Args:
        id: Id, unique in its source.
        crystal: The structure.
        targets: Targets in the units of the file, times ``target_multiplication_factor``, NaN where the row has none
            of several; empty if none are read.
        file: Location as a user would name it: ``a.vasp`` or ``data.jsonl:17``.
        notes, has_formula: As in :class:`Reading`.
    """

    id: str
    crystal: Crystal
    targets: tuple[float, ...]
    file: str
    notes: tuple[str, ...] = ()
    has_formula: bool = False


@dataclass(frozen=True)
class SkippedRow:
    """Row that cannot be used, as written to ``skipped.csv``; ``id`` is empty if it has none."""

    id: str
    file: str
    reason: str


class UnlabeledRow(SkippedRow):
    """Row without any of the requested targets: left out, but not a fault of the data."""


@dataclass(frozen=True)
class ReadingNote:
    """Note on how the structure of one row was read."""

    id: str
    file: str
    note: str


@dataclass(frozen=True)
class Row(ABC):
    """Row whose structure is not read yet: cheap to create and to send to a worker process.

    Args:
        id: Id, unique in its source.
        file: Location as a user would name it.
    """

    id: str
    file: str

    @abstractmethod
    def read(self) -> Record:
        """Read the record.

        Raises:
            StructureError: The row cannot be used; the text gives the reason.
            UnlabeledError: The row has none of the requested targets.
        """


class Source(ABC):
    """Input with its rows in order and a fingerprint for caching.

    Attributes:
        target_names: Names of the targets, ``[n_targets]``; empty if none are read.
        n_rows: Number of rows, or None if it is only known after reading.
    """

    target_names: tuple[str, ...]
    n_rows: int | None

    @abstractmethod
    def rows(self) -> Iterator[Row | SkippedRow]:
        """Yield every row.

        Raises:
            InputError: The file as a whole turns out to be broken.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a SHA-256 of all that reading yields: target names, rows with their ids and files, skipped rows.

        Inputs that differ in anything a store keeps, or a message shows, have different fingerprints.
        """


@dataclass(frozen=True)
class ReadingOptions:
    """Options for reading an input, under the names of the configuration.

    Raises:
        InputError: A value is not one of the choices.
    """

    target_key: str | None = None
    id_key: str | None = None
    file_format: FileFormat | None = None
    target_transform: TargetTransform = "none"
    target_multiplication_factor: float | None = None
    limit: int | None = None
    needs_targets: bool = True

    def __post_init__(self) -> None:
        for name, choices in (
            ("file_format", (None, *get_args(FileFormat))),
            ("target_transform", get_args(TargetTransform)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f"{name} is {value!r}; expected one of {', '.join(filter(None, choices))}")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; expected a number of rows, 1 or more")

    @property
    def target_keys(self) -> tuple[str, ...]:
        """Names in ``target_key``; none for ALIGNN's placeholder ``target``, which names nothing."""
        if self.target_key is None or self.target_key == "target":
            return ()
        return tuple(dict.fromkeys(key.strip() for key in self.target_key.split(",")))

    @property
    def id_keys(self) -> tuple[str, ...]:
        """Possible names of the id column; the first one present counts."""
        if self.id_key is None or self.id_key in ("jid", "id"):
            return tuple(dict.fromkeys((self.id_key or "jid", "jid", "id")))
        return (self.id_key,)

    @property
    def row_id_keys(self) -> tuple[str, ...]:
        """Possible keys of the id in rows that hold their structure; the first one present counts."""
        return ID_KEYS if self.id_key is None else self.id_keys


def new_hash(options: ReadingOptions, target_names: tuple[str, ...]) -> hashlib._Hash:
    """Start a SHA-256 with the reading options and the names of the targets."""
    digest = hashlib.sha256()
    hash_parts(digest, "crysmm reading", READING_VERSION, options, target_names)
    return digest


def hash_parts(digest: hashlib._Hash, *parts: Any) -> None:
    """Add the ``repr`` of values to a hash: unlike their text, it shows where each value ends and what type it has."""
    digest.update(f"{parts!r}\n".encode("utf-8", "backslashreplace"))


def encodable(text: str) -> str:
    """Return a text that can be encoded as UTF-8: invalid characters, as in broken file names, become code points."""
    return text.encode("utf-8", "backslashreplace").decode()


class StrictError(InputError):
    """Error of a strict reading that stops at a row.

    Attributes:
        row: The row that cannot be used.
    """

    def __init__(self, row: SkippedRow) -> None:
        super().__init__(row)  # what pickle makes another of
        self.row = row

    def __str__(self) -> str:
        return f"strict stops at the first row it cannot use:\n  {self.row.file or self.row.id}: {self.row.reason}"


def is_no_id(value: Any) -> bool:
    """Return True for the value of a missing id: nothing, blanks, or NaN of any library, which is known by its text."""
    return str(value).strip() == "" or (not isinstance(value, str) and str(value).lower() in MISSING)


class IdRegister:
    """Register of the ids read so far, each of which may occur once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def admit(self, value: Any) -> str:
        """Register an id and return it as text.

        Raises:
            StructureError: The id is empty, leads out of the folder, is not printable, or occurred before.
        """
        if is_no_id(value):
            raise StructureError("the row has no id")
        identifier = str(value).strip()
        for path in (PurePosixPath(identifier), PureWindowsPath(identifier)):
            if path.is_absolute() or path.drive or ".." in path.parts:
                raise StructureError(
                    f"the id {identifier!r} leads out of the folder; expected the name of a file in it"
                )
        if not identifier.isprintable():
            raise StructureError(f"the id {identifier!r} holds characters that cannot be printed")
        if identifier in self._seen:
            raise StructureError(f"the id {identifier!r} stands in an earlier row already")
        self._seen.add(identifier)
        return identifier


def read_targets(values: Sequence[Any], names: Sequence[str], options: ReadingOptions) -> tuple[float, ...]:
    """Read the targets of a row, times ``target_multiplication_factor``; NaN for missing ones of several.

    Args:
        values: Values as numbers or text, ``[n_targets]``.
        names: Names of the targets, ``[n_targets]``.
        options: Options with the factor and the transform.

    Raises:
        StructureError: A value is not a finite number, or not positive where its logarithm is needed.
        UnlabeledError: Every value is missing.
    """
    if len(values) != len(names):
        raise StructureError(f"the row has {len(values)} target values; expected {len(names)}: {', '.join(names)}")
    factor = 1.0 if options.target_multiplication_factor is None else options.target_multiplication_factor
    targets = []
    for value, name in zip(values, names, strict=True):
        try:
            targets.append(read_number(value, name, factor))
        except UnlabeledError:
            if len(names) == 1:
                raise
            targets.append(math.nan)
    if targets and all(map(math.isnan, targets)):
        raise UnlabeledError(f"no target: {first_of(names)} are all missing")
    if options.target_transform == "log10":
        for target, name in zip(targets, names, strict=True):
            if target <= 0:  # false for NaN
                raise StructureError(f"the target {name} is {target:g}; target_transform log10 needs a positive one")
    return tuple(targets)


def read_number(value: Any, name: str, factor: float = 1.0) -> float:
    """Read a finite number and multiply it by a factor.

    Raises:
        StructureError: The value is not a finite number.
        UnlabeledError: The value is missing: None, NaN, or one of ``MISSING``.
    """
    # as text, NaN and the missing values of other libraries are found, too; Python refuses to print huge integers
    if not isinstance(value, int) and str(value).strip().lower() in MISSING:
        raise UnlabeledError(f"no target: {name} is {'empty' if value in (None, '') else repr(value)}")
    try:
        number = float(str(value).replace("_", "?") if isinstance(value, str) else value) * factor  # no 1_000
    except (TypeError, ValueError, OverflowError):
        raise StructureError(
            f"the target {name} is {str(value)[:60]!r}; numbers are needed (classes too are given as 0, 1, ...)"
        ) from None
    if not math.isfinite(number):
        raise StructureError(f"the target {name} is {number}; a finite number is needed")
    return number


def flatten(value: Any) -> list[Any]:
    """Flatten a target that may be a list, a list of lists or an array."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [item for part in value for item in flatten(part)]
    return [value]
