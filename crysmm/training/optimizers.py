"""Optimisers and learning rate schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR

from crysmm.config.run import RunConfig


def make_optimizer(config: RunConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """AdamW or SGD; weight decay pulls at matrices only.

    Biases and the scales of normalisation layers, which are the vectors among the parameters, set where an
    activation lies and not how steep the network is, so they are left alone (as in ALIGNN's ``group_decay``).
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    return AdamW(groups, lr=config.learning_rate)


def make_scheduler(config: RunConfig, optimizer: Optimizer, steps: Sequence[int]) -> LRScheduler | None:
    """The schedule of the learning rate, to be advanced after every step.

    Args:
        config: the schedule and its settings are read.
        optimizer: whose learning rate it sets.
        steps: number of steps in each epoch.
    """
    if config.scheduler == "onecycle":
        return OneCycleLR(
            optimizer,
            max_lr=config.learning_rate,
            total_steps=sum(steps),
            pct_start=config.warmup_fraction,
            cycle_momentum=config.optimizer == "adamw",  # sgd keeps the momentum it was given
        )
    if config.scheduler == "multistep":
        ends = [sum(steps[:epoch]) for epoch in config.milestones if epoch <= len(steps)]
        return MultiStepLR(optimizer, ends, config.gamma)
    return None
