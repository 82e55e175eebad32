"""``crysmm check``: everything is read, nothing is trained, and what was found is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from textwrap import wrap
from typing import Any

import numpy as np

from crysmm.config import TrainingConfig
from crysmm.data import duplicates
from crysmm.data.estimate import estimated_memory, estimated_seconds, in_bytes, memory_limit, oversized_rows
from crysmm.data.split import make_split
from crysmm.data.store import Store, build_store
from crysmm.device import resolve_device
from crysmm.elements import elements_in
from crysmm.errors import InputError
from crysmm.io.folder import FolderTable
from crysmm.io.inputs import open_input
from crysmm.io.site_species import FORMULA_CONTRADICTS
from crysmm.io.source import ReadingNote, SkippedRow

SHOWN = 20  # lines of one kind on the screen


@dataclass(frozen=True)
class TargetSummary:
    """One target over all readable rows, in the units of the file.

    ``mae_of_mean`` is the error of predicting the mean for every crystal: what a model has to beat.
    """

    name: str
    minimum: float
    maximum: float
    mean: float
    mae_of_mean: float


@dataclass(frozen=True)
class Costs:
    """What the data and one epoch of training take; memory in bytes, for batches as the settings make them."""

    disk: int
    mean_batch_memory: float
    largest_batch_memory: float
    memory_limit: int
    epoch_seconds: float


@dataclass(frozen=True)
class CheckReport:
    """What was found in an input.

    Args:
        input: what was checked.
        n_readable: rows that can be used.
        skipped: rows that cannot, with the reasons.
        oversized: crystals too large for the memory, likewise.
        duplicates: groups of ids whose structures are the same.
        split_problem: why the data cannot be split as asked; empty where they can.
        split: rows in each split.
        notes: on how crystals were read; not counted as a fault.
        n_formulas: crystals whose file gives a chemical formula, with which the atoms agree.
        unnamed_files: structure files in the folder that no row names; not counted as a fault.
        elements: number of crystals that hold each element.
        targets: each target's range.
        classes: rows of each class; empty unless classes are learned.
        graph: mean and largest numbers of atoms, bonds and triplets.
        costs: estimates.
    """

    input: str
    n_readable: int
    skipped: list[SkippedRow]
    oversized: list[SkippedRow]
    duplicates: list[list[str]]
    split_problem: str
    split: dict[str, int]
    notes: list[ReadingNote]
    n_formulas: int
    unnamed_files: list[str]
    elements: dict[str, int]
    targets: list[TargetSummary]
    classes: dict[str, int]
    graph: dict[str, tuple[float, int]]
    costs: Costs

    @property
    def findings(self) -> list[str]:
        """One line for each kind of fault."""
        kinds = {
            "rows that cannot be used": len(self.skipped),
            "crystals too large for the memory": len(self.oversized),
            "groups of rows with the same structure": len(self.duplicates),
        }
        lines = [f"{number} {kind}" for kind, number in kinds.items() if number]
        if self.split_problem:
            lines.append(self.split_problem)
        if self.costs.mean_batch_memory > self.costs.memory_limit:
            lines.append("a batch does not fit in memory: lower batch_size, or set max_triplets")
        return lines

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {**asdict(self), "findings": self.findings, "clean": self.clean}

    def text(self) -> str:
        """Everything, for the screen; long lists are cut."""
        return "\n".join(_lines(self))


def check_input(config: TrainingConfig) -> CheckReport:
    """Read the input of a run as training would, and report on it.

    What is read goes to the cache, where training finds it.

    Raises:
        InputError: no input is named, or nothing in it can be used.
    """
    if config.root_dir is None:
        raise InputError("no input to check; name a folder or a file with root_dir")
    source = open_input(config, records=None)
    store = build_store(
        source, config.graph_settings(), cache_dir=config.cache_dir, jobs=config.jobs, progress=config.progress
    )
    device = resolve_device(config.device)
    limit, merge = memory_limit(device), config.merges_equivalent(device.type)
    oversized = oversized_rows(store, config.model, limit, merge=merge)
    groups = duplicates.find_duplicates(store.formulas, store.crystal, progress=config.progress)
    split, problem = _try_split(config, store)
    return CheckReport(
        input=str(config.root_dir),
        n_readable=len(store),
        skipped=store.skipped,
        oversized=[SkippedRow(store.ids[row], store.files[row], reason) for row, reason in oversized.items()],
        duplicates=[[store.ids[row] for row in group] for group in groups],
        split_problem=problem,
        split=split,
        notes=store.notes,
        n_formulas=store.n_formulas,
        unnamed_files=source.unnamed_files() if isinstance(source, FolderTable) else [],
        elements=_count_elements(store),
        targets=[_summarize(*column) for column in zip(store.target_names, store.targets.T, strict=True)],
        classes=_count_classes(config, store),
        graph={
            name: (float(numbers.mean()), int(numbers.max()))
            for name, numbers in (("atoms", store.n_atoms), ("bonds", store.n_edges), ("triplets", store.n_triplets))
        },
        costs=_estimate(config, store, split.get("train", len(store)), limit, merge),
    )


def _try_split(config: TrainingConfig, store: Store) -> tuple[dict[str, int], str]:
    try:
        split = make_split(config, store.ids, store.formulas)
    except InputError as error:
        return {}, str(error)
    return {"train": len(split.train), "val": len(split.val), "test": len(split.test)}, ""


def _count_elements(store: Store) -> dict[str, int]:
    """Number of crystals that hold each element, the most frequent first."""
    counts: Counter[str] = Counter()
    for formula in store.formulas:
        counts.update(elements_in([formula]))
    return dict(counts.most_common())


def _summarize(name: str, values: np.ndarray) -> TargetSummary:
    mean = float(values.mean())
    return TargetSummary(name, float(values.min()), float(values.max()), mean, float(np.abs(values - mean).mean()))


def _count_classes(config: TrainingConfig, store: Store) -> dict[str, int]:
    if not config.is_classification:
        return {}
    values = store.targets[:, 0]
    if config.classification_threshold is not None:
        values = (values > config.classification_threshold).astype(float)
    names, counts = np.unique(values, return_counts=True)
    return {f"{name:g}": int(count) for name, count in zip(names, counts, strict=True)}


def _estimate(config: TrainingConfig, store: Store, n_train: int, limit: int, merge: bool) -> Costs:
    batch = min(config.batch_size, n_train)
    sizes = np.stack(store.sizes(merge=merge), axis=1)
    largest = np.argsort(sizes[:, 1])[-batch:]

    def memory(rows: np.ndarray) -> float:
        """Of a batch of crystals like these, or of the part of it that ``max_triplets`` lets through."""
        triplets = batch * store.n_triplets[rows].mean()
        part = min(1.0, (config.max_triplets or np.inf) / max(triplets, 1))
        return estimated_memory(config.model, *(part * batch * sizes[rows].mean(axis=0)))

    return Costs(
        disk=sum(file.stat().st_size for file in store.path.iterdir()),
        mean_batch_memory=memory(np.arange(len(store))),
        largest_batch_memory=memory(largest),
        memory_limit=limit,
        epoch_seconds=estimated_seconds(config.model, *sizes.sum(axis=0)) * n_train / len(store),
    )


def _lines(report: CheckReport) -> Iterator[str]:
    yield f"{report.input}: {report.n_readable} crystals can be used, {len(report.skipped)} rows cannot"
    yield from _rows("Rows that cannot be used", report.skipped)
    yield from _rows("Crystals too large for the memory", report.oversized)
    if report.duplicates:
        yield (
            f"Same structure (distances up to {duplicates.SEARCH_RADIUS:g} Angstrom agree within "
            f"{duplicates.TOLERANCE} Angstrom): {len(report.duplicates)} groups"
        )
        yield from _some(" = ".join(group) for group in report.duplicates)
    if report.notes:
        yield f"Read, with a note: {len(report.notes)}"
        yield from _some(f"{note.id} in {note.file}: {note.note}" for note in report.notes)
    contradicting = sum(row.reason.startswith(FORMULA_CONTRADICTS) for row in report.skipped)
    if report.n_formulas or contradicting:
        yield (
            f"Chemical formulas in the files: {report.n_formulas} agree with the atoms, {contradicting} contradict "
            f"them, {report.n_readable - report.n_formulas} readable files give none"
        )
    if report.unnamed_files:
        yield f"Files that no row names, not used: {len(report.unnamed_files)}"
        yield from _some(report.unnamed_files)
    yield f"Elements: {len(report.elements)}, with the number of crystals that hold each"
    coverage = ", ".join(f"{symbol} {count}" for symbol, count in report.elements.items())
    yield from wrap(coverage, 100, initial_indent="  ", subsequent_indent="  ")
    for target in report.targets:
        yield f"Target {target.name}: {target.minimum:g} to {target.maximum:g}, mean {target.mean:.6g}"
        yield f"  predicting the mean for every crystal has an MAE of {target.mae_of_mean:.6g}"
    if report.classes:
        yield "Classes: " + ", ".join(f"{name} ({count} crystals)" for name, count in report.classes.items())
    yield "A crystal has " + ", ".join(
        f"{mean:.1f} {name} (at most {most})" for name, (mean, most) in report.graph.items()
    )
    if report.split:
        yield "Split: " + ", ".join(f"{count} {name}" for name, count in report.split.items())
    costs = report.costs
    yield f"Disk: {in_bytes(costs.disk)} of stored graphs"
    yield (
        f"Memory: about {in_bytes(costs.mean_batch_memory)} a batch, {in_bytes(costs.largest_batch_memory)} for the "
        f"largest crystals together; there are {in_bytes(costs.memory_limit)}"
    )
    yield f"Time: about {costs.epoch_seconds:.2g} s an epoch on two CPU cores, far less on a GPU"
    yield "Found: " + "; ".join(report.findings) if report.findings else "Nothing wrong was found."


def _rows(title: str, rows: Sequence[SkippedRow]) -> Iterator[str]:
    if rows:
        yield f"{title}: {len(rows)}"
        yield from _some(f"{row.id or '(no id)'} in {row.file}: {row.reason}" for row in rows)


def _some(lines: Iterable[str]) -> Iterator[str]:
    """The first of some lines, indented, and how many more there are."""
    remaining = iter(lines)
    yield from (f"  {line}" for line in islice(remaining, SHOWN))
    if n_more := sum(1 for _ in remaining):
        yield f"  ... and {n_more} more"
