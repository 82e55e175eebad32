"""Clusters whose machines lack this version of the package are refused before they get work."""

import os
import socket
from pathlib import Path
from unittest.mock import patch

import pytest

from crysmm.cli.main import main
from crysmm.cluster import map_on_cluster
from crysmm.errors import InputError

SAMPLE_DATA = Path(__file__).parents[1] / "examples" / "sample_data"
distributed = pytest.importorskip("distributed")


def refusal(**options):
    """The reason why a cluster of one worker is refused."""
    with (
        patch.dict(os.environ),  # the cluster leaves numbers of threads in it
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, **options) as cluster,
        pytest.raises(InputError) as refused,
    ):
        list(map_on_cluster(cluster.scheduler_address, abs, [-1]))
    return str(refused.value)


@pytest.mark.parametrize("listens", [False, True])
def test_an_address_without_a_scheduler_is_refused_before_anything_is_read(listens, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("crysmm.cluster.SECONDS_TO_ANSWER", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts connections, and says nothing
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if not listens:
            server.close()
        options = ["--model", "crysgnn-mp", "--root_dir", str(SAMPLE_DATA), "--cache_dir", str(tmp_path / "cache")]
        options += ["--output", str(tmp_path / "out.parquet"), "--backend", "dask", "--scheduler", address]
        assert main(["embed", *options]) == 2
    assert f"no Dask scheduler answers at {address}: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_worker_without_the_package_is_refused(tmp_path, monkeypatch):
    (tmp_path / "crysmm.py").write_text("raise ModuleNotFoundError(\"No module named 'crysmm'\")")
    monkeypatch.syspath_prepend(tmp_path)  # what a new process of Python imports
    assert "of the cluster cannot import crysmm (No module named 'crysmm'); install crysmm" in refusal()


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("crysmm.cluster.__version__", "9.9")
    assert "of the cluster has crysmm 0.1.0; install crysmm 9.9 there, as here" in refusal(processes=False)
