"""How a run was made: its settings, its time, the machine."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import torch

from crysmm.config.options import options
from crysmm.config.training import TrainingConfig
from crysmm.device import Machine
from crysmm.report.numbers import duration

NOT_OF_THE_RUN = {"resume", "overwrite", "progress"}


def command(config: TrainingConfig) -> list[str]:
    """The command of such a run, each option with its value; none where it has learned from records in memory."""
    if config.root_dir is None:
        return []
    names = [name for name in TrainingConfig.model_fields if name not in NOT_OF_THE_RUN]
    parts = ["crysmm train"]
    for word in options(config, names):
        if word.startswith("--"):
            parts.append(word)
        else:
            parts[-1] += f" {shlex.quote(word)}"
    return parts


def timing(metrics: Mapping[str, Any]) -> dict[str, str]:
    """How long it took, and how it ended."""
    facts = {"time in all": duration(metrics["seconds"])}
    if "seconds_per_epoch" in metrics:
        facts["time of an epoch"] = duration(metrics["seconds_per_epoch"])
    if "best_epoch" in metrics:
        facts["best epoch"] = f"{metrics['best_epoch']} of {metrics['epochs']}, by {metrics['monitored']}"
    facts["training ended by"] = metrics["stopped_by"].replace("_", " ")
    if metrics.get("peak_memory_gib") is not None:
        facts["most memory taken"] = f"{metrics['peak_memory_gib']:.2f} GiB"
    if "n_parameters" in metrics:
        facts["parameters"] = f"{metrics['n_parameters']:,}"
    return facts


def environment(machine: Machine, metrics: Mapping[str, Any]) -> dict[str, str]:
    """What it was computed on, and with."""
    device = str(machine.device)
    if machine.device.type == "cuda":
        device = f"{device}, {torch.cuda.get_device_name(machine.device)}"
    return {
        "finished": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M UTC%z"),
        "device": device,
        "precision": "bf16" if machine.precision == "bf16" else "32 bits",
        "processes": f"{metrics['n_processes']}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        **machine.versions(),
    }
