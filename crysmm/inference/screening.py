"""Screening: any number of structures predicted into a table, in shards that survive a kill.

A shard is a fixed number of successive rows of the input. Batches never reach over the end of a shard, so that its
numbers are the same whenever, wherever and after whatever other shard it is predicted. Each is written to a folder
beside the table as soon as it is complete; they are joined when all are there. A run that was stopped predicts the
missing ones. An input of one shard needs no folder.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, islice
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from crysmm import __version__
from crysmm.cluster import map_on_cluster
from crysmm.data.building import graph_rows, in_parallel
from crysmm.engines.memory import keep_freed_memory
from crysmm.errors import InputError, first_of
from crysmm.files import LOCK, alone_in, replacing, write_json_atomic
from crysmm.inference import COVERAGE
from crysmm.inference.model_files import refuse_table, unfinished_folder
from crysmm.inference.prediction_table import PredictionSummary, places_of_numbers, write_table
from crysmm.inference.predictor import Loading, Predictor, Result, as_list, load
from crysmm.inference.selection import Selection
from crysmm.io.files_source import FileRow
from crysmm.io.inputs import StructuresSource, open_source
from crysmm.io.source import ReadingOptions, Row, SkippedRow, Source
from crysmm.io.table import RecordsTable
from crysmm.progress import progress_bar
from crysmm.zoo import resolve_group

ROWS_PER_SHARD = 1024  # half a second of work for CGCNN on two cores, minutes for models that read texts
ORIGIN_FILE = "origin.json"  # what the shards in a folder were predicted from
OF_A_FOLDER = re.compile(rf"{LOCK}|(origin|\d{{6,}})\.json|\.(origin|\d{{6,}})\.json\.\d+\.tmp", re.ASCII)
"""Names of files in a folder of shards, with those that a killed process has left half-written."""
Rows = list[Row | SkippedRow]


@dataclass(frozen=True)
class Shard:
    """Predictions for successive rows of an input: the lines of the table that are kept, and a summary of all."""

    lines: list[list[str]]
    summary: PredictionSummary


@dataclass(frozen=True)
class ShardMaker:
    """Settings with which the rows of a shard become lines of the table.

    Args:
        batch_size: Number of structures in a batch; smaller if they are large.
        coverage: Fraction of the targets inside the intervals, between 0 and 1.
        jobs: Number of processes that read or describe structures; by default one per core.
        selection: Lines to keep.
    """

    batch_size: int
    coverage: float
    jobs: int | None
    selection: Selection

    def make(
        self, predictor: Predictor, results: Iterable[Result], advance: Callable[[int], object] | None = None
    ) -> Shard:
        """Predict the rows of a shard.

        Args:
            predictor: The model.
            results: Rows, read with their graphs, or skipped.
            advance: Called with the number of rows after each batch.
        """
        lines: list[list[str]] = []
        summary, undescribed = PredictionSummary(), dict[str, str]()
        assessed = predictor.assess_rows(
            results, batch_size=self.batch_size, coverage=self.coverage, jobs=self.jobs, undescribed=undescribed
        )
        for batch, assessment in assessed:
            lines.extend(predictor.cells(batch, assessment))
            summary.count(batch, assessment, predictor.elements, undescribed)
            undescribed.clear()
            if advance is not None:
                advance(len(batch))
        return Shard(list(self.selection.choose(lines)), summary)


class ShardFolder:
    """Shards by number, each in a file that is complete or absent.

    Args:
        folder: Folder of the shards, new or from an earlier run.
        origin: What the shards depend on, by names for the user.

    Raises:
        InputError: The folder has shards of another origin.
    """

    _SHARD = TypeAdapter(Shard)

    def __init__(self, folder: Path, origin: dict[str, Any]):
        self._folder, self._origin = folder, origin
        self._numbers = {int(path.stem) for path in folder.glob("*.json") if path.name != ORIGIN_FILE}
        if self._numbers or (folder / ORIGIN_FILE).exists():
            self._refuse_other_origin()

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Shard:
        """Read a shard.

        Raises:
            InputError: The file is missing or damaged.
        """
        path = self._path(number)
        try:
            return self._SHARD.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{path} is missing or damaged; remove it, and repeat the command to predict its structures again"
            ) from error

    def __setitem__(self, number: int, shard: Shard) -> None:
        if not self._numbers:
            write_json_atomic(self._folder / ORIGIN_FILE, self._origin)
        with replacing(self._path(number)) as temporary:
            temporary.write_bytes(self._SHARD.dump_json(shard))
        self._numbers.add(number)

    def remove(self) -> None:
        """Remove the files, and the folder unless something else has come into it."""
        for path in self._folder.iterdir():
            if OF_A_FOLDER.fullmatch(path.name):
                path.unlink()
        with suppress(OSError):
            self._folder.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}.json"

    def _refuse_other_origin(self) -> None:
        try:
            before = json.loads((self._folder / ORIGIN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            before = None
        if not isinstance(before, dict):
            before = {}
        others = [name for name, value in self._origin.items() if before.get(name) != value]
        if others:
            raise InputError(
                f"{self._folder} holds unfinished predictions with another {', '.join(others)}; repeat the earlier "
                "command to finish them, remove this folder to start again, or name another output"
            )


@contextmanager
def open_shards(folder: Path, origin: dict[str, Any]) -> Iterator[ShardFolder]:
    """Open a folder of shards for this process alone, and remove it after success, and if it got no shard.

    Raises:
        InputError: The folder has shards of another origin or files of others, or another process has opened it.
    """
    others = sorted(path.name for path in folder.glob("*") if not OF_A_FOLDER.fullmatch(path.name))
    if others:
        raise InputError(
            f"{folder} is to hold unfinished predictions, and holds other files ({first_of(others)}); move it away, or "
            "name another output"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        shards = ShardFolder(folder, origin)
        is_joined = False
        try:
            yield shards
            is_joined = True
        finally:
            if is_joined or not len(shards):
                shards.remove()


def screen(
    predictor: Predictor | Path | str,
    source: Any,
    output: Path | str,
    *,
    keep: Sequence[str] | str = (),
    batch_size: int = 64,
    coverage: float = COVERAGE,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> PredictionSummary:
    """Predict every row of an input into a table, in its order, with little memory for any number of rows.

    The table appears when it is complete. Until then, the folder ``OUTPUT.unfinished`` beside it holds the predictions
    of an input of more than 1,024 rows: called again with the same arguments after a stop, this predicts what is
    missing, and writes the same table.

    Args:
        predictor: Model of :func:`crysmm.load`, or the folder or name to load it by.
        source: Rows of structures, the path of a folder or table with them, a ``DataFrame`` of rows, or structures as
            :meth:`Predictor.predict` accepts them; targets are not needed.
        output: File to write, or to replace, with the columns of :attr:`Predictor.columns`: Parquet if its name ends
            in ``.parquet``, else CSV.
        keep: Rules for the lines to keep, such as ``band_gap between 1 and 2``, ``spread < 0.1`` or ``lowest 100
            formation_energy``; by default all. A structure that is not predicted is only counted then.
        batch_size: Number of structures in a batch; smaller if they are large.
        coverage: Fraction of the targets inside the intervals, between 0 and 1.
        jobs: Number of processes that read structures; by default one per core, or this process alone if there are few
            rows.
        scheduler: Address of the scheduler of a Dask cluster, whose workers read and predict shards; they need the
            model, and files of structures, under the same paths. None to use this machine.
        progress: Show a progress bar.

    Raises:
        InputError: The source as a whole is broken, the file cannot be written, a rule is none, the coverage is not
            between 0 and 1, the folder holds predictions of another model or input, or with other settings, or the
            cluster does not answer or has another model.
        CrysmmError: Workers of the cluster die.
        MissingDependencyError: Dask is not installed.
    """
    output = Path(output)
    refuse_table(output)
    if isinstance(predictor, str | PathLike):
        predictor = load(predictor)
    if isinstance(source, str | PathLike):
        source = open_source(source, needs_targets=False)
    elif getattr(source, "ndim", None) == 2:  # a DataFrame, which has ids as well
        source = RecordsTable(source, ReadingOptions(needs_targets=False))
    elif not isinstance(source, Source):
        source = StructuresSource(as_list(source))
    columns = predictor.columns
    selection = Selection.parse([keep] if isinstance(keep, str) else keep).of_table(
        places_of_numbers(columns, predictor.target_names)
    )
    maker = ShardMaker(batch_size, coverage, jobs, selection)
    folder = unfinished_folder(output)
    is_small = source.n_rows is not None and source.n_rows <= ROWS_PER_SHARD and not folder.exists()
    opened: AbstractContextManager[dict[int, Shard] | ShardFolder] = (
        nullcontext({}) if is_small else open_shards(folder, _origin(predictor, source, maker))
    )
    with opened as shards:
        n_before = ROWS_PER_SHARD * len(shards)
        bar = progress_bar("predicting", source.n_rows, "structures", shown=progress, initial=n_before)
        todo = ((number, rows) for number, rows in enumerate(_shards_of(source)) if number not in shards)
        with keep_freed_memory(predictor.device), bar:
            if scheduler is None:
                made = _made_here(predictor, source, maker, todo, bar.update)
            else:
                made = _made_by_cluster(scheduler, predictor, maker, todo, bar.update)
            for number, shard in made:
                shards[number] = shard
        summary = PredictionSummary()

        def lines() -> Iterator[list[str]]:
            for number in range(len(shards)):
                shard = shards[number]
                summary.add(shard.summary)
                yield from shard.lines

        summary.n_kept = write_table(output, columns, selection.choose(lines()))
    return summary


def _shards_of(source: Source) -> Iterator[Rows]:
    """Yield the rows of a source, not read yet, shard by shard."""
    remaining = iter(source.rows())
    while rows := list(islice(remaining, ROWS_PER_SHARD)):
        yield rows


def _made_here(
    predictor: Predictor,
    source: Source,
    maker: ShardMaker,
    todo: Iterator[tuple[int, Rows]],
    advance: Callable[[int], object],
) -> Iterator[tuple[int, Shard]]:
    """Yield shards with their numbers, predicted by this process; the rows are read some tasks ahead, across shards."""
    begun: deque[tuple[int, int]] = deque()  # numbers of shards whose rows are being read, with the number of rows

    def rows() -> Iterator[Row | SkippedRow]:
        for number, shard in todo:
            begun.append((number, len(shard)))
            yield from shard

    results = in_parallel(source, predictor.model.settings, maker.jobs, rows=rows())
    for first in results:
        number, n_rows = begun.popleft()
        yield number, maker.make(predictor, chain([first], islice(results, n_rows - 1)), advance)


def _made_by_cluster(
    scheduler: str,
    predictor: Predictor,
    maker: ShardMaker,
    todo: Iterator[tuple[int, Rows]],
    advance: Callable[[int], object],
) -> Iterator[tuple[int, Shard]]:
    """Yield shards with their numbers, predicted by the workers of a cluster, in the order in which they are ready.

    Raises:
        InputError: The model was not loaded from a folder, or the cluster cannot be used.
    """
    if predictor.loading is None:
        raise InputError("a cluster needs a model from a folder: crysmm.load")
    (folder, *_), loading = resolve_group(predictor.loading.folder), predictor.loading
    if folder == Path(loading.folder):
        loading = loading._replace(folder=folder.resolve())
    work = partial(_make_elsewhere, loading, predictor.checksum, maker)
    tasks = ((number, [_with_absolute_path(row) for row in rows]) for number, rows in todo)
    for number, shard in map_on_cluster(scheduler, work, tasks):
        advance(shard.summary.n_rows)
        yield number, shard


def _with_absolute_path(row: Row | SkippedRow) -> Row | SkippedRow:
    """Return a row that means the same file in a process with another current folder."""
    return replace(row, path=row.path.absolute()) if isinstance(row, FileRow) else row


def _make_elsewhere(loading: Loading, checksum: str, maker: ShardMaker, task: tuple[int, Rows]) -> tuple[int, Shard]:
    """Read and predict the rows of a shard in a worker of a cluster.

    Raises:
        InputError: The worker has another model, or none of the files.
    """
    number, rows = task
    files = [row.path for row in rows if isinstance(row, FileRow)]
    if files and not any(path.exists() for path in files):
        raise InputError(
            f"a worker of the cluster cannot see {files[0]}; put the structures on a disk that all machines share, or "
            "into one JSONL file"
        )
    predictor = _loaded(loading, checksum)
    return number, maker.make(predictor, graph_rows(rows, predictor.model.settings, None))


@lru_cache(maxsize=1)
def _loaded(loading: Loading, checksum: str) -> Predictor:
    """Load a model, and check it, once per process.

    Raises:
        InputError: It is another one.
    """
    predictor = load(*loading)
    if predictor.checksum != checksum:
        raise InputError(f"a worker of the cluster has another model in {loading.folder}; copy this machine's there")
    return predictor


def _origin(predictor: Predictor, source: Source, maker: ShardMaker) -> dict[str, Any]:
    """Return what the numbers in a table depend on."""
    return {
        "model": predictor.checksum,
        "input": source.fingerprint(),
        "batch_size": maker.batch_size,
        "coverage": maker.coverage,
        "keep": repr(maker.selection),
        "precision": predictor.models[0].precision,
        "version of crysmm": __version__,
    }
