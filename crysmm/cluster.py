"""Dask clusters, whose machines share the rows of an input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from crysmm.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from distributed import Client

Backend = Literal["local", "dask"]
SECONDS_TO_CONNECT = 30


def refuse_half_cluster(backend: Backend, scheduler: str | None) -> None:
    """Refuse a cluster without its address, and an address without a cluster.

    Raises:
        InputError: Backend and scheduler contradict each other.
    """
    if (backend == "dask") != (scheduler is not None):
        raise InputError("backend dask needs a scheduler, tcp://HOST:PORT, and no other backend has one")


def connect(scheduler: str) -> Client:
    """Connect to a cluster that has at least one worker.

    Args:
        scheduler: Address, ``tcp://HOST:PORT``.

    Raises:
        InputError: No scheduler answers there, or no worker has joined it.
        MissingDependencyError: Dask is not installed.
    """
    try:
        from distributed import Client
    except ImportError:
        raise MissingDependencyError(
            "backend dask needs the package distributed, which is not installed: pip install 'crysmm[dask]'"
        ) from None
    try:
        client = Client(scheduler, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {scheduler}: {error}") from None
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_CONNECT)
    except TimeoutError:
        client.close()
        raise InputError(f"no worker has joined the Dask scheduler at {scheduler}; start one") from None
    return client
