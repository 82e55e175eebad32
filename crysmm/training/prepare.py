"""Preparation of a run's data: reading, splitting and batching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.atom_embeddings import AtomEmbeddings
from crysmm.data.estimate import memory_limit, oversized_rows
from crysmm.data.loader import BatchSampler, make_loader
from crysmm.data.scaler import TargetScaler
from crysmm.data.split import Split, make_split
from crysmm.data.store import Store, build_store
from crysmm.errors import InputError
from crysmm.io.inputs import open_input
from crysmm.io.source import SkippedRow
from crysmm.runs.data import RunData, TrainingData
from crysmm.training.distributed import main_first, on_main

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch.utils.data import DataLoader


def prepare_data(
    config: RunConfig,
    records: Sequence[Mapping[str, Any]] | None,
    trainer: pl.Trainer,
    *,
    symprec: float | None = None,
) -> RunData:
    """Read, check and split the structures; the main process does it, the others are told.

    Args:
        config: the settings.
        records: in place of ``config.root_dir``.
        trainer: knows the processes.
        symprec: tolerance of the space groups to find, Angstrom; without one they are not looked for.

    Raises:
        InputError: nothing can be read, or it cannot be split as the settings ask.
    """

    def build() -> Store:
        return build_store(
            open_input(config, records),
            config.graph_settings(),
            symprec=symprec,
            cache_dir=config.cache_dir,
            jobs=config.jobs,
            strict=config.strict,
            progress=config.progress,
        )

    store = main_first(trainer, build)
    device = trainer.strategy.root_device
    limit, merge = memory_limit(device), config.merges_equivalent(device.type)
    return on_main(trainer, lambda: RunData(store, *_split(store, config, limit, merge)))


def prepare_training(
    config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None, trainer: pl.Trainer
) -> TrainingData:
    """As :func:`prepare_data`, with the targets of the training split fitted."""
    data = prepare_data(config, records, trainer)
    scaler = on_main(trainer, lambda: TargetScaler.fit(data.store.targets, data.split.train, config))
    return TrainingData(data.store, data.skipped, data.split, scaler)


def _split(store: Store, config: RunConfig, memory: int, merge: bool) -> tuple[list[SkippedRow], Split]:
    """The rows that are not used, and the split of the others."""
    oversized = oversized_rows(store, config.model, memory, merge=merge)
    too_large = [SkippedRow(store.ids[row], store.files[row], reason) for row, reason in oversized.items()]
    if too_large and config.strict:
        first = too_large[0]
        raise InputError(f"strict stops at the first row it cannot use:\n  {first.file}: {first.reason}")
    used = [row for row in range(len(store)) if row not in oversized]
    skipped = [*store.skipped, *too_large]
    split = make_split(
        config,
        [store.ids[row] for row in used],
        [store.formulas[row] for row in used],
        {row.id: row.reason for row in skipped},
    )
    split = Split(*([used[index] for index in part] for part in (split.train, split.val, split.test)))
    return skipped, split


def sampler_for(
    data: RunData, split: str, config: RunConfig, trainer: pl.Trainer, *, shuffled: bool = False
) -> BatchSampler:
    """This process' shares of the batches of a split, in order or newly shuffled every epoch."""
    rows = data.rows(split)
    return BatchSampler(
        rows,
        data.store.n_triplets[rows],
        config.batch_size,
        config.max_triplets,
        seed=config.random_seed if shuffled else None,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )


def loader_for(
    data: RunData,
    sampler: BatchSampler,
    config: RunConfig,
    trainer: pl.Trainer,
    embeddings: AtomEmbeddings | None = None,
) -> DataLoader[Any]:
    """The batches a sampler chooses, with the texts, and with a teacher's embeddings where they are given."""
    on_gpu = trainer.strategy.root_device.type == "cuda"
    return make_loader(
        data.store,
        sampler,
        embeddings=embeddings,
        texts=None if data.texts is None else data.texts.values,
        merge=config.merges_equivalent(trainer.strategy.root_device.type),
        num_workers=config.num_workers,
        pin_memory=config.pin_memory and on_gpu,
    )
