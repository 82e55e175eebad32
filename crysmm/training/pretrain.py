"""Pre-training: an encoder learned from structures without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from crysmm.config.pretraining import PretrainingConfig, ReconstructionConfig
from crysmm.data.loader import BatchSampler
from crysmm.data.space_groups import describe_symmetry
from crysmm.files import disables_bar
from crysmm.inference.model_folder import reference_rows
from crysmm.inference.saved_models import save_encoder
from crysmm.objectives.base import Objective
from crysmm.objectives.pretraining import PretrainingObjective, build_pretraining
from crysmm.objectives.quality import EncoderQuality
from crysmm.runs.data import SPLITS, RunData
from crysmm.runs.summary import describe_encoder
from crysmm.training.distributed import on_main
from crysmm.training.prepare import loader_for, prepare_data
from crysmm.training.run import Run, RunResult, carry_out


def pretrain(config: PretrainingConfig, records: Sequence[Mapping[str, Any]] | None = None) -> RunResult:
    """Pre-train an encoder and write the run folder ``config.output_dir``.

    Args:
        config: the settings.
        records: the structures as a list of dicts, as ``jarvis.db.figshare.data`` gives it, in place of
            ``config.root_dir``.

    Raises:
        InputError: the settings, the input or the output folder cannot be used; nothing has been written then.
        KeyboardInterrupt: Ctrl-C; what resuming needs is in the folder. SIGTERM raises ``SystemExit`` likewise.
    """
    return carry_out(PretrainingRun, config, records)


class PretrainingRun(Run[PretrainingConfig, RunData]):
    """A run that learns from structures alone; see :class:`Run`."""

    def prepare(self, records: Sequence[Mapping[str, Any]] | None) -> RunData:
        """See :class:`Run`."""
        return prepare_data(self.config, records, self.trainer, symprec=self.config.symprec)

    def new_objective(self, data: RunData) -> Objective:
        """See :class:`Run`."""
        objective = build_pretraining(self.config)
        method, n_sampled = self.config.method, objective.n_sampled(data.store.n_atoms)
        if isinstance(method, ReconstructionConfig) and n_sampled:
            self.report.say(
                f"{n_sampled:,} crystals have more than {method.max_pairs:,} pairs of atoms: of theirs, that many are "
                "drawn anew in every step"
            )
        return objective

    def baseline(self, data: RunData) -> None:
        """There is none: a loss without labels says little by itself."""

    def describe_task(self, data: RunData, baseline: float | None) -> list[str]:
        """See :class:`Run`."""
        sizes = ", ".join(f"{len(data.rows(split)):,} {split}" for split in SPLITS if data.rows(split))
        assert data.store.space_groups is not None
        return [f"split: {sizes}", describe_symmetry(data.store.space_groups)]

    def write_best(self, objective: Objective, data: RunData) -> dict[str, Any]:
        """See :class:`Run`."""
        assert isinstance(objective, PretrainingObjective)
        return on_main(self.trainer, lambda: {"quality": self._write(objective, data)})

    def _write(self, objective: PretrainingObjective, data: RunData) -> dict[str, float]:
        """Write the encoder; what it knows of the crystals held out is returned."""
        network, rows = objective.network, data.rows("train")
        save_encoder(
            self.folder.path,
            network,
            network.backbone,
            self.config,
            elements=data.elements,
            references=[data.store.crystal(row) for row in reference_rows(rows, data.store.n_atoms)],
        )
        return self._judge(objective, data)

    def _judge(self, objective: PretrainingObjective, data: RunData) -> dict[str, float]:
        held_out = data.rows("val")
        quality = EncoderQuality(objective, len(held_out))
        device = self.trainer.strategy.root_device
        all_of_them = BatchSampler(
            held_out, data.store.n_triplets[held_out], self.config.batch_size, self.config.max_triplets
        )
        hidden = disables_bar(self.config.progress)
        with tqdm(total=len(held_out), desc="judging", unit=" crystals", disable=hidden, leave=False) as bar:
            for share in loader_for(data, all_of_them, self.config, self.trainer):
                quality.add(share.batch.to(device))
                bar.update(share.n_crystals)
        return quality.result()

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """See :class:`Run`."""
        return describe_encoder(metrics, self.config, self.folder)
