"""Dask clusters, whose machines share the rows of an input."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from itertools import islice
from pkgutil import resolve_name
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from crysmm import __version__
from crysmm.errors import CrysmmError, InputError, MissingDependencyError, brief

if TYPE_CHECKING:
    from distributed import Client

Backend = Literal["local", "dask"]
SECONDS_TO_ANSWER = 3
SECONDS_TO_JOIN = 30
TASKS_PER_THREAD = 3  # begun at a time, so that no thread waits for the next
ONE_AT_A_TIME = Lock()  # tasks in a worker with several threads, which share a network's memory

Given = TypeVar("Given")
Made = TypeVar("Made")


def require_cluster(backend: Backend, scheduler: str | None) -> None:
    """Refuse a cluster that cannot be used, before anything is read, and one without its address or the reverse.

    Raises:
        InputError: Backend and scheduler contradict each other, or the cluster cannot be used, see :func:`connect`.
        MissingDependencyError: Dask is not installed.
    """
    if (backend == "dask") != (scheduler is not None):
        raise InputError("backend dask needs a scheduler, tcp://HOST:PORT, and no other backend has one")
    if scheduler is not None:
        connect(scheduler).close()


def connect(scheduler: str) -> Client:
    """Connect to a cluster that has at least one worker, and this version of the package on all of them.

    Args:
        scheduler: Address, ``tcp://HOST:PORT``.

    Raises:
        InputError: No scheduler answers there, no worker has joined it, or one lacks this version.
        MissingDependencyError: Dask is not installed.
    """
    try:
        from distributed import Client
    except ImportError:
        raise MissingDependencyError(
            "backend dask needs the package distributed, which is not installed: pip install 'crysmm[dask]'"
        ) from None
    try:
        with ThreadPoolExecutor(1) as thread:  # this one may run a loop of its own, as in a notebook
            thread.submit(asyncio.run, _shake_hands(scheduler)).result()
        client = Client(scheduler, timeout=SECONDS_TO_ANSWER)
    except (OSError, ValueError, TypeError, MemoryError) as error:
        why = brief(error) or f"expected an answer within {SECONDS_TO_ANSWER} seconds"
        raise InputError(f"no Dask scheduler answers at {scheduler}: {why}") from None
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_JOIN)
    except TimeoutError:
        client.close()
        raise InputError(f"no worker has joined the Dask scheduler at {scheduler}; start one") from None
    try:
        _refuse_other_versions(client)
    except InputError:
        client.close()
        raise
    return client


async def _shake_hands(scheduler: str) -> None:
    """Connect to a scheduler; a wrong address, such as a dashboard's, is refused instead of waited for."""
    from distributed import Security
    from distributed.comm import connect as connect_to

    connecting = connect_to(scheduler, SECONDS_TO_ANSWER, **Security().get_connection_args("client"))
    (await asyncio.wait_for(connecting, SECONDS_TO_ANSWER)).abort()


def _refuse_other_versions(client: Client) -> None:
    """Refuse a cluster without this version of the package: workers compute with it, and the scheduler passes it on.

    Raises:
        InputError: A machine lacks it, or has another version.
    """
    asked = "crysmm:__version__"  # by a function of Python's own, which needs no package to be called
    machines = {f"worker {name}": found for name, found in client.run(resolve_name, asked, on_error="return").items()}
    try:
        machines["scheduler"] = client.run_on_scheduler(resolve_name, asked)
    except ImportError as error:
        machines["scheduler"] = error
    for machine, found in machines.items():
        if found != __version__:
            has = f"has crysmm {found}" if isinstance(found, str) else f"cannot import crysmm ({brief(found)})"
            raise InputError(f"the {machine} of the cluster {has}; install crysmm {__version__} there, as here")


def map_on_cluster(scheduler: str, work: Callable[[Given], Made], tasks: Iterable[Given]) -> Iterator[Made]:
    """Map tasks through the workers of a cluster, and yield what they make in the order in which it is ready.

    A worker does one task at a time; those of a worker that dies go to another.

    Args:
        scheduler: Address of the cluster's scheduler.
        work: Function of a task, which the workers import.
        tasks: Tasks of any number.

    Raises:
        InputError: The cluster cannot be used, see :func:`connect`.
        CrysmmError: Workers died repeatedly, or the scheduler is lost.
        MissingDependencyError: Dask is not installed.
    """
    remaining = iter(tasks)
    with connect(scheduler) as client:
        from distributed import KilledWorker, as_completed

        def begin(n_tasks: int) -> list[Any]:
            return [client.submit(_alone, work, task, pure=False) for task in islice(remaining, n_tasks)]

        ready = as_completed(begin(TASKS_PER_THREAD * sum(client.nthreads().values())), with_results=True)
        try:
            for _, made in ready:
                ready.update(begin(1))
                yield made
        except KilledWorker as error:
            raise CrysmmError(f"workers of the cluster died repeatedly, perhaps for lack of memory: {error}") from error
        except CancelledError as error:
            raise CrysmmError(f"the Dask scheduler at {scheduler} is lost: {error}") from error


def _alone(work: Callable[[Given], Made], task: Given) -> Made:
    with ONE_AT_A_TIME:
        return work(task)
