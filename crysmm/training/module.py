"""The one Lightning module, over any objective."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from crysmm.config.training import TrainingConfig
from crysmm.data.loader import Share
from crysmm.objectives.base import Objective
from crysmm.training.optimizers import make_optimizer, make_scheduler


class TrainingModule(pl.LightningModule):
    """Trains an objective and keeps the means of the current epoch over all crystals of all processes.

    Args:
        objective: the loss and the measures.
        config: optimiser, schedule and seed are read.
        steps: number of steps in each epoch.
        baseline: what the objective's monitored measure is without a network.
        data: fingerprint of the data and the split, kept in the checkpoint.
    """

    def __init__(
        self, objective: Objective, config: TrainingConfig, steps: Sequence[int], baseline: float, data: str
    ):
        super().__init__()
        self.objective = objective
        self.config = config
        self.steps = steps
        self.baseline = baseline
        self.data = data
        self.train_loss = _mean()
        self.validation: dict[str, MeanMetric] = {}

    def configure_optimizers(self) -> Any:
        """The optimiser, and its schedule advanced by the step."""
        optimizer = make_optimizer(self.config, self.objective.parameters())
        scheduler = make_scheduler(self.config, optimizer, self.steps)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the weights were learned from."""
        checkpoint["data"] = self.data

    def on_train_epoch_start(self) -> None:
        """Seed the epoch by itself, so that a resumed run draws what an uninterrupted one does."""
        seed_everything(self.config.random_seed, self.current_epoch, self.global_rank)
        self.train_loss.reset()

    def training_step(self, share: Share, index: int) -> Tensor:
        """Loss of this process' share of a step, weighted so that the mean over the processes is exact."""
        loss = self.objective.training_loss(share.batch)
        self.train_loss.update(loss.detach(), share.n_crystals)
        return loss * share.weight

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch."""
        self.validation = {}

    def validation_step(self, share: Share, index: int) -> None:
        """Add the measures of a share to their means."""
        for name, values in self.objective.measures(share.batch).items():
            if name not in self.validation:
                self.validation[name] = _mean().to(self.device)
            self.validation[name].update(values, float(share.n_crystals > 0))

    def means(self) -> dict[str, float]:
        """``train_loss`` and the validation measures of the epoch, ``val_loss`` among them; all processes call it."""
        means = {f"val_{name}": float(mean.compute()) for name, mean in self.validation.items()}
        return {"train_loss": float(self.train_loss.compute()), **means}


def seed_everything(*seeds: int) -> None:
    """Seed Python's, numpy's and torch's global random states by a few numbers."""
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _mean() -> MeanMetric:
    mean = MeanMetric(nan_strategy="disable")
    mean.set_dtype(torch.float64)
    return mean
