"""Several processes that train together: starting them, taking turns, and gathering what each has computed."""

from __future__ import annotations

import atexit
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from crysmm.config.run import RunConfig
from crysmm.device import Machine
from crysmm.errors import CrysmmError, InputError
from crysmm.files import replacing

PATIENCE = timedelta(days=2)  # others wait so long for the main process, which may have a large store to build

Result = TypeVar("Result")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints under a temporary name in their folder, then renamed (Lightning's go through ``/tmp``)."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; by way of memory, as torch's own writing hides what a disk says."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and who has started them.

    Args:
        a_machine: processes, and devices, on each machine.
        machines: number of machines.
        environment: who has started them, or is to.
    """

    a_machine: int
    machines: int
    environment: ClusterEnvironment

    @classmethod
    def of(cls, config: RunConfig) -> Processes:
        """Those that torchrun or srun have started, else ``devices`` on each of ``num_nodes`` machines.

        Raises:
            InputError: srun was not told how many are on each machine.
        """
        if TorchElasticEnvironment.detect():
            a_machine = int(os.environ["LOCAL_WORLD_SIZE"])
            return cls(a_machine, int(os.environ["WORLD_SIZE"]) // a_machine, TorchElasticEnvironment())
        n_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # set by srun, not by sbatch
        if n_tasks > 1:
            machines = int(os.environ["SLURM_STEP_NUM_NODES"])
            return cls(n_tasks // machines, machines, _slurm())
        return cls(config.devices, config.num_nodes, LightningEnvironment())

    def __len__(self) -> int:
        return self.a_machine * self.machines


def _slurm() -> SLURMEnvironment:
    try:
        return SLURMEnvironment(auto_requeue=False)  # --resume does this, without files of Lightning's own
    except RuntimeError as error:
        raise InputError(f"srun has started the processes in a way that cannot be used: {error}") from error


def is_main_process() -> bool:
    """Whether this process is the one that speaks and writes; Lightning knows its rank."""
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def make_trainer(config: RunConfig, machine: Machine, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """Lightning's trainer for the machine the settings describe, silent and without files of its own.

    Raises:
        InputError: the machine does not have what the settings ask for.
    """
    device, processes = machine.device, Processes.of(config)
    several = len(processes) > 1
    try:
        with without_variables("PL_TRAINER_"):
            return pl.Trainer(
                accelerator=device.type,
                devices=[device.index] if device.index is not None and not several else processes.a_machine,
                num_nodes=processes.machines,
                strategy=DDPStrategy(find_unused_parameters=False, timeout=PATIENCE) if several else "auto",
                sync_batchnorm=several and device.type == "cuda",
                precision="bf16-mixed" if machine.precision == "bf16" else "32-true",
                max_epochs=config.epochs,
                callbacks=list(callbacks),
                plugins=[AtomicCheckpointIO(), processes.environment],
                default_root_dir=config.output_dir,
                logger=False,
                enable_checkpointing=True,  # that is: let our own callback do it
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                num_sanity_val_steps=0,
            )
    except (MisconfigurationException, ValueError) as error:
        machines = f" on each of {processes.machines} machines" if processes.machines > 1 else ""
        raise InputError(f"training cannot be set up on {processes.a_machine} x {device}{machines}: {error}") from error


@contextmanager
def without_variables(prefix: str) -> Iterator[None]:
    """Hide environment variables: Lightning takes settings that are not given from some."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(prefix)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def connect(trainer: pl.Trainer) -> None:
    """Start the other processes, where that is ours to do, and wait until all have met."""
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.launch(trainer.strategy.setup_environment, trainer=trainer)
        atexit.register(_end_group)


def _end_group() -> None:
    """Join gloo's threads before the interpreter ends: one that then drops a tensor would abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def disconnect(trainer: pl.Trainer) -> None:
    """End the processes :func:`connect` has started, whatever they do."""
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.kill(9)


def on_main(trainer: pl.Trainer, task: Callable[[], Result]) -> Result:
    """Do something in the main process alone; all get the result, and an error ends all.

    Raises:
        CrysmmError, OSError: the task's, in the main process.
        SystemExit: in the others, if the task failed; the main process tells why.
    """
    result: Any = None
    error: CrysmmError | OSError | None = None
    if trainer.is_global_zero:
        try:
            result = task()
        except (CrysmmError, OSError) as caught:
            error = caught
    result, failed = trainer.strategy.broadcast((result, error is not None))
    if error is not None:
        raise error
    if failed:
        raise SystemExit(2)
    return result


def main_first(trainer: pl.Trainer, task: Callable[[], Result]) -> Result:
    """Do something everywhere, but one after another, so that the others find what the first has put in a cache.

    First the main process, then one of each other machine, whose cache may be its own, then the rest.

    Raises:
        CrysmmError, OSError, SystemExit: as :func:`on_main`.
    """
    results: list[Result] = []
    on_main(trainer, lambda: results.append(task()))
    if trainer.local_rank == 0 and not results:
        results.append(task())
    trainer.strategy.barrier()
    return results[0] if results else task()


def gather(trainer: pl.Trainer, part: Any) -> list[Any]:
    """The parts of all processes, in the order of their ranks, in every process."""
    if trainer.world_size == 1:
        return [part]
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, part)
    return parts


@contextmanager
def lightning_silenced() -> Iterator[None]:
    """Keep Lightning's remarks, which speak of its own options, off the screen."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", module=r"torch\.optim\.lr_scheduler")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
