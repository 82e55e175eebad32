"""Processes that have imported what a run needs when they start, for tests that kill one or need two.

They are forked from a server that has imported it once: a new Python takes longer for that than for a small run.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from crysmm.config import TrainingConfig
from crysmm.training.train import train

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "datasets", "matplotlib.backends.backend_agg", "plotly.graph_objects"])


def start(function: Callable[..., Any], *arguments: Any, output: Path, **environment: str) -> BaseProcess:
    """Start a function of a module in a new process, whose current folder and environment are those of this one.

    Args:
        function: Function to call.
        arguments: What it is called with; it is pickled.
        output: File to which the process appends what it prints.
        environment: Changes to the environment.
    """
    settings = os.getcwd(), os.environ | environment, output
    process = CONTEXT.Process(target=_call, args=(settings, function, arguments))
    process.start()
    return process


def run(function: Callable[..., Any], *arguments: Any, output: Path) -> int:
    """Run a function as :func:`start` does to its end; return the exit code, negative for a signal."""
    process = start(function, *arguments, output=output)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def start_two(function: Callable[..., Any], config: TrainingConfig, output: Path) -> list[BaseProcess]:
    """Start a function of settings in two processes at once, which find in their environment what torchrun sets.

    Args:
        function: Function to call.
        config: Its argument, but for the number of devices.
        output: File for what they print.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "1"}
    sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    both = config.model_copy(update={"devices": 2})
    return [start(function, both, output=output, RANK=rank, LOCAL_RANK=rank, **meeting, **sizes) for rank in "01"]


def train_by_two(config: TrainingConfig, output: Path) -> str:
    """Train in two processes; return what they print, which is also written to a file."""
    processes = start_two(train, config, output)
    for process in processes:
        process.join()
    printed = output.read_text()
    assert [process.exitcode for process in processes] == [0, 0], printed
    return printed


def _call(settings: tuple[str, dict[str, str], Path], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    folder, environment, output = settings
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)
