"""A full disk as far as it can be had without being root: files may not grow beyond a size (RLIMIT_FSIZE)."""

import json
import subprocess
import sys

import pytest

from benchmarks.reliability.disk import commands, contents, run

FULL = """
import json, resource, signal, sys
from benchmarks.reliability.disk import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit, argv in json.loads(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    code, said = run(argv)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps([code, said]))
"""


@pytest.fixture
def run_limited(tmp_path):
    """Runs commands, each in a process that may write no file larger than so many bytes."""

    def run_limited(*limited):
        done = subprocess.run([sys.executable, "-c", FULL, json.dumps(limited)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run_limited


def test_a_full_disk_is_told_and_harms_nothing(tmp_path, run_limited):
    made = commands(tmp_path)
    for name in ("predict", "convert", "train"):
        assert run(made[name].first)[0] == 0
    before = contents(tmp_path)
    limits = {"store": (4096,), "predict": (64, 4096), "convert": (64, 4096), "train": (16, 1500)}
    limited = [(limit, made[name].second) for name, sizes in limits.items() for limit in sizes]
    for (limit, argv), (code, said) in zip(limited, run_limited(*limited), strict=True):
        assert code == 2, (limit, argv, said)
        last = said.splitlines()[-1]
        assert "Traceback" not in said
        assert last.startswith(f"crysmm: error: {tmp_path}")
        assert last.endswith("File too large")
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if ".tmp" in name or ".building-" in name]
