"""Pre-training: an encoder is trained on structures without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crysmm.config.loading import override
from crysmm.config.pretraining import PretrainingConfig, ReconstructionConfig
from crysmm.data.loader import BatchSampler
from crysmm.data.space_groups import describe_symmetry
from crysmm.inference.model_folder import reference_rows
from crysmm.inference.saved_models import save_encoder
from crysmm.io.table import Records
from crysmm.objectives.objective import Objective
from crysmm.objectives.pretraining import PretrainingObjective, build_pretraining
from crysmm.objectives.quality import EncoderQuality
from crysmm.progress import progress_bar
from crysmm.runs.data import RunData
from crysmm.runs.run_folder import SPLITS
from crysmm.runs.summary import describe_encoder
from crysmm.training.prepare import loader_for, prepare_data
from crysmm.training.run import Run, RunResult, carry_out
from crysmm.training.teacher import embed_by_teacher


def pretrain(
    config: PretrainingConfig | Mapping[str, Any] | None = None, records: Records | None = None, **settings: Any
) -> RunResult:
    """Pre-train an encoder and write the run folder ``output_dir``.

    Args:
        config: Settings of the run, also as a dict.
        records: Structures in place of ``root_dir``: a list of dicts, as returned by ``jarvis.db.figshare.data``, or a
            pandas ``DataFrame``.
        **settings: Settings by name, which override those of ``config``.

    Raises:
        InputError: The settings, the input or the output folder cannot be used; nothing has been written.
        KeyboardInterrupt: Ctrl-C; the folder holds what resuming needs. SIGTERM raises ``SystemExit`` likewise.
    """
    return carry_out(PretrainingRun, override(PretrainingConfig, config, settings), records)


class PretrainingRun(Run[PretrainingConfig, RunData]):
    """Run that trains an encoder on structures alone."""

    def prepare(self, records: Sequence[Mapping[str, Any]] | None) -> RunData:
        """Read and split the structures, and determine space groups and a teacher's features."""
        data = prepare_data(self.config, records, self.processes, symprec=self.config.symprec)
        return embed_by_teacher(self.config, data, self.processes)

    def new_objective(self, data: RunData) -> Objective:
        """Build the objective of the pre-training method."""
        features = data.teacher_features
        objective = build_pretraining(self.config, None if features is None else features.width)
        method, n_sampled = self.config.method, objective.n_sampled(data.store.n_atoms)
        if isinstance(method, ReconstructionConfig) and n_sampled:
            self.log.say(
                f"{n_sampled:,} crystals have more than {method.max_pairs:,} pairs of atoms; each step samples "
                f"{method.max_pairs:,} of them"
            )
        return objective

    def baseline(self, data: RunData) -> None:
        """Return None: a loss without labels says little by itself."""

    def describe_task(self, data: RunData, baseline: float | None) -> list[str]:
        """Describe the split, the space groups and the teacher."""
        sizes = ", ".join(f"{len(data.rows(split)):,} {split}" for split in SPLITS if data.rows(split))
        assert data.store.space_groups is not None
        lines = [f"split: {sizes}", describe_symmetry(data.store.space_groups)]
        if data.teacher_features is not None:
            lines.append(f"teacher {self.config.teacher}: {data.teacher_features.width} features per atom")
        return lines

    def evaluate(self, objective: Objective, data: RunData) -> dict[str, Any]:
        """Write the encoder, and return its quality on the validation crystals."""
        assert isinstance(objective, PretrainingObjective)
        return self.processes.on_first(lambda: {"quality": self._save_and_evaluate(objective, data)})

    def _save_and_evaluate(self, objective: PretrainingObjective, data: RunData) -> dict[str, float]:
        network, rows, held_out = objective.network, data.rows("train"), data.rows("val")
        save_encoder(
            self.folder.path,
            network,
            network.backbone,
            self.config,
            elements=data.elements,
            references=data.store.crystals(reference_rows(rows, data.store.n_atoms)),
        )
        quality = EncoderQuality(objective, len(held_out))
        # The whole split in the first process, not its part of it
        sampler = BatchSampler(
            held_out, data.store.n_triplets[held_out], self.config.batch_size, self.config.max_triplets
        )
        with progress_bar("evaluating", len(held_out), "crystals", shown=self.config.progress, leave=False) as bar:
            for share in loader_for(data, sampler, self.config, self.processes, data.teacher_features):
                quality.add(share.batch.to(self.processes.device))
                bar.update(share.n_crystals)
        return quality.result()

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """Describe the quality of the encoder, and how to use it."""
        return describe_encoder(metrics, self.config, self.folder)
