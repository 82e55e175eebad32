"""The one Lightning module, over any objective."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from crysmm.config.run import RunConfig
from crysmm.data.loader import Share
from crysmm.objectives.base import Objective
from crysmm.training.optimizers import make_optimizer, make_scheduler


class Means:
    """Means over crystals, summed in float64 on the device: nothing is fetched before the end."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, mean: Tensor, n_crystals: int) -> None:
        """Add the mean of some crystals, which may be none."""
        total = mean.double() * n_crystals if n_crystals else torch.zeros_like(mean, dtype=torch.float64)
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._counts[name] = self._counts.get(name, 0) + n_crystals

    def over_all(self, strategy: Strategy) -> dict[str, float]:
        """The means over the crystals of all processes; each must have added to every name."""
        means = {}
        for name, total in self._sums.items():
            both = torch.stack([total, torch.full_like(total, self._counts[name])])
            total, count = strategy.reduce(both, reduce_op="sum").tolist()
            means[name] = total / count
        return means


class TrainingModule(pl.LightningModule):
    """Trains an objective and keeps the means of the current epoch over all crystals of all processes.

    Args:
        objective: Loss and metrics to train on.
        config: optimiser, schedule and seed are read.
        steps: number of steps in each epoch.
        baseline: what the objective's monitored measure is without a network; None says nothing.
        data: fingerprint of the data and the split, kept in the checkpoint.
    """

    def __init__(
        self, objective: Objective, config: RunConfig, steps: Sequence[int], baseline: float | None, data: str
    ):
        super().__init__()
        self.objective = objective
        self.config = config
        self.steps = steps
        self.n_steps = sum(steps)
        self.baseline = baseline
        self.data = data
        self._training = Means()
        self._validation = Means()

    def configure_optimizers(self) -> Any:
        """The optimiser, and its schedule advanced by the step."""
        optimizer = make_optimizer(self.config, self.objective)
        scheduler = make_scheduler(self.config, optimizer, self.steps)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the weights were learned from."""
        checkpoint["data"] = self.data

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch."""
        self._training = Means()

    def on_train_batch_start(self, batch: Share, batch_idx: int) -> None:
        """Seed the epoch by itself, so that a resumed run draws what an uninterrupted one does.

        Before the first step and no earlier: making an epoch's iterator draws a number, and a resumed run makes it
        at another moment.
        """
        if batch_idx == 0:
            seed_everything(self.config.random_seed, self.current_epoch, self.global_rank)

    def training_step(self, share: Share, index: int) -> Tensor:
        """Loss of this process' share of a step, weighted so that the mean over the processes is exact."""
        self.objective.progress = self.global_step / self.n_steps
        loss = self.objective.training_loss(share.batch)
        self._training.add("loss", loss.detach(), share.n_crystals)
        return loss * share.weight

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch."""
        self._validation = Means()

    def validation_step(self, share: Share, index: int) -> None:
        """Add the metrics of a share to their means."""
        for name, values in self.objective.metrics(share.batch).items():
            self._validation.add(name, values.mean(), share.n_crystals)

    def means(self) -> dict[str, float]:
        """``train_loss`` and the validation metrics of the epoch, ``val_loss`` among them; all processes call it."""
        training = self._training.over_all(self.trainer.strategy)
        validation = self._validation.over_all(self.trainer.strategy)
        return {
            **{f"train_{name}": mean for name, mean in training.items()},
            **{f"val_{name}": mean for name, mean in validation.items()},
        }


def seed_everything(*seeds: int) -> None:
    """Seed Python's, numpy's and torch's global random states by a few numbers."""
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
