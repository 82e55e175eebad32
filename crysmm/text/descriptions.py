"""A file of descriptions: JSON lines, one a crystal, added one by one and whole at every moment."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crysmm.atomic_files import replacing
from crysmm.crystal import Crystal
from crysmm.errors import InputError


@dataclass(frozen=True)
class Description:
    """One row.

    Args:
        id: of the crystal in its input.
        text: the description; None where there is none.
        describer: ``robocrys`` or ``jarvis``, what has written the text or last tried to.
        version: of the describer's package.
        seconds: it took.
        structure: checksum of the crystal, see :func:`structure_checksum`; empty where it could not be read.
        reason: why there is no text, or why it is not by the describer that was asked for.
    """

    id: str
    text: str | None
    describer: str
    version: str
    seconds: float
    structure: str
    reason: str | None = None

    def line(self) -> str:
        """The row as JSON, without the fields that hold nothing."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None}, ensure_ascii=False)


REQUIRED = {field.name for field in fields(Description)} - {"text", "reason"}


def structure_checksum(crystal: Crystal) -> str:
    """Names a structure, so that a description is not taken for one of another that has the same id."""
    digest = hashlib.sha256()
    for array in (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def read_descriptions(path: Path) -> dict[str, Description]:
    """The rows of a file by id; the last where an id has several. A last line that was not finished is left out.

    Raises:
        InputError: a line is not such a row.
    """
    rows = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = _parse(json.loads(line))
        except (ValueError, TypeError):
            raise InputError(
                f"{path}: line {number} is not a description; expected a JSON object with "
                f"{', '.join(sorted(REQUIRED))}, and text or reason, as crysmm describe writes it"
            ) from None
        rows[row.id] = row
    return rows


def _parse(values: Any) -> Description:
    if not isinstance(values, Mapping) or not values.keys() >= REQUIRED or not values.keys() & {"text", "reason"}:
        raise ValueError
    return Description(**{"text": None, **values})


def write_descriptions(path: Path, rows: Iterable[Description]) -> None:
    """Replace a file as a whole."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(row.line() + "\n" for row in rows)


class Appender:
    """Adds rows to the end of a file; each is on its way to the disk when :meth:`add` returns.

    Args:
        path: of a file that is there or not; a last line that was not finished is cut off.
    """

    def __init__(self, path: Path):
        self._file = path.open("ab")
        with path.open("rb") as file:
            content = file.read()
        os.ftruncate(self._file.fileno(), content.rfind(b"\n") + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, row: Description) -> None:
        """Write a row."""
        self._file.write(row.line().encode() + b"\n")
        self._file.flush()
