"""Report on an input for ``crysmm check``: everything is read, nothing is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from crysmm.config import TrainingConfig
from crysmm.data import duplicates
from crysmm.data.estimate import (
    BYTES_PER_SECOND,
    activations,
    estimated_memory,
    format_size,
    memory_limit,
)
from crysmm.data.store import Store, build_store
from crysmm.data.units import after_number, named, units_of
from crysmm.device import resolve_device
from crysmm.elements import elements_in
from crysmm.errors import InputError, count, first_of
from crysmm.graphs.distances import SEARCH_RADIUS
from crysmm.io.id_prop import FolderTable
from crysmm.io.inputs import open_input
from crysmm.io.site_species import FORMULA_CONTRADICTS
from crysmm.io.source import ReadingNote, SkippedRow
from crysmm.training.prepare import rows_too_large, split_others

SHOWN = 20  # lines of one kind on the screen
FAR = 20  # times the range of all others, farther than the values of any table that was looked at
FEWEST_VALUES = 10  # different ones, of which one may be called far


@dataclass(frozen=True)
class TargetSummary:
    """Range of one target over the readable rows that have it, in the units of the file.

    ``mae_of_mean`` is the error of predicting the mean for every crystal, which a model has to beat.
    """

    name: str
    n: int
    minimum: float
    maximum: float
    mean: float
    mae_of_mean: float
    unit: str | None


@dataclass(frozen=True)
class Costs:
    """Disk space of the data, memory of a batch and duration of an epoch, estimated for the settings; in bytes."""

    disk: int
    mean_batch_memory: float
    largest_batch_memory: float
    memory_limit: int
    epoch_seconds: float


@dataclass(frozen=True)
class CheckReport:
    """Report on an input.

    Args:
        input: Folder or file that was checked.
        n_readable: Number of rows that can be used.
        skipped: Rows that cannot be used, with the reasons.
        gaps: Numbers of rows that lack each target, as text; not counted as faults.
        oversized: Crystals too large for the memory, with the reasons.
        duplicates: Groups of ids with the same structure.
        split_problem: Reason why the data cannot be split as requested; empty if they can.
        split: Number of rows in each split.
        notes: Notes on how crystals were read; not counted as faults.
        n_formulas: Number of crystals whose file gives a chemical formula that agrees with the atoms.
        unnamed_files: Structure files in the folder that no row names; not counted as faults.
        elements: Number of crystals that contain each element, the most frequent first.
        targets: Range of each target.
        far_values: Values of targets that are far from all others, as text.
        classes: Number of rows of each class; empty for regression.
        graph: Mean and largest number of atoms, bonds and triplets per crystal.
        costs: Estimated costs of training.
    """

    input: str
    n_readable: int
    skipped: list[SkippedRow]
    gaps: list[str]
    oversized: list[SkippedRow]
    duplicates: list[list[str]]
    split_problem: str
    split: dict[str, int]
    notes: list[ReadingNote]
    n_formulas: int
    unnamed_files: list[str]
    elements: dict[str, int]
    targets: list[TargetSummary]
    far_values: list[str]
    classes: dict[str, int]
    graph: dict[str, tuple[float, int]]
    costs: Costs

    @property
    def findings(self) -> list[str]:
        """One line for each kind of fault."""
        kinds = {
            ("row", "that cannot be used"): len(self.skipped),
            ("crystal", "too large for the memory"): len(self.oversized),
            ("group", "of rows with the same structure"): len(self.duplicates),
        }
        lines = [f"{count(number, noun)} {kind}" for (noun, kind), number in kinds.items() if number]
        if self.split_problem:
            lines.append(self.split_problem)
        lines += [
            f"{target.name} is {target.minimum:g} for every crystal that has it, so that there is nothing to learn"
            for target in self.targets
            if target.minimum == target.maximum
        ]
        lines += self.far_values
        if self.costs.mean_batch_memory > self.costs.memory_limit:
            lines.append("a batch does not fit in memory: lower batch_size, or set max_triplets")
        return lines

    @property
    def clean(self) -> bool:
        """True if there are no findings."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report as plain data."""
        return {**asdict(self), "findings": self.findings, "clean": self.clean}

    def text(self) -> str:
        """Return the report for the screen, with at most ``SHOWN`` lines of one kind."""
        n_skipped = count(len(self.skipped), "row")
        lines = [f"{self.input}: {count(self.n_readable, 'crystal')} can be used, {n_skipped} cannot"]
        lines += _indented(self.gaps)
        for title, rows in (
            ("Rows that cannot be used", self.skipped),
            ("Crystals too large for the memory", self.oversized),
        ):
            if rows:
                lines.append(f"{title}: {len(rows)}")
                lines += _indented(f"{row.id or '(no id)'} in {row.file}: {row.reason}" for row in rows)
        if self.duplicates:
            lines.append(
                f"Same structure (distances up to {SEARCH_RADIUS:g} Angstrom agree within "
                f"{duplicates.TOLERANCE} Angstrom): {count(len(self.duplicates), 'group')}"
            )
            lines += _indented(" = ".join(group) for group in self.duplicates)
        if self.notes:
            lines.append(f"Read, with a note: {len(self.notes)}")
            lines += _indented(f"{note.id} in {note.file}: {note.note}" for note in self.notes)
        contradicting = sum(row.reason.startswith(FORMULA_CONTRADICTS) for row in self.skipped)
        if self.n_formulas or contradicting:
            lines.append(
                f"Chemical formulas in the files: {self.n_formulas} agree with the atoms, {contradicting} contradict "
                f"them, {self.n_readable - self.n_formulas} readable files give none"
            )
        if self.unnamed_files:
            lines.append(f"Files that no row names, not used: {len(self.unnamed_files)}")
            lines += _indented(self.unnamed_files)

        lines.append(f"Elements: {len(self.elements)}, with the number of crystals that contain each")
        coverage = ", ".join(f"{symbol} {number}" for symbol, number in self.elements.items())
        lines += wrap(coverage, 100, initial_indent="  ", subsequent_indent="  ")
        for target in self.targets:
            some = f" ({count(target.n, 'crystal')})" if target.n < self.n_readable else ""
            spread = f"{target.minimum:g} to {target.maximum:g}, mean {target.mean:.6g}"
            name, unit = named([target.name], [target.unit])[0], after_number(target.unit)
            lines.append(f"Target {name}{some}: {spread}")
            lines.append(f"  predicting the mean for every crystal has an MAE of {target.mae_of_mean:.6g}{unit}")
        if self.classes:
            counts = ", ".join(f"{name} ({count(number, 'crystal')})" for name, number in self.classes.items())
            lines.append(f"Classes: {counts}")
        sizes = ", ".join(f"{mean:.1f} {name} (at most {most})" for name, (mean, most) in self.graph.items())
        lines.append(f"Mean per crystal: {sizes}")
        if self.split:
            lines.append("Split: " + ", ".join(f"{number} {name}" for name, number in self.split.items()))

        costs = self.costs
        mean, largest, limit = map(
            format_size, (costs.mean_batch_memory, costs.largest_batch_memory, costs.memory_limit)
        )
        lines += [
            f"Disk: {format_size(costs.disk)} of stored graphs",
            f"Memory: about {mean} per batch, {largest} for a batch of the largest crystals; {limit} are available",
            f"Time: about {costs.epoch_seconds:.2g} s per epoch on two CPU cores, far less on a GPU",
            *([f"Found: {finding}" for finding in self.findings] or ["Nothing wrong was found."]),
        ]
        return "\n".join(lines)


def _indented(lines: Iterable[str]) -> list[str]:
    """Return the first ``SHOWN`` lines, indented, and the number of those left out."""
    listed = [f"  {line}" for line in lines]
    return listed[:SHOWN] + ([f"  ... and {len(listed) - SHOWN} more"] if len(listed) > SHOWN else [])


def check_input(config: TrainingConfig) -> CheckReport:
    """Read the input of a run as training would, and report on it.

    The graphs go to the cache, where training finds them.

    Args:
        config: Settings of the training; ``root_dir`` is the input.

    Raises:
        InputError: No input is named, or nothing in it can be used.
    """
    if config.root_dir is None:
        raise InputError("no input to check; name a folder or a file with root_dir")
    source = open_input(config, records=None)
    store = build_store(
        source, config.graph_settings(), cache_dir=config.cache_dir, jobs=config.jobs, progress=config.progress
    )
    device = resolve_device(config.device)
    oversized = rows_too_large(store, config, device)
    groups = duplicates.find_duplicates(store.formulas, store.crystals, progress=config.progress)
    sizes, problem = {}, ""
    try:
        split = split_others(store, config, oversized)
        sizes = {"train": len(split.train), "val": len(split.val), "test": len(split.test)}
    except InputError as error:
        problem = str(error)
    targets: list[TargetSummary] = []
    far_values: list[str] = []
    units = units_of(config, store.target_names)
    for name, column, unit in zip(store.target_names, store.targets.T, units, strict=True):
        values = column[~np.isnan(column)]
        if len(values):
            lowest, highest, mean = float(values.min()), float(values.max()), float(values.mean())
            deviation = float(np.abs(values - mean).mean())
            targets.append(TargetSummary(name, len(values), lowest, highest, mean, deviation, unit))
        if not config.is_classification:
            far_values += _far_values(name, column, store.ids)
    classes = {}
    if config.is_classification:
        values, threshold = store.targets[:, 0], config.classification_threshold
        names, counts = np.unique(values if threshold is None else (values > threshold) * 1.0, return_counts=True)
        classes = {f"{name:g}": int(number) for name, number in zip(names, counts, strict=True)}
    graph = {"atoms": store.n_atoms, "bonds": store.n_edges, "triplets": store.n_triplets}
    return CheckReport(
        input=str(config.root_dir),
        n_readable=len(store),
        skipped=store.skipped,
        gaps=store.gaps(),
        oversized=list(oversized.values()),
        duplicates=[[store.ids[row] for row in group] for group in groups],
        split_problem=problem,
        split=sizes,
        notes=store.notes,
        n_formulas=store.n_formulas,
        unnamed_files=source.unnamed_files() if isinstance(source, FolderTable) else [],
        elements=dict(Counter(symbol for formula in store.formulas for symbol in elements_in([formula])).most_common()),
        targets=targets,
        far_values=far_values,
        classes=classes,
        graph={name: (float(numbers.mean()), int(numbers.max())) for name, numbers in graph.items()},
        costs=_estimate_costs(config, store, sizes.get("train", len(store)), memory_limit(device)),
    )


def _far_values(name: str, column: np.ndarray, ids: Sequence[str]) -> Iterator[str]:
    """Yield a line for the lowest and for the highest value of a target if it is far from all others.

    Args:
        name: Name of the target.
        column: Its values, NaN where missing, ``[n_rows]``.
        ids: Ids of the rows.
    """
    values = np.unique(column[~np.isnan(column)])
    if len(values) < FEWEST_VALUES:
        return
    for value, others in ((values[0], values[1:]), (values[-1], values[:-1])):
        if np.ptp(values) > FAR * np.ptp(others):
            of = first_of([ids[row] for row in np.flatnonzero(column == value).tolist()])
            yield (
                f"{name} is {value:g} for {of}, and {others[0]:g} to {others[-1]:g} for all others; correct it, or "
                "leave it empty if it marks a missing value"
            )


def _estimate_costs(config: TrainingConfig, store: Store, n_train: int, limit: int) -> Costs:
    batch_size = min(config.batch_size, n_train)
    sizes = np.stack(store.sizes(merge=config.merges_equivalent), axis=1)  # edges and triplets of each crystal
    most_triplets = np.argsort(sizes[:, 1])[-batch_size:]
    memories = []
    for rows in (np.arange(len(store)), most_triplets):
        # Of a batch with more triplets than max_triplets, only a part is computed at once.
        triplets = batch_size * store.n_triplets[rows].mean()
        part = min(1.0, (config.max_triplets or np.inf) / max(triplets, 1))
        memories.append(estimated_memory(config.model, *(part * batch_size * sizes[rows].mean(axis=0))))
    return Costs(
        disk=sum(file.stat().st_size for file in store.path.iterdir()),
        mean_batch_memory=memories[0],
        largest_batch_memory=memories[1],
        memory_limit=limit,
        epoch_seconds=activations(config.model, *sizes.sum(axis=0)) / BYTES_PER_SECOND * n_train / len(store),
    )
