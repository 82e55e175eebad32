"""Clusters whose machines lack this version of the package are refused before they get work."""

import os
from unittest.mock import patch

import pytest

from crysmm.cluster import map_on_cluster
from crysmm.errors import InputError

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


def test_a_worker_without_the_package_is_refused(tmp_path, monkeypatch):
    (tmp_path / "crysmm.py").write_text("raise ModuleNotFoundError(\"No module named 'crysmm'\")")
    monkeypatch.syspath_prepend(tmp_path)  # what a new process of Python imports
    assert "of the cluster cannot import crysmm (No module named 'crysmm'); install crysmm" in refusal()


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("crysmm.cluster.__version__", "9.9")
    assert "of the cluster has crysmm 0.1.0; install crysmm 9.9 there, as here" in refusal(processes=False)
