"""Merge archives of structures into one JSONL file without duplicates, in parts, so that a killed run can continue.

Rows are streamed, examined by worker processes and compared in their order; the first of several copies is kept. After
every ``ROWS_PER_PART`` rows the kept rows and their keys are written to a folder next to the output, from which another
run continues. The boundaries of the parts, and so the result, do not depend on when a run was killed.
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

from crysmm.crystals.crystal import Crystal
from crysmm.data.building import map_in_order
from crysmm.data.space_groups import find_space_group
from crysmm.errors import InputError, StructureError
from crysmm.files import replacing, why_not_writable, write_json_atomic
from crysmm.io.json_stream import json_list_items
from crysmm.io.row import parse_row, read_row
from crysmm.io.table import crystal_row
from crysmm.progress import progress_bar
from data_prep.files import write_jsonl
from data_prep.structure_index import StructureIndex, StructureKey, pack_keys, structure_key, unpack_keys

ROWS_PER_PART = 10_000  # one or two minutes of work
OUTCOMES = ("kept", "duplicate", "left out", "not readable")
KEPT, DUPLICATE, LEFT_OUT, NOT_READABLE = range(len(OUTCOMES))
SETTINGS_FILE = "settings.json"


class Text(NamedTuple):
    """Text of a row, its place in the archive, and the number of the archive."""

    source: int
    place: str
    text: str


class Examined(NamedTuple):
    """Content of a row that was read."""

    source: int
    id: str
    crystal: Crystal
    key: StructureKey
    space_group: int


class Unreadable(NamedTuple):
    """Reason why a row could not be read."""

    source: int
    reason: str


@dataclass(frozen=True)
class Report:
    """Result of a deduplication.

    Args:
        sources: Names of the archives.
        counts: Number of rows with each outcome, ``[n_sources, len(OUTCOMES)]``.
        space_groups: Space groups of the structures that were kept, ``[n_kept]``.
    """

    sources: list[str]
    counts: np.ndarray
    space_groups: np.ndarray

    def __str__(self) -> str:
        lines = []
        for name, counts in [*zip(self.sources, self.counts, strict=True), ("total", self.counts.sum(axis=0))]:
            parts = ", ".join(f"{count} {outcome}" for count, outcome in zip(counts, OUTCOMES, strict=True))
            lines.append(f"{name}: {counts.sum()} rows: {parts}")
        return "\n".join(lines)


def examine(rows: list[Text], symprec: float) -> list[Examined | Unreadable]:
    """Read rows, and compute their keys and space groups."""
    return [_examine_one(row, symprec) for row in rows]


def _examine_one(row: Text, symprec: float) -> Examined | Unreadable:
    try:
        fields = parse_row(row.text)
        identifier = fields.get("jid", fields.get("id"))
        if identifier is None:
            raise StructureError("the row has neither jid nor id")
        crystal = read_row(fields).crystal
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
    rows_a_part: int = ROWS_PER_PART,
) -> Report:
    """Write the structures of several archives to one file, without duplicates.

    Args:
        archives: Archives by name, each a JSON list of rows with ``jid`` or ``id`` and a structure.
        output: ``.jsonl.gz`` file to write; its rows have ``id``, ``source``, ``space_group`` and the structure.
        left_out: Structures to leave out.
        settings: All other settings that the result depends on, as JSON content; a run continues one that was killed
            only if these are the same.
        symprec: Tolerance of the space groups, in Angstrom.
        jobs: Number of worker processes; by default one per core.
        rows_a_part: Number of rows after which a part is written; at most so many are lost when a run is killed.

    Raises:
        InputError: The output cannot be written, an archive is broken, or the parts next to the output come from a run
            with other settings.
    """
    check_output(output)
    settings = {**settings, "symprec": symprec, "rows_a_part": rows_a_part}
    folder = output.with_name(f".{output.name}.parts")
    n_rows = _begin(folder, settings, archives)
    parts = _Parts(folder, len(archives))
    rows = islice(_texts(archives), parts.n_parts * rows_a_part, None)
    examined: Iterator[Examined | Unreadable] = iter(
        progress_bar(
            "comparing structures",
            n_rows,
            "rows",
            map_in_order(partial(examine, symprec=symprec), rows, jobs),
            initial=min(parts.n_parts * rows_a_part, n_rows),
        )
    )
    while some := list(islice(examined, rows_a_part)):
        parts.write(some, list(archives), left_out)
    parts.join(output)
    return Report(list(archives), parts.counts, np.concatenate(parts.space_groups))


def check_output(output: Path) -> None:
    """Refuse an output that cannot be written.

    Raises:
        InputError: The output exists, its name has another ending, or its folder is not writable.
    """
    if not output.name.endswith(".jsonl.gz"):
        raise InputError(f"{output}: expected a name ending in .jsonl.gz")
    if output.exists():
        raise InputError(f"{output} exists already: delete it or give another name")
    why = why_not_writable(output.parent)
    if why:
        raise InputError(f"{output} cannot be written: {why}")


def _begin(folder: Path, settings: Mapping[str, Any], archives: Mapping[str, Path]) -> int:
    """Return the number of rows, from an earlier run if there is one.

    Reading all archives to the end also finds broken ones before hours of work.
    """
    path = folder / SETTINGS_FILE
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
        if begun["settings"] != settings:
            changed = [name for name in settings if settings[name] != begun["settings"].get(name)]
            raise InputError(
                f"{folder} holds a run begun with other settings ({', '.join(changed)}): "
                "repeat those to continue, or delete the folder to start again"
            )
        return int(begun["n_rows"])
    n_rows = sum(1 for _ in progress_bar("counting rows", None, "rows", _texts(archives)))
    write_json_atomic(path, {"settings": settings, "n_rows": n_rows})
    return n_rows


def _texts(archives: Mapping[str, Path]) -> Iterator[Text]:
    """Yield the rows of all archives."""
    for source, archive in enumerate(archives.values()):
        for place, text in json_list_items(archive):
            yield Text(source, place, text)


class _Parts:
    """Parts that are finished: the kept rows of each as ``.jsonl.gz``, and their keys as ``.npz``.

    The keys are written first, so that a part with rows is complete.

    Args:
        folder: Folder of the parts; those in it are read.
        n_sources: Number of archives.
    """

    def __init__(self, folder: Path, n_sources: int) -> None:
        self._folder = folder
        self._index = StructureIndex()
        self.n_parts = 0
        self.counts = np.zeros((n_sources, len(OUTCOMES)), dtype=np.int64)
        self.space_groups = [np.empty(0, np.uint8)]
        while self._file("jsonl.gz").exists():
            with np.load(self._file("npz"), allow_pickle=False) as arrays:
                for key in unpack_keys(arrays):
                    self._index.add(key)
                self._count(arrays["counts"], arrays["space_groups"])

    def _file(self, ending: str) -> Path:
        """Return the path of the next part's file with this ending."""
        return self._folder / f"{self.n_parts:05d}.{ending}"

    def _count(self, counts: np.ndarray, space_groups: np.ndarray) -> None:
        self.counts += counts
        self.space_groups.append(space_groups)
        self.n_parts += 1

    def write(self, rows: list[Examined | Unreadable], sources: list[str], left_out: StructureIndex) -> None:
        """Write a part with those of the next rows that are new.

        Args:
            rows: Next rows of the archives.
            sources: Names of the archives.
            left_out: Structures to leave out.
        """
        counts = np.zeros_like(self.counts)
        kept: list[Examined] = []
        for row in rows:
            if isinstance(row, Unreadable):
                tqdm.write(f"left out: {row.reason}", file=sys.stderr)
                outcome = NOT_READABLE
            elif row.key in left_out:
                outcome = LEFT_OUT
            elif row.key in self._index:
                outcome = DUPLICATE
            else:
                outcome = KEPT
                self._index.add(row.key)
                kept.append(row)
            counts[row.source, outcome] += 1
        space_groups = np.array([row.space_group for row in kept], dtype=np.uint8)
        arrays: dict[str, Any] = {"counts": counts, "space_groups": space_groups}
        arrays |= pack_keys([row.key for row in kept])
        with replacing(self._file("npz")) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        lines = (
            crystal_row(row.id, {"source": sources[row.source], "space_group": row.space_group}, row.crystal)
            for row in kept
        )
        write_jsonl(lines, self._file("jsonl.gz"))
        self._count(counts, space_groups)

    def join(self, output: Path) -> None:
        """Write all rows to one file, and remove the folder; concatenated gzip files are a gzip file."""
        whole = self._folder / output.name  # on the same file system, so that it can be renamed to the output
        with whole.open("wb") as file:
            file.write(gzip.compress(b"", mtime=0))  # a gzip file even without rows
            for part in range(self.n_parts):
                with (self._folder / f"{part:05d}.jsonl.gz").open("rb") as rows:
                    shutil.copyfileobj(rows, file)
        whole.replace(output)
        shutil.rmtree(self._folder)
