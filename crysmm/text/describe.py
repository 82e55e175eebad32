"""Descriptions of all crystals of an input: in parallel, resumable, each with its describer or the reason it has none.

Where Robocrystallographer fails, JARVIS describes the crystal instead, and the row records it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crysmm.cluster import Backend, connect, require_cluster
from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.building import graph_row
from crysmm.errors import InputError
from crysmm.io.source import SkippedRow, Source
from crysmm.progress import progress_bar
from crysmm.text.describers import TIMEOUT, DescriberName, borrowed, describer_version, end_processes
from crysmm.text.descriptions import (
    Appender,
    Description,
    read_descriptions,
    write_descriptions,
)

NOT_READ = ""  # in place of the checksum of a structure that could not be read
CHECKED = GraphSettings()  # a crystal without a graph by these settings is not described either


@dataclass(frozen=True)
class DescriptionSummary:
    """Rows of an input by the result of describing them.

    Args:
        described: Rows described by the requested describer.
        replaced: Rows described by JARVIS because the requested describer failed.
        failed: Rows without a text.
        skipped: Rows of the input without an id of their own, which are not written.
        n_kept: Number of the described, replaced and failed rows that were in the file before.
    """

    described: list[Description]
    replaced: list[Description]
    failed: list[Description]
    skipped: list[SkippedRow]
    n_kept: int


def describe_crystal(identifier: str, crystal: Crystal, describer: DescriberName, timeout: float) -> Description:
    """Describe one crystal where this is called, which may be another machine.

    Args:
        identifier: Id of the crystal in its input.
        crystal: Crystal to describe.
        describer: Name of the describer; if Robocrystallographer fails, JARVIS is tried.
        timeout: Time limit for each describer, in seconds.
    """
    structure = crystal.checksum
    with borrowed(describer) as process:
        answer = process.describe(crystal, timeout)
    row = Description(
        identifier, answer.text, describer, describer_version(describer), answer.seconds, structure, answer.reason
    )
    if row.text is not None or describer == "jarvis":
        return row
    second = describe_crystal(identifier, crystal, "jarvis", timeout)
    reasons = f"robocrys: {row.reason}" if second.reason is None else f"robocrys: {row.reason}; jarvis: {second.reason}"
    return Description(
        identifier, second.text, "jarvis", second.version, row.seconds + second.seconds, structure, reasons
    )


def describe(
    source: Source,
    output: Path,
    describer: DescriberName = "robocrys",
    *,
    jobs: int | None = None,
    timeout: float = TIMEOUT,
    backend: Backend = "local",
    scheduler: str | None = None,
    progress: bool = True,
) -> DescriptionSummary:
    """Describe the crystals of an input that are not yet in a file, and sort the file in the order of the input.

    Args:
        source: Input with the crystals; targets are not read.
        output: File of descriptions, which is created or continued.
        describer: Name of the describer.
        jobs: Number of crystals described at a time, by default one per core; with dask, the number of threads of its
            workers decides.
        timeout: Time limit per crystal, in seconds.
        backend: Processes of this machine, or a Dask cluster whose machines have this package, too.
        scheduler: Address of the cluster's scheduler.
        progress: True to show a progress bar.

    Raises:
        InputError: The output is not a file of descriptions, is named as a table or was written by another describer,
            or backend and scheduler contradict each other.
        MissingDependencyError: The describer, or dask, is not installed.
    """
    from joblib import Parallel, delayed

    require_cluster(backend, scheduler)
    if output.suffix == ".csv":  # which would be read as a table
        raise InputError(f"--output: {output}: descriptions are written as JSON lines; name it .jsonl")
    version = describer_version(describer)
    kept = read_descriptions(output) if output.exists() else {}
    for row in kept.values():
        # A text with a reason was written by JARVIS in place of the requested describer.
        if row.text is not None and row.describer != describer and row.reason is None:
            raise InputError(
                f"{output} holds descriptions by {row.describer}, but {describer} is requested; name another --output"
            )
    bar = progress_bar("describing", source.n_rows, "crystals", shown=progress)
    todo = _Todo(source, kept, bar)
    work = delayed(describe_crystal)
    with Appender(output) as file, bar, _workers(backend, scheduler):
        # On this machine, each thread waits for a describing process of its own; dask is set by the context.
        local = {"backend": "threading"} if backend == "local" else {}
        parallel = Parallel(-1 if jobs is None else jobs, return_as="generator_unordered", **local)
        for row in parallel(work(identifier, crystal, describer, timeout) for identifier, crystal in todo.crystals()):
            file.add(row)
            bar.update()
        for identifier, reason in todo.unreadable.items():
            file.add(Description(identifier, None, describer, version, 0.0, NOT_READ, reason))
    rows = read_descriptions(output)
    ours = {identifier: rows.pop(identifier) for identifier in todo.ids}
    write_descriptions(output, [*ours.values(), *rows.values()])  # rows of other inputs come last
    texts = [row for row in ours.values() if row.text is not None]
    return DescriptionSummary(
        described=[row for row in texts if row.reason is None],
        replaced=[row for row in texts if row.reason is not None],
        failed=[row for row in ours.values() if row.text is None],
        skipped=todo.skipped,
        n_kept=todo.n_kept,
    )


class _Todo:
    """Rows of an input, sorted in one pass into crystals to describe and all others."""

    def __init__(self, source: Source, kept: dict[str, Description], bar: tqdm[Any]):
        self.ids: list[str] = []
        self.unreadable: dict[str, str] = {}  # reasons by id
        self.skipped: list[SkippedRow] = []
        self.n_kept = 0
        self._source, self._kept, self._bar = source, kept, bar

    def crystals(self) -> Iterator[tuple[str, Crystal]]:
        """Yield ids and crystals that have no row yet, or the row of another structure."""
        for row in self._source.rows():
            if isinstance(row, SkippedRow):
                self.skipped.append(row)
                self._bar.update()
                continue
            self.ids.append(row.id)
            known = self._kept[row.id].structure if row.id in self._kept else None
            read = graph_row(row, CHECKED)
            crystal = None if isinstance(read, SkippedRow) else read.record.crystal
            if isinstance(read, SkippedRow) and known != NOT_READ:
                self.unreadable[row.id] = read.reason
                self._bar.update()
                continue
            if crystal is None or known == crystal.checksum:
                self.n_kept += 1
                self._bar.update()
            else:
                yield row.id, crystal


@contextmanager
def _workers(backend: Backend, scheduler: str | None) -> Iterator[None]:
    """Connect to the cluster for the block, or end the describing processes of this machine after it."""
    if backend == "local":
        try:
            yield
        finally:
            end_processes()
        return
    from joblib import parallel_config

    assert scheduler is not None
    with connect(scheduler), parallel_config(backend="dask"):
        yield
