"""What every input is to the rest of the package: rows, each of which becomes a record or a reason."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal, Protocol, get_args

from crysmm.crystal import Crystal
from crysmm.errors import InputError, StructureError

READING_VERSION = 2  # part of every fingerprint: raise it when the same input is read into other numbers
FileFormat = Literal["poscar", "cif", "xyz", "pdb"]
TargetTransform = Literal["none", "log10"]
MISSING = frozenset({"", "na", "n/a", "none", "null", "-", "?"})


@dataclass(frozen=True)
class Reading:
    """A structure as it was read from a file.

    Args:
        crystal: the structure.
        notes: what a user should know of how it was read.
        has_formula: the file gives a chemical formula, with which the atoms agree.
    """

    crystal: Crystal
    notes: tuple[str, ...] = ()
    has_formula: bool = False


@dataclass(frozen=True)
class Record:
    """One readable row of the input.

    Args:
        id: unique in its source.
        crystal: the structure.
        targets: in the units of the file, times ``target_multiplication_factor``; empty where none are read.
        file: where it stands, as a user would name it: ``a.vasp`` or ``data.jsonl:17``.
        notes, has_formula: see :class:`Reading`.
    """

    id: str
    crystal: Crystal
    targets: tuple[float, ...]
    file: str
    notes: tuple[str, ...] = ()
    has_formula: bool = False


@dataclass(frozen=True)
class SkippedRow:
    """One row that cannot be used, as it is written to ``skipped.csv``; ``id`` is empty where it has none."""

    id: str
    file: str
    reason: str


@dataclass(frozen=True)
class ReadingNote:
    """A note on how the structure of one row was read."""

    id: str
    file: str
    note: str


class Row(Protocol):
    """A row whose structure is not read yet: cheap to make and to send to a worker process."""

    @property
    def id(self) -> str:
        """Unique in its source."""

    @property
    def file(self) -> str:
        """Where it stands, as a user would name it."""

    def read(self) -> Record:
        """The record.

        Raises:
            StructureError: with the reason why there is none.
        """


class Source(ABC):
    """An input: its rows in their order, and what it is called when it is cached.

    Attributes:
        target_names: one a target; empty where no targets are read.
        n_rows: how many rows there are, or None where only reading tells.
    """

    target_names: tuple[str, ...]
    n_rows: int | None

    @abstractmethod
    def rows(self) -> Iterator[Row | SkippedRow]:
        """Every row, streamed.

        Raises:
            InputError: the file as a whole turns out to be broken.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Sha256 over the contents of the input and everything that decides how it is read."""


@dataclass(frozen=True)
class ReadingOptions:
    """How an input is read, under the names of the configuration.

    Raises:
        InputError: a value is not among those possible.
    """

    target_key: str | None = None
    id_key: str | None = None
    file_format: FileFormat | None = None
    target_transform: TargetTransform = "none"
    target_multiplication_factor: float | None = None
    limit: int | None = None
    needs_targets: bool = True

    def __post_init__(self) -> None:
        if self.file_format is not None and self.file_format not in get_args(FileFormat):
            raise InputError(_not_among("file_format", self.file_format, get_args(FileFormat)))
        if self.target_transform not in get_args(TargetTransform):
            raise InputError(_not_among("target_transform", self.target_transform, get_args(TargetTransform)))
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; expected a number of rows, 1 or more")

    @property
    def target_keys(self) -> tuple[str, ...]:
        """The names in ``target_key``; none for ALIGNN's placeholder ``target``, which names nothing."""
        if self.target_key is None or self.target_key == "target":
            return ()
        return tuple(key.strip() for key in self.target_key.split(","))

    @property
    def id_keys(self) -> tuple[str, ...]:
        """The names an id may have, the first one present counts."""
        if self.id_key is None or self.id_key in ("jid", "id"):
            return tuple(dict.fromkeys((self.id_key or "jid", "jid", "id")))
        return (self.id_key,)


def _not_among(name: str, value: object, choices: tuple[str, ...]) -> str:
    return f"{name} is {value!r}; expected one of {', '.join(choices)}"


def new_hash(options: ReadingOptions) -> hashlib._Hash:
    """A sha256 that has taken in the reading options."""
    return hashlib.sha256(f"crysmm reading {READING_VERSION} {options!r}\n".encode())


def encodable(text: str) -> str:
    """A text that can be written as UTF-8: what is no character, as in broken file names, as its code point."""
    return text.encode("utf-8", "backslashreplace").decode()


class IdRegister:
    """The ids met so far, each of which may come once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def admit(self, value: Any) -> str:
        """The id as text.

        Raises:
            StructureError: it is empty, leaves the folder, cannot be written to a table, or was there before.
        """
        identifier = "" if value is None else str(value).strip()
        if not identifier:
            raise StructureError("the row has no id")
        check_inside(identifier)
        if not identifier.isprintable():
            raise StructureError(f"the id {identifier!r} holds characters that cannot be printed")
        if identifier in self._seen:
            raise StructureError(f"the id {identifier!r} stands in an earlier row already")
        self._seen.add(identifier)
        return identifier


def check_inside(identifier: str) -> None:
    """Refuse an id that, taken as a file name, leaves its folder.

    Raises:
        StructureError: naming the id.
    """
    for path in (PurePosixPath(identifier), PureWindowsPath(identifier)):
        if path.is_absolute() or path.drive or ".." in path.parts:
            raise StructureError(f"the id {identifier!r} leads out of the folder; expected the name of a file in it")


def read_targets(values: Sequence[Any], names: Sequence[str], options: ReadingOptions) -> tuple[float, ...]:
    """The targets of a row, times ``target_multiplication_factor``.

    Args:
        values: one a target, numbers or text.
        names: of the targets.
        options: the factor, and the transform the targets must allow.

    Raises:
        StructureError: a value is missing, not a finite number, or has no logarithm where one is needed.
    """
    if len(values) != len(names):
        raise StructureError(f"the row has {len(values)} target values; expected {len(names)}: {', '.join(names)}")
    factor = 1.0 if options.target_multiplication_factor is None else options.target_multiplication_factor
    targets = tuple(read_number(value, name, factor) for value, name in zip(values, names, strict=True))
    if options.target_transform == "log10":
        for target, name in zip(targets, names, strict=True):
            if target <= 0:
                raise StructureError(f"the target {name} is {target:g}; target_transform log10 needs a positive one")
    return targets


def read_number(value: Any, name: str, factor: float = 1.0) -> float:
    """A finite number, times a factor.

    Raises:
        StructureError: naming the target and what stands there instead.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        raise StructureError(f"no target: {name} is {'empty' if value in (None, '') else repr(value)}")
    try:
        number = float(value) * factor
    except (TypeError, ValueError, OverflowError):
        raise StructureError(
            f"the target {name} is {str(value)[:60]!r}; numbers are needed (classes too are given as 0, 1, ...)"
        ) from None
    if not math.isfinite(number):
        raise StructureError(f"the target {name} is {number}; a finite number is needed")
    return number


def flatten(value: Any) -> list[Any]:
    """The values of a target that may be a list, or a list of lists."""
    if isinstance(value, list | tuple):
        return [item for part in value for item in flatten(part)]
    return [value]
