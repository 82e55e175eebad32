"""Archives of structures into one JSONL file of different ones, part by part, so that a killed run can go on.

Rows are streamed, examined by worker processes and compared in their order; the first of several copies is kept.
After every ``ROWS_A_PART`` rows the kept ones and their keys are written to a folder beside the output, from which
a second run goes on; where the parts end does not depend on when a run was killed, and neither does the result.
"""

import gzip
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from crysmm.crystal import Crystal
from crysmm.data.building import map_in_order
from crysmm.data.space_groups import find_space_group
from crysmm.errors import InputError, StructureError
from crysmm.files import disables_bar, replacing, why_not_writable, write_json_atomic
from crysmm.io.json_stream import json_list_items
from crysmm.io.table import crystal_of_row, crystal_row, parse_row
from data_prep.files import write_jsonl
from data_prep.structure_index import StructureIndex, StructureKey, pack_keys, structure_key, unpack_keys

ROWS_A_PART = 10_000  # a minute or two of work
OUTCOMES = ("kept", "duplicate", "left out", "not readable")
KEPT, DUPLICATE, LEFT_OUT, NOT_READABLE = range(len(OUTCOMES))
SETTINGS_FILE = "settings.json"


class Text(NamedTuple):
    """A row as it stands in an archive: where, and which of the archives."""

    source: int
    place: str
    text: str


class Examined(NamedTuple):
    """A row that was read."""

    source: int
    id: str
    crystal: Crystal
    key: StructureKey
    space_group: int


class Unreadable(NamedTuple):
    """A row that could not be read, and why."""

    source: int
    reason: str


@dataclass(frozen=True)
class Report:
    """What became of the rows.

    Args:
        sources: names of the archives.
        counts: ``[n_sources, len(OUTCOMES)]``.
        space_groups: of the structures kept.
    """

    sources: list[str]
    counts: np.ndarray
    space_groups: np.ndarray

    def __str__(self) -> str:
        lines = []
        for name, counts in [*zip(self.sources, self.counts, strict=True), ("in all", self.counts.sum(axis=0))]:
            shares = ", ".join(f"{count} {outcome}" for count, outcome in zip(counts, OUTCOMES, strict=True))
            lines.append(f"{name}: {counts.sum()} rows: {shares}")
        return "\n".join(lines)


def examine(rows: list[Text], symprec: float) -> list[Examined | Unreadable]:
    """Read some rows, find their keys and their space groups."""
    return [_examine_one(row, symprec) for row in rows]


def _examine_one(row: Text, symprec: float) -> Examined | Unreadable:
    try:
        fields = parse_row(row.text)
        identifier = fields.get("jid", fields.get("id"))
        if identifier is None:
            raise StructureError("the row has neither jid nor id")
        crystal = crystal_of_row(fields)
        key = structure_key(crystal)
    except StructureError as error:
        return Unreadable(row.source, f"{row.place}: {error}")
    return Examined(row.source, str(identifier), crystal, key, find_space_group(crystal, symprec))


def deduplicate(
    archives: Mapping[str, Path],
    output: Path,
    *,
    left_out: StructureIndex,
    settings: Mapping[str, Any],
    symprec: float,
    jobs: int | None = None,
    rows_a_part: int = ROWS_A_PART,
) -> Report:
    """Write the different structures of some archives to one file.

    Args:
        archives: by name, each one JSON list of rows with ``jid`` or ``id`` and a structure.
        output: a ``.jsonl.gz`` file; rows have ``id``, ``source``, ``space_group`` and the structure.
        left_out: structures that must not be in it.
        settings: whatever else decides the result, as JSON: a run goes on only where another with the same stopped.
        symprec: tolerance of the space groups, Angstrom.
        jobs: worker processes, by default one a core.
        rows_a_part: how many rows are lost at most when a run is killed.

    Raises:
        InputError: the output cannot be written, an archive is broken, or what another run left beside the output
            comes from other settings.
    """
    check_output(output)
    settings = {**settings, "symprec": symprec, "rows_a_part": rows_a_part}
    folder = output.with_name(f".{output.name}.parts")
    n_rows = _begin(folder, settings, archives)
    parts = _Parts(folder, len(archives))
    rows = islice(_texts(archives), parts.n_parts * rows_a_part, None)
    examined: Iterator[Examined | Unreadable] = iter(
        tqdm(
            map_in_order(partial(examine, symprec=symprec), rows, jobs),
            "comparing structures", n_rows, initial=min(parts.n_parts * rows_a_part, n_rows), unit=" rows",
            disable=disables_bar(True),
        )
    )  # fmt: skip
    while some := list(islice(examined, rows_a_part)):
        parts.write(some, list(archives), left_out)
    parts.join(output)
    return Report(list(archives), parts.counts, np.concatenate(parts.space_groups))


def check_output(output: Path) -> None:
    """Refuse a name that cannot be written to.

    Raises:
        InputError: the output exists, has another ending, or lies where nothing can be written.
    """
    if not output.name.endswith(".jsonl.gz"):
        raise InputError(f"{output}: expected a name ending in .jsonl.gz")
    if output.exists():
        raise InputError(f"{output} exists already: delete it or give another name")
    why = why_not_writable(output.parent)
    if why:
        raise InputError(f"{output} cannot be written: {why}")


def _begin(folder: Path, settings: Mapping[str, Any], archives: Mapping[str, Path]) -> int:
    """The number of rows, counted once; reading every archive to its end shows what is broken before hours of work."""
    path = folder / SETTINGS_FILE
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
        if begun["settings"] != settings:
            changed = [name for name in settings if settings[name] != begun["settings"].get(name)]
            raise InputError(
                f"{folder} holds a run begun with other settings ({', '.join(changed)}): "
                "repeat those to go on, or delete it to begin anew"
            )
        return int(begun["n_rows"])
    n_rows = sum(1 for _ in tqdm(_texts(archives), "counting rows", unit=" rows", disable=disables_bar(True)))
    write_json_atomic(path, {"settings": settings, "n_rows": n_rows})
    return n_rows


def _texts(archives: Mapping[str, Path]) -> Iterator[Text]:
    for source, archive in enumerate(archives.values()):
        for place, text in json_list_items(archive):
            yield Text(source, place, text)


class _Parts:
    """What is finished: the rows kept of each part as ``.jsonl.gz``, and their keys, written before, as ``.npz``."""

    def __init__(self, folder: Path, n_sources: int) -> None:
        self._folder = folder
        self._index = StructureIndex()
        self.n_parts = 0
        self.counts = np.zeros((n_sources, len(OUTCOMES)), dtype=np.int64)
        self.space_groups = [np.empty(0, np.uint8)]
        while self._rows_file(self.n_parts).exists():
            with np.load(self._keys_file(self.n_parts), allow_pickle=False) as arrays:
                for key in unpack_keys(arrays):
                    self._index.add(key)
                self._count(arrays["counts"], arrays["space_groups"])

    def _rows_file(self, part: int) -> Path:
        return self._folder / f"{part:05d}.jsonl.gz"

    def _keys_file(self, part: int) -> Path:
        return self._folder / f"{part:05d}.npz"

    def _count(self, counts: np.ndarray, space_groups: np.ndarray) -> None:
        self.counts += counts
        self.space_groups.append(space_groups)
        self.n_parts += 1

    def write(self, rows: list[Examined | Unreadable], sources: list[str], left_out: StructureIndex) -> None:
        """Sort out the next rows and keep what is new."""
        counts = np.zeros_like(self.counts)
        kept: list[Examined] = []
        for row in rows:
            outcome = self._judge(row, left_out)
            counts[row.source, outcome] += 1
            if isinstance(row, Unreadable):
                tqdm.write(f"left out: {row.reason}", file=sys.stderr)
            elif outcome == KEPT:
                self._index.add(row.key)
                kept.append(row)
        space_groups = np.array([row.space_group for row in kept], dtype=np.uint8)
        arrays: dict[str, Any] = {"counts": counts, "space_groups": space_groups}
        arrays |= pack_keys([row.key for row in kept])
        with replacing(self._keys_file(self.n_parts)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        lines = (
            crystal_row(row.id, {"source": sources[row.source], "space_group": row.space_group}, row.crystal)
            for row in kept
        )
        write_jsonl(lines, self._rows_file(self.n_parts))
        self._count(counts, space_groups)

    def _judge(self, row: Examined | Unreadable, left_out: StructureIndex) -> int:
        if isinstance(row, Unreadable):
            return NOT_READABLE
        if row.key in left_out:
            return LEFT_OUT
        return DUPLICATE if row.key in self._index else KEPT

    def join(self, output: Path) -> None:
        """All rows into one file (gzip files end to end are one), and the folder away."""
        whole = self._folder / output.name
        with whole.open("wb") as file:
            file.write(gzip.compress(b"", mtime=0))  # a gzip file even without rows
            for part in range(self.n_parts):
                with self._rows_file(part).open("rb") as rows:
                    shutil.copyfileobj(rows, file)
        whole.replace(output)
        shutil.rmtree(self._folder)
