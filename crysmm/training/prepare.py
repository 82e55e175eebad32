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
from crysmm.errors import InputError
from crysmm.io.inputs import open_input
from crysmm.io.source import SkippedRow, StrictError
from crysmm.processes import Processes
from crysmm.runs.data import RunData, TrainingData
from crysmm.runs.run_folder import SPLITS

if TYPE_CHECKING:
    import torch
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
        InputError: No structure can be read, there is no bond in any, or the split does not fit them.
    """
    store = processes.first_before_others(lambda: read_store(config, records, symprec=symprec))
    if not store.n_edges.any():
        raise InputError(
            f"no atom has a neighbor within the cutoff of {store.settings.cutoff:g} Angstrom; give a larger --cutoff"
        )

    def split() -> RunData:
        oversized = rows_too_large(store, config, processes.device)
        if oversized and config.strict:
            raise StrictError(next(iter(oversized.values())))
        return RunData(store, [*store.skipped, *oversized.values()], split_others(store, config, oversized))

    return processes.on_first(split)


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


def rows_too_large(store: Store, config: RunConfig, device: torch.device) -> dict[int, SkippedRow]:
    """Return the rows of a store that cannot be trained on, each with the reason."""
    reasons = oversized_rows(store, config.model, memory_limit(device), merge=config.merges_equivalent)
    return {row: SkippedRow(store.ids[row], store.files[row], reason) for row, reason in reasons.items()}


def split_others(store: Store, config: RunConfig, left_out: Mapping[int, SkippedRow]) -> Split:
    """Split the rows of a store but for some that are left out.

    Raises:
        InputError: The split does not fit the others; the reason for a row that is left out is named.
    """
    used = [row for row in range(len(store)) if row not in left_out]
    ids, formulas = [store.ids[row] for row in used], [store.formulas[row] for row in used]
    reasons = {row.id: row.reason for row in [*store.skipped, *left_out.values(), *store.unlabeled]}
    split = make_split(config, ids, formulas, reasons)
    return Split(*([used[index] for index in split.rows(name)] for name in SPLITS))


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
