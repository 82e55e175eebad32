"""Processes that train together: starting them, letting the first act for all, and combining their results."""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from crysmm.config.run import RunConfig
from crysmm.device import Machine
from crysmm.errors import CrysmmError, InputError

LONGEST_WAIT = timedelta(days=2)  # the others wait while the first process builds what may be a large store

Result = TypeVar("Result")


class Processes:
    """Processes of a run, each with one device; usually a single one.

    Args:
        config: Settings; the number of devices and machines is read.
        machine: Device to compute on.

    Attributes:
        fabric: Lightning Fabric, which starts the processes and averages their gradients.
        count: Number of processes on all machines.

    Raises:
        InputError: The machine does not have the requested devices.
    """

    def __init__(self, config: RunConfig, machine: Machine):
        per_machine, machines, environment = process_layout(config)
        self.count = per_machine * machines
        device, several = machine.device, self.count > 1
        try:
            with _hidden_variables("LT_"):  # from which Fabric would read settings of its own
                self.fabric = Fabric(
                    accelerator=device.type,
                    devices=[device.index] if device.index is not None and not several else per_machine,
                    num_nodes=machines,
                    strategy=DDPStrategy(find_unused_parameters=False, timeout=LONGEST_WAIT) if several else "auto",
                    plugins=[environment],
                )
        except (MisconfigurationException, ValueError, RuntimeError) as error:
            where = f" on each of {machines} machines" if machines > 1 else ""
            raise InputError(f"training cannot be set up on {per_machine} x {device}{where}: {error}") from error

    def connect(self) -> None:
        """Start the other processes if nothing else does, and wait until all have connected."""
        with _hidden_variables("LT_"):
            self.fabric.launch()
        if self.count > 1:
            atexit.register(_leave_group)

    def synchronize(self, module: nn.Module) -> Any:
        """Wrap a module so that its gradients are those of all processes; its batch norms share their statistics."""
        return self.fabric.setup_module(module)

    def kill(self) -> None:
        """End the processes that :meth:`connect` has started, whatever they are doing."""
        for process in getattr(self.fabric.strategy.launcher, "procs", ()):
            process.kill()

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self.fabric.device

    @property
    def rank(self) -> int:
        """Number of this process among all, from 0."""
        return self.fabric.global_rank

    @property
    def is_first(self) -> bool:
        """True in the process that writes files."""
        return self.rank == 0

    def on_first(self, task: Callable[[], Result]) -> Result:
        """Run a task in the first process only, and return its result in all.

        Raises:
            CrysmmError, OSError: The task failed; raised in the first process.
            SystemExit: The task failed; raised in the others, where nothing is to be reported.
        """
        result: Any = None
        error: CrysmmError | OSError | None = None
        if self.is_first:
            try:
                result = task()
            except (CrysmmError, OSError) as caught:
                error = caught
        result, failed = self.fabric.broadcast((result, error is not None))
        if error is not None:
            raise error
        if failed:
            raise SystemExit(2)
        return result

    def first_before_others(self, task: Callable[[], Result]) -> Result:
        """Run a task in every process, so that the others find what the first has put in a cache.

        The first process begins, then one on each other machine, which may have a cache of its own, then the rest.

        Raises:
            CrysmmError, OSError, SystemExit: See :meth:`on_first`.
        """
        results: list[Result] = []
        self.on_first(lambda: results.append(task()))
        if self.fabric.local_rank == 0 and not results:
            results.append(task())
        self.fabric.barrier()
        return results[0] if results else task()

    def gather(self, part: Any) -> list[Any]:
        """Return the parts of all processes, in the order of their ranks, in every process."""
        if self.count == 1:
            return [part]
        parts: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(parts, part)
        return parts

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        total = self.fabric.all_reduce(values, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true in any process."""
        if self.count == 1:
            return flag  # without a wait for the GPU
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)


def run_on_first(config: RunConfig, task: Callable[[], None]) -> None:
    """Run a task before trainings with these settings, in the first process only.

    Where torchrun or srun have started all processes, the others wait for the task, and end if it fails. Otherwise the
    trainings start them, which come here, too, and find the task done.
    """
    environment = process_layout(config)[-1]
    if isinstance(environment, LightningEnvironment):
        if is_first_process():
            task()
        return
    with lightning_silenced():
        processes = Processes(config, Machine.of(config))
        processes.connect()
        processes.on_first(task)


def process_layout(config: RunConfig) -> tuple[int, int, ClusterEnvironment]:
    """Return the number of processes per machine, the number of machines, and the environment that starts them.

    The processes are those of torchrun or srun if one of these runs; otherwise the settings decide.

    Raises:
        InputError: srun did not receive the number of tasks per machine, or nothing connects several machines.
    """
    if TorchElasticEnvironment.detect():
        per_machine = int(os.environ["LOCAL_WORLD_SIZE"])
        return per_machine, int(os.environ["WORLD_SIZE"]) // per_machine, TorchElasticEnvironment()
    n_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # set by srun, not by sbatch
    if n_tasks > 1:
        try:
            environment = SLURMEnvironment(auto_requeue=False)  # --resume does this, without files of Lightning's own
        except RuntimeError as error:
            raise InputError(f"srun started the processes in a way that is not supported: {error}") from error
        machines = int(os.environ["SLURM_STEP_NUM_NODES"])
        return n_tasks // machines, machines, environment
    if config.num_nodes > 1 and "MASTER_ADDR" not in os.environ:  # this process would wait for ever for the others
        raise InputError(
            f"--num_nodes {config.num_nodes}: nothing connects this process with other machines; start the command by "
            "torchrun or srun, which give it their number"
        )
    return config.devices, config.num_nodes, LightningEnvironment()


def is_first_process() -> bool:
    """Return whether this process is the one that prints and writes; true before any others are started."""
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


@contextmanager
def lightning_silenced() -> Iterator[None]:
    """Keep Lightning's messages, which are about its own options, off the screen."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning_fabric\..*")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _hidden_variables(prefix: str) -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(prefix)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _leave_group() -> None:
    # A thread of gloo that drops a tensor while the interpreter ends would abort the process.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
