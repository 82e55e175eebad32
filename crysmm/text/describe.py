"""Descriptions of all crystals of an input: in parallel, resumable, each with its describer or the reason it lacks.

Where Robocrystallographer fails, JARVIS' text takes its place and the row says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.data.building import graph_row
from crysmm.errors import InputError, MissingDependencyError
from crysmm.files import disables_bar
from crysmm.io.source import SkippedRow, Source
from crysmm.text.describers import DescriberName, borrowed, describer_version, end_processes
from crysmm.text.descriptions import (
    Appender,
    Description,
    read_descriptions,
    structure_checksum,
    write_descriptions,
)

Backend = Literal["local", "dask"]
NOT_READ = ""  # in place of the checksum of a structure that could not be read
SECONDS_TO_CONNECT = 30
CHECKED = GraphSettings()  # a crystal that no graph can be made of is not described either
TIMEOUT = 120  # seconds a crystal may take


@dataclass(frozen=True)
class Summary:
    """What has become of the rows of an input.

    Args:
        described: by the describer asked for.
        replaced: by JARVIS, as the describer asked for has failed.
        failed: without a text.
        skipped: rows of the input without an id of their own, of which nothing is written.
        n_kept: of the first three, those that were in the file already.
    """

    described: list[Description]
    replaced: list[Description]
    failed: list[Description]
    skipped: list[SkippedRow]
    n_kept: int


def describe_crystal(identifier: str, crystal: Crystal, describer: DescriberName, timeout: float) -> Description:
    """One row; called where the work is done, which may be another machine."""
    structure = structure_checksum(crystal)
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
) -> Summary:
    """Describe the crystals of an input that a file has no description of, and put its rows in the input's order.

    Args:
        source: the crystals; targets are not looked at.
        output: file of descriptions; made, or gone on with.
        describer: what is to write the texts.
        jobs: crystals described at a time, by default one a core; with dask its workers' threads decide.
        timeout: seconds a crystal may take.
        backend: processes of this machine, or a Dask cluster on whose machines this package is installed too.
        scheduler: address of the cluster's scheduler.
        progress: show a bar.

    Raises:
        InputError: the output is no file of descriptions or one by another describer; or backend and scheduler do
            not go together.
        MissingDependencyError: the describer, or dask, is not installed.
    """
    if (backend == "dask") != (scheduler is not None):
        raise InputError("backend dask needs a scheduler, tcp://HOST:PORT, and no other backend has one")
    version = describer_version(describer)
    kept = read_descriptions(output) if output.exists() else {}
    _check_describer(output, kept.values(), describer)
    bar = tqdm(desc="describing", total=source.n_rows, unit=" crystals", disable=disables_bar(progress), delay=1)
    todo = _Todo(source, kept, bar)
    with Appender(output) as file, bar, _workers(backend, scheduler):
        for row in _in_parallel(todo.crystals(), describer, timeout, -1 if jobs is None else jobs, backend):
            file.add(row)
            bar.update()
        for identifier, reason in todo.unreadable.items():
            file.add(Description(identifier, None, describer, version, 0.0, NOT_READ, reason))
    return _finish(output, todo)


class _Todo:
    """Goes through an input once: hands out what is to be described, and notes the rest."""

    def __init__(self, source: Source, kept: dict[str, Description], bar: tqdm[Any]):
        self.ids: list[str] = []
        self.unreadable: dict[str, str] = {}
        self.skipped: list[SkippedRow] = []
        self.n_kept = 0
        self._source, self._kept, self._bar = source, kept, bar

    def crystals(self) -> Iterator[tuple[str, Crystal]]:
        """Those that have no row yet, or one of another structure."""
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
            if crystal is None or known == structure_checksum(crystal):
                self.n_kept += 1
                self._bar.update()
            else:
                yield row.id, crystal


def _in_parallel(
    crystals: Iterator[tuple[str, Crystal]], describer: DescriberName, timeout: float, jobs: int, backend: Backend
) -> Iterator[Description]:
    """Rows as they are finished. On this machine a thread holds each describing process."""
    from joblib import Parallel, delayed

    where = {"backend": "threading"} if backend == "local" else {}
    work = delayed(describe_crystal)
    rows: Iterator[Description] = Parallel(jobs, return_as="generator_unordered", **where)(
        work(identifier, crystal, describer, timeout) for identifier, crystal in crystals
    )
    return rows


@contextmanager
def _workers(backend: Backend, scheduler: str | None) -> Iterator[None]:
    """The cluster to work on, or the processes of this machine, which are ended with the work."""
    if backend == "local":
        try:
            yield
        finally:
            end_processes()
        return
    try:
        from distributed import Client
    except ImportError:
        raise MissingDependencyError(
            "backend dask needs the package distributed, which is not installed: pip install 'crysmm[dask]'"
        ) from None
    from joblib import parallel_config

    try:
        client = Client(scheduler, timeout=SECONDS_TO_CONNECT)
    except OSError as error:
        raise InputError(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client, parallel_config(backend="dask"):
        yield


def _check_describer(output: Path, rows: Iterable[Description], describer: DescriberName) -> None:
    """Texts of two describers are not to be mixed, but for those that JARVIS writes in the other's place."""
    for row in rows:
        if row.text is not None and row.describer != describer and row.reason is None:
            raise InputError(
                f"{output} holds descriptions by {row.describer}, and those by {describer} are asked for; "
                "name another --output"
            )


def _finish(output: Path, todo: _Todo) -> Summary:
    """Put the rows in the order of the input, those of other inputs after them; and count."""
    rows = read_descriptions(output)
    ours = {identifier: rows.pop(identifier) for identifier in todo.ids}
    write_descriptions(output, [*ours.values(), *rows.values()])
    texts = [row for row in ours.values() if row.text is not None]
    return Summary(
        described=[row for row in texts if row.reason is None],
        replaced=[row for row in texts if row.reason is not None],
        failed=[row for row in ours.values() if row.text is None],
        skipped=todo.skipped,
        n_kept=todo.n_kept,
    )
