"""The teacher of a run: its embeddings of the atoms of every crystal its student learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysmm.config.training import TrainingConfig
from crysmm.data.embeddings import AtomEmbeddings, build_embeddings
from crysmm.data.store import build_store
from crysmm.io.inputs import open_input
from crysmm.training.data import TrainingData
from crysmm.training.distributed import main_first
from crysmm.training.encoder import load_encoder

if TYPE_CHECKING:
    import lightning.pytorch as pl


def embed_by_teacher(
    config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None, data: TrainingData, trainer: pl.Trainer
) -> AtomEmbeddings | None:
    """Embeddings of the training and validation crystals by the teacher of ``config.head``, where it has one.

    The teacher has graphs of its own: those it was trained on, of the same structures.

    Args:
        config: the settings.
        records: in place of ``config.root_dir``.
        data: the crystals of the student.
        trainer: knows the processes and their device.

    Raises:
        ModelFolderError: the teacher cannot be read.
        InputError: it lacks a crystal.
    """
    head = config.taught
    if head is None or head.teacher is None:
        return None
    name = head.teacher

    def build() -> AtomEmbeddings:
        teacher = load_encoder(name)
        store = build_store(
            open_input(config, records),
            teacher.settings,
            cache_dir=config.cache_dir,
            jobs=config.jobs,
            progress=config.progress,
        )
        embeddings = build_embeddings(
            store,
            teacher.backbone,
            teacher.model,
            teacher.weights_sha256,
            cache_dir=config.cache_dir,
            device=trainer.strategy.root_device,
            progress=config.progress,
        )
        return embeddings.matched(store, data.store, [*data.split.train, *data.split.val])

    return main_first(trainer, build)
