"""The crystals of a benchmark with its values, written to one file that is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from tqdm import tqdm

from crysmm.errors import InputError, StructureError, first_of
from crysmm.files import replacing
from crysmm.io.source import Row, SkippedRow
from crysmm.io.structure_file import SUFFIXES
from crysmm.io.writing import crystal_row, write_rows
from crysmm.terminal import disables_bar

Values = Mapping[str, tuple[float, ...] | None]
"""By id; None where the value is the source's own."""


def write_data(
    rows: Iterable[Row | SkippedRow], target: str, values: Values, path: Path, *, progress: bool = True
) -> None:
    """Write the crystals of a benchmark, in the order of their source, as ``.jsonl.gz``.

    Args:
        rows: hold them, among others.
        target: name of what is learned.
        values: which crystals, and their values of it.
        path: of the file; it appears when it is whole.
        progress: show a bar.

    Raises:
        InputError: crystals are missing, or cannot be read; nothing is written then.
    """
    found = _found(rows, target, values)
    bar = tqdm(found, total=len(values), desc="reading", unit=" crystals", disable=disables_bar(progress))
    with replacing(path) as temporary:
        write_rows(bar, temporary, packed=True)


def _found(rows: Iterable[Row | SkippedRow], target: str, values: Values) -> Iterator[dict[str, Any]]:
    missing, reasons = dict.fromkeys(values), {}
    for row in rows:
        name = _known(row.id, missing)
        if name is None:
            continue
        try:
            if isinstance(row, SkippedRow):
                raise StructureError(row.reason)
            record = row.read()
        except StructureError as error:
            reasons[name] = f"{row.file}: {error}"
            continue
        del missing[name]
        numbers = values[name] or record.targets
        yield crystal_row(name, {target: numbers[0] if len(numbers) == 1 else list(numbers)}, record.crystal)
    if missing:
        named = [f"{name} ({reasons.get(name, 'not there')})" for name in missing]
        raise InputError(
            f"the data have no readable crystal for {len(missing):,} of the {len(values):,} ids of the benchmark: "
            f"{first_of(named)}; give --root_dir the data set of the "
            "benchmark, in the version it was made of"
        )


def _known(identifier: str, missing: Mapping[str, None]) -> str | None:
    """An id of the benchmark that is still missing: as it stands in the data, or without the ending of a file."""
    path = PurePath(identifier)
    names = [identifier, path.stem] if path.suffix.lower() in SUFFIXES else [identifier]
    names += [name.removeprefix("POSCAR-") for name in names]
    return next((name for name in names if name in missing), None)
