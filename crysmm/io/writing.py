"""Crystals and their properties written as the rows of a JSONL file, which any command reads."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from crysmm.crystal import Crystal


def crystal_row(identifier: str, properties: Mapping[str, Any], crystal: Crystal) -> dict[str, Any]:
    """One row: ``id``, the properties, ``lattice_mat`` (Angstrom), ``elements``, ``frac_coords``."""
    return {
        "id": identifier,
        **properties,
        "lattice_mat": crystal.lattice.tolist(),
        "elements": crystal.elements,
        "frac_coords": crystal.frac_coords.tolist(),
    }


def write_rows(rows: Iterable[Mapping[str, Any]], path: Path, *, packed: bool) -> int:
    """Write rows as they come, a line each; returns their number.

    Args:
        rows: of :func:`crystal_row`.
        path: of the file; give a temporary one where it must be whole or not there.
        packed: whether to gzip it; the same rows give the same file.
    """
    count = 0
    with _open(path, packed) as file:
        for row in rows:
            file.write(json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n")
            count += 1
    return count


@contextmanager
def _open(path: Path, packed: bool) -> Iterator[IO[str]]:
    with path.open("wb") as binary:
        if packed:
            # No name and no time in the header: the same rows give the same file.
            with (
                gzip.GzipFile("", "wb", fileobj=binary, mtime=0) as archive,
                io.TextIOWrapper(archive, "utf-8") as text,
            ):
                yield text
        else:
            with io.TextIOWrapper(binary, "utf-8") as text:
                yield text
