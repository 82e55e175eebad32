"""Building the Arrow file of a store: structures are read and their edges found in parallel.

Nothing here imports torch, so worker processes start fast.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.data.space_groups import find_space_group
from crysmm.errors import StructureError, UnlabeledError
from crysmm.graphs.equivalence import Equivalence, find_equivalence
from crysmm.graphs.neighbors import EdgeList, find_edges
from crysmm.io.source import ReadingNote, Row, SkippedRow, Source, StrictError, UnlabeledRow

if TYPE_CHECKING:
    import pyarrow

    from crysmm.io.source import Record

ROWS_PER_TASK = 64  # enough to hide the cost of reaching a worker, few enough to stop quickly
TASKS_AHEAD = 3
ROWS_WITHOUT_WORKERS = 500  # reading this many takes about as long as starting workers
SPACE_GROUP = "space_group"  # column of stores built with symprec

Given = TypeVar("Given")
Made = TypeVar("Made")


class GraphedRecord(NamedTuple):
    """Record with the edges of its graph, their equivalence classes and, if requested, its space group.

    ``potential_features`` are those of its atoms by a potential, ``[n_atoms, width]``, for models that read them.
    """

    record: Record
    edges: EdgeList
    classes: Equivalence
    space_group: int | None = None
    potential_features: np.ndarray | None = None


def graph_row(
    row: Row | SkippedRow, settings: GraphSettings, symprec: float | None = None
) -> GraphedRecord | SkippedRow:
    """Read one row and find its edges and, with ``symprec``, its space group; return a skipped row if that fails."""
    if isinstance(row, SkippedRow):
        return row
    try:
        record = row.read()
        edges = find_edges(record.crystal, settings)
        space_group = None if symprec is None else find_space_group(record.crystal, symprec)
        return GraphedRecord(record, edges, find_equivalence(record.crystal, edges, settings), space_group)
    except UnlabeledError as error:
        return UnlabeledRow(row.id, row.file, str(error))
    except StructureError as error:
        return SkippedRow(row.id, row.file, str(error))


def graph_rows(
    rows: list[Row | SkippedRow], settings: GraphSettings, symprec: float | None
) -> list[GraphedRecord | SkippedRow]:
    """Apply :func:`graph_row` to several rows."""
    return [graph_row(row, settings, symprec) for row in rows]


def in_parallel(
    source: Source,
    settings: GraphSettings,
    jobs: int | None,
    symprec: float | None = None,
    rows: Iterable[Row | SkippedRow] | None = None,
) -> Iterator[GraphedRecord | SkippedRow]:
    """Yield the rows of a source, graphed by worker processes, in order.

    Args:
        source: Source of the rows.
        settings: Graph settings.
        jobs: Number of processes; by default one per core, or this process alone for few rows.
        symprec: Tolerance for determining space groups, Angstrom; None to skip them.
        rows: Rows of the source to read; by default all.
    """
    if source.n_rows is not None and source.n_rows <= (ROWS_PER_TASK if jobs else ROWS_WITHOUT_WORKERS):
        jobs = 1
    return map_in_order(
        partial(graph_rows, settings=settings, symprec=symprec), source.rows() if rows is None else rows, jobs
    )


def map_in_order(work: Callable[[list[Given]], list[Made]], items: Iterable[Given], jobs: int | None) -> Iterator[Made]:
    """Map items through worker processes, ``ROWS_PER_TASK`` at a time, in order.

    Args:
        work: Function that returns one result per item.
        items: Items of any number.
        jobs: Number of processes, by default one per core; 1 uses this process.
    """
    remaining = iter(items)
    tasks = iter(lambda: list(islice(remaining, ROWS_PER_TASK)), [])
    for made in map_tasks(work, tasks, jobs):
        yield from made


def map_tasks(work: Callable[[Given], Made], tasks: Iterable[Given], jobs: int | None) -> Iterator[Made]:
    """Map tasks through worker processes, in order.

    Each worker is at most ``TASKS_AHEAD`` tasks ahead of the consumer (joblib's own generators run ahead without
    limit), so a source of any length needs little memory.

    Args:
        work: Function of a task.
        tasks: Tasks of any number.
        jobs: Number of processes, by default one per core; 1 uses this process.
    """
    if jobs is None:
        from joblib import cpu_count

        jobs = int(cpu_count())
    if jobs == 1:  # joblib takes time to import
        yield from map(work, tasks)
        return
    from joblib.externals.loky import Future, get_reusable_executor

    executor = get_reusable_executor(max_workers=jobs, initializer=_end_with, initargs=(os.getpid(),))
    waiting: deque[Future] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(work, task))
            if len(waiting) >= TASKS_AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _end_with(parent: int) -> None:
    """Make this worker end soon after the process that started it.

    A worker whose parent was killed would wait forever for somebody to read its results.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def count_triplets(n_atoms: int, edges: EdgeList) -> int:
    """Count the pairs (incoming edge, outgoing edge) at all atoms: the edges of the complete line graph."""
    entering = np.bincount(edges.destination, minlength=n_atoms)
    leaving = np.bincount(edges.source, minlength=n_atoms)
    return int(entering @ leaving)


def to_table(records: list[GraphedRecord], with_space_groups: bool) -> pyarrow.Table:
    """Convert crystals to an Arrow table, one row per crystal with its arrays flattened."""
    import pyarrow as pa

    crystals = [graphed.record.crystal for graphed in records]
    edges = [graphed.edges for graphed in records]
    pairs = list(zip(crystals, edges, strict=True))
    merged = [graphed.classes.merged_sizes(graphed.edges) for graphed in records]
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        "id": (pa.string(), [graphed.record.id for graphed in records]),
        "file": (pa.string(), [graphed.record.file for graphed in records]),
        "formula": (pa.string(), [crystal.formula for crystal in crystals]),
        "targets": (pa.list_(pa.float64()), [list(graphed.record.targets) for graphed in records]),
        "n_atoms": (pa.int32(), [len(crystal) for crystal in crystals]),
        "n_edges": (pa.int32(), [len(edge_list) for edge_list in edges]),
        "n_triplets": (pa.int64(), [count_triplets(len(crystal), edge_list) for crystal, edge_list in pairs]),
        "n_merged_edges": (pa.int32(), [n_edges for n_edges, _ in merged]),
        "n_merged_triplets": (pa.int64(), [n_triplets for _, n_triplets in merged]),
        "lattice": (pa.list_(pa.float64()), [crystal.lattice.ravel() for crystal in crystals]),
        "atomic_numbers": (pa.list_(pa.uint8()), [crystal.atomic_numbers for crystal in crystals]),
        "frac_coords": (pa.list_(pa.float64()), [crystal.frac_coords.ravel() for crystal in crystals]),
        "in_degree": (pa.list_(pa.int32()), [np.bincount(e.destination, minlength=len(c)) for c, e in pairs]),
        "source": (pa.list_(pa.int32()), [edge_list.source for edge_list in edges]),
        "image": (pa.list_(pa.int8()), [edge_list.image.ravel() for edge_list in edges]),
        "representative": (pa.list_(pa.int32()), [graphed.classes.representative for graphed in records]),
        "edge_class": (pa.list_(pa.int32()), [graphed.classes.edge_class for graphed in records]),
    }
    if with_space_groups:
        columns[SPACE_GROUP] = (pa.uint8(), [graphed.space_group for graphed in records])
    return pa.table({name: pa.array(values, type=kind) for name, (kind, values) in columns.items()})


@dataclass
class ReadingSummary:
    """Counts, skipped rows and notes from reading a source.

    Args:
        n_crystals: Number of usable rows.
        n_formulas: Number of crystals whose file gives a chemical formula, with which the atoms agree.
        skipped: Rows that cannot be used.
        unlabeled: Rows without any of the requested targets.
        notes: Notes on how crystals were read.
    """

    n_crystals: int = 0
    n_formulas: int = 0
    skipped: list[SkippedRow] = field(default_factory=list)
    unlabeled: list[UnlabeledRow] = field(default_factory=list)
    notes: list[ReadingNote] = field(default_factory=list)


def write_arrow(
    results: Iterable[GraphedRecord | SkippedRow], path: Path, strict: bool, with_space_groups: bool
) -> ReadingSummary:
    """Write the crystals of a source to an Arrow file and summarize the reading.

    Raises:
        InputError: ``strict`` is set and a row cannot be used.
    """
    from datasets.arrow_writer import ArrowWriter

    summary = ReadingSummary()
    remaining = iter(results)
    with ArrowWriter(path=str(path), schema=to_table([], with_space_groups).schema) as writer:
        while some := list(islice(remaining, ROWS_PER_TASK)):
            graphed = []
            for result in some:
                if isinstance(result, GraphedRecord):
                    graphed.append(result)
                elif isinstance(result, UnlabeledRow):
                    summary.unlabeled.append(result)
                elif strict:
                    raise StrictError(result)
                else:
                    summary.skipped.append(result)
            records = [result.record for result in graphed]
            summary.n_crystals += len(records)
            summary.n_formulas += sum(record.has_formula for record in records)
            summary.notes += [ReadingNote(record.id, record.file, note) for record in records for note in record.notes]
            writer.write_table(to_table(graphed, with_space_groups))
        writer.finalize()
    return summary
