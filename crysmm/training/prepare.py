"""Preparation of a run's data: reading, splitting and batching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.atom_rows import AtomRows
from crysmm.data.estimate import memory_limit, oversized_rows
from crysmm.data.loader import BatchSampler, make_loader
from crysmm.data.scaler import TargetScaler
from crysmm.data.split import Split, make_split
from crysmm.data.store import Store, build_store
from crysmm.data.units import units_of
from crysmm.io.inputs import open_input
from crysmm.io.source import SkippedRow, strict_error
from crysmm.processes import Processes
from crysmm.runs.data import RunData, TrainingData

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


def prepare_data(
    config: RunConfig,
    records: Sequence[Mapping[str, Any]] | None,
    processes: Processes,
    *,
    symprec: float | None = None,
) -> RunData:
    """Read, check and split the structures.

    Args:
        config: Settings of the run.
        records: Rows of the input in place of ``config.root_dir``.
        processes: Processes of the run, each of which gets the data.
        symprec: Tolerance of space groups in Angstrom; None does not determine them.

    Raises:
        InputError: No structure can be read, or the split does not fit them.
    """
    store = processes.first_before_others(lambda: read_store(config, records, symprec=symprec))
    limit = memory_limit(processes.device)
    return processes.on_first(lambda: RunData(store, *_split(store, config, limit)))


def read_store(
    config: RunConfig, records: Sequence[Mapping[str, Any]] | None, *, symprec: float | None = None
) -> Store:
    """Read the structures as graphs, or open their store in the cache; for the arguments see :func:`prepare_data`."""
    return build_store(
        open_input(config, records),
        config.graph_settings(),
        symprec=symprec,
        cache_dir=config.cache_dir,
        jobs=config.jobs,
        strict=config.strict,
        progress=config.progress,
    )


def prepare_training(
    config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None, processes: Processes
) -> TrainingData:
    """Read, check and split the structures, and fit the target scaler to the training split."""
    data = prepare_data(config, records, processes)
    scaler, units = fit_scaler(config, data, processes), units_of(config, data.store.target_names)
    return TrainingData(data.store, data.skipped, data.split, scaler, units)


def fit_scaler(config: TrainingConfig, data: RunData, processes: Processes) -> TargetScaler:
    """Fit the target scaler to the training split."""
    return processes.on_first(lambda: TargetScaler.fit(data.store.targets, data.split.train, config))


def _split(store: Store, config: RunConfig, memory: int) -> tuple[list[SkippedRow], Split]:
    """Return the rows that are not used, and the split of the others."""
    oversized = oversized_rows(store, config.model, memory, merge=config.merges_equivalent)
    too_large = [SkippedRow(store.ids[row], store.files[row], reason) for row, reason in oversized.items()]
    if too_large and config.strict:
        raise strict_error(too_large[0])
    used = [row for row in range(len(store)) if row not in oversized]
    skipped = [*store.skipped, *too_large]
    split = make_split(
        config,
        [store.ids[row] for row in used],
        [store.formulas[row] for row in used],
        {row.id: row.reason for row in [*skipped, *store.unlabeled]},
    )
    split = Split(*([used[index] for index in part] for part in (split.train, split.val, split.test)))
    return skipped, split


def sampler_for(
    data: RunData, split: str, config: RunConfig, processes: Processes, *, shuffled: bool = False
) -> BatchSampler:
    """Create the sampler of this process for a split, in order or shuffled in every epoch."""
    rows = data.rows(split)
    return BatchSampler(
        rows,
        data.store.n_triplets[rows],
        config.batch_size,
        config.max_triplets,
        seed=config.random_seed if shuffled else None,
        rank=processes.rank,
        world_size=processes.count,
    )


def loader_for(
    data: RunData,
    sampler: BatchSampler,
    config: RunConfig,
    processes: Processes,
    teacher_features: AtomRows | None = None,
) -> DataLoader[Any]:
    """Create the loader of a sampler's batches, with all that the network reads and a teacher's embeddings if given."""
    on_gpu = processes.device.type == "cuda"
    return make_loader(
        data.store,
        sampler,
        teacher_features=teacher_features,
        texts=None if data.texts is None else data.texts.values,
        potential_features=data.potential_features,
        merge=config.merges_equivalent,
        num_workers=config.num_workers,
        pin_memory=config.pin_memory and on_gpu,
    )
