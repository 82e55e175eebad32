"""What the process does with freed memory."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from crysmm.memory import freed_memory_kept

def faults(count, size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.ones(size, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

SMALL, LARGE = 1 << 20, 64 << 20
freely = faults(10, LARGE)
before = resident()
with freed_memory_kept(torch.device("cpu")):
    faults(10, LARGE)
    assert faults(10, LARGE) < freely / 10, "pages are faulted in anew"
    assert resident() > before + (60 << 10)
assert resident() < before + (10 << 10), "memory is not given back"
faults(10, SMALL)
assert faults(50, SMALL) < 500, "small blocks are now given back each time"
assert faults(10, LARGE) > freely / 2, "large blocks are still kept"
with freed_memory_kept(torch.device("cuda")):
    assert faults(10, LARGE) > freely / 2, "a GPU's process is changed too"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux'")
def test_is_kept_within_and_given_back_after():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
