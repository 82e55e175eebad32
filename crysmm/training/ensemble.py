"""An ensemble: networks trained alike on one split but for their seeds, of which the mean predicts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from crysmm.config.training import TrainingConfig
from crysmm.inference.frozen_network import Outputs
from crysmm.inference.saved_models import load_model, write_ensemble
from crysmm.runs.data import SPLITS, TrainingData
from crysmm.runs.run_folder import MAX_HOURS, MEMBER
from crysmm.runs.summary import describe_members
from crysmm.training.callbacks import share_of_hours
from crysmm.training.distributed import connect, on_main
from crysmm.training.evaluate import SplitOutputs, predict_splits, write_judged
from crysmm.training.run import RunResult
from crysmm.training.runs import TrainingRun, training_run


class EnsembleRun(TrainingRun):
    """A run for each seed, in a folder of its own, and the mean of their predictions."""

    def learn(self, data: TrainingData) -> RunResult:
        """Train the members that are not finished, then predict with all."""
        on_main(self.trainer, lambda: self.open_folder(data, is_new=not self.config.resume))
        results = [self._train_member(number, data) for number in range(1, self.config.ensemble + 1)]
        outputs = self._predict(results, data)
        metrics = on_main(self.trainer, lambda: self._write(results, outputs, data))
        return self.complete(data, metrics)

    def _train_member(self, number: int, data: TrainingData) -> RunResult:
        """Train one, unless that has been done."""
        config = self._settings_of(number)
        self.report.say(f"member {number} of {self.config.ensemble}, seed {config.random_seed}")
        member = training_run(config, self.machine)
        try:
            connect(member.trainer)
            if self.config.resume and on_main(self.trainer, lambda: member.is_done(data)):
                self.report.say("trained already")
                return RunResult(member.folder.path, on_main(self.trainer, member.folder.read_metrics))
            return member.learn(data)
        finally:
            member.close()

    def _settings_of(self, number: int) -> TrainingConfig:
        """Those of one member, split as this run is; the time left is shared out among the members left."""
        sizes = [name for split in SPLITS for name in (f"n_{split}", f"{split}_ratio")]
        return self.config.model_copy(
            update={
                **dict.fromkeys(sizes),
                "ensemble": 1,
                "ids_file": self.folder.ids,
                "split_strategy": "random",
                "keep_data_order": False,
                "random_seed": (self.config.random_seed + number - 1) % 2**32,
                "output_dir": self.folder.path / f"{MEMBER}{number}",
                "max_hours": share_of_hours(self.config.max_hours, self.started, self.config.ensemble - number + 1),
            }
        )

    def _predict(self, results: list[RunResult], data: TrainingData) -> SplitOutputs:
        """The outputs of all members together, from the weights in their folders."""
        of_members = []
        for result in results:
            model = on_main(self.trainer, partial(load_model, result.folder))
            of_members.append(predict_splits(model.network, data, self.config, self.trainer))
        return {split: Outputs.combine([outputs[split] for outputs in of_members]) for split in of_members[0]}

    def _write(self, results: list[RunResult], outputs: SplitOutputs, data: TrainingData) -> dict[str, Any]:
        """Write the ensemble and what it has come to."""
        checksum = write_ensemble(self.folder.path, [result.folder for result in results])
        ends = [result.metrics["stopped_by"] for result in results]
        return {
            **self.keep(write_judged(self.folder, checksum, data, self.config, outputs)),
            "members": {result.folder.name: _scores(result.metrics) for result in results},
            "stopped_by": MAX_HOURS if MAX_HOURS in ends else ends[0],
            "seconds": time.monotonic() - self.started,
            "device": str(self.machine.device),
            "precision": self.machine.precision,
            "n_processes": self.trainer.world_size,
            "n_crystals": len(data.store),
            "n_skipped": len(data.skipped),
            "data_sha256": data.fingerprint,
        }

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """See :class:`Run`; the members first."""
        return [*describe_members(metrics), *super().describe_result(metrics)]


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {key: metrics[key] for key in (*SPLITS, "best_epoch", "epochs", "seconds") if key in metrics}
