"""Chunks of rows, and freed memory that the process keeps."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from crysmm.engines.memory import LARGE, PAGE, ROWS_IN_CACHE, Workspace, empty_rows, keep_freed_memory, matmul_chunks

COUNTS = [0, 1, 2, 63, 64, 65, 200, 511, 512, 513, 4095, 4096, 4097, 9000]
PROGRAM = """
import resource
import torch
from crysmm.engines.memory import empty_rows, keep_freed_memory

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
with keep_freed_memory(torch.device("cpu")):
    empty_rows((LARGE,), like=torch.zeros(1, dtype=torch.uint8)).fill_(1)
    faults(10, LARGE)
    assert faults(10, LARGE) < freely / 10, "pages are faulted in again"
    assert resident() > before + (120 << 10)
assert resident() < before + (10 << 10), "memory is not returned"
faults(10, SMALL)
assert faults(50, SMALL) < 500, "small blocks are now returned each time"
assert faults(10, LARGE) > freely / 2, "large blocks are still kept"
with keep_freed_memory(torch.device("cuda")):
    assert faults(10, LARGE) > freely / 2, "a GPU's process is changed too"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_memory_is_kept_within_the_block_and_returned_after_it():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_memory_of_a_deleted_tensor_is_reused():
    workspace = Workspace()
    tensor = workspace.empty((1000, 8), torch.bfloat16)
    assert tensor.shape == (1000, 8)
    assert tensor.dtype == torch.bfloat16
    place = tensor.data_ptr()
    view = tensor[10:]
    del tensor
    assert workspace.empty((1000, 8), torch.bfloat16).data_ptr() != place  # a view still needs it
    del view
    again = [workspace.empty((1000, 8), torch.bfloat16) for _ in range(2)]
    assert place in {tensor.data_ptr() for tensor in again}


def test_tensors_saved_for_the_backward_pass_are_not_overwritten():
    workspace = Workspace()

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, rows):
            kept = torch.mul(rows, 2, out=workspace.empty(rows.shape, rows.dtype))
            ctx.save_for_backward(kept)
            return rows.sum()

        @staticmethod
        def backward(ctx, gradient):
            return ctx.saved_tensors[0] * gradient

    rows = torch.ones(1000, 8, requires_grad=True)
    total = Doubled.apply(rows)
    workspace.empty((1000, 8), torch.float32).zero_()
    total.backward()
    assert torch.equal(rows.grad, torch.full((1000, 8), 2.0))
    del total
    workspace.empty((1,), torch.float32)
    assert len(workspace.gaps) == 1, "the saved tensor is free again"


def test_a_forked_process_has_its_own_memory():
    tensor = Workspace().empty((1000, 8), torch.float32).fill_(1)
    child = os.fork()
    if not child:
        np.asarray(tensor)[:] = 7
        os._exit(0)
    os.waitpid(child, 0)
    assert torch.equal(tensor, torch.ones(1000, 8))


def test_adjacent_gaps_are_joined():
    workspace = Workspace()
    tensors = [workspace.empty((PAGE,), torch.uint8) for _ in range(5)]
    first = tensors[0].data_ptr()
    del tensors[1:4]
    larger = workspace.empty((2 * PAGE + 1,), torch.uint8)  # takes three pages
    assert larger.data_ptr() == first + PAGE
    assert workspace.empty((PAGE,), torch.uint8).data_ptr() == first + 5 * PAGE


def test_a_tensor_takes_the_smallest_gap_that_holds_it():
    workspace = Workspace()
    tensors = [workspace.empty((count * PAGE,), torch.uint8) for count in (4, 1, 2, 1)]
    place = tensors[2].data_ptr()
    del tensors[0], tensors[1]  # gaps of four pages and of two
    assert workspace.empty((2 * PAGE,), torch.uint8).data_ptr() == place


def test_a_tensor_too_large_is_refused():
    workspace = Workspace()
    start, end = workspace.gaps[0]
    assert workspace.empty((end - start + 1,), torch.uint8) is None
    assert workspace.empty((PAGE,), torch.uint8) is not None


def test_small_rows_and_rows_outside_the_block_are_ordinary_tensors():
    like = torch.zeros(1, dtype=torch.float64)
    count = LARGE // 8
    assert not _in_workspace(empty_rows((count,), like=like))
    with keep_freed_memory(torch.device("cpu")):
        assert not _in_workspace(empty_rows((count - 1,), like=like))
        kept = empty_rows((count,), like=like)
        assert kept.shape == (count,)
        assert not kept._is_view()
        assert kept.dtype == torch.float64
        assert _in_workspace(kept) == (sys.platform == "linux")
    assert kept.fill_(1).sum() == count  # it outlives the block
    assert not _in_workspace(empty_rows((count,), like=like))


def _in_workspace(tensor):
    """Return whether a tensor lies in foreign memory, whose storage cannot be resized."""
    return not tensor.untyped_storage().resizable()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("in_cache", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_chunks_cover_all_rows(count, in_cache, dtype):
    rows = torch.arange(count)
    parts = [rows[chunk] for chunk in matmul_chunks(torch.empty(count, dtype=dtype), in_cache=in_cache)]
    assert sorted({int(row) for part in parts for row in part}) == rows.tolist()
    assert max(map(len, parts), default=0) <= (ROWS_IN_CACHE if in_cache else count)


def test_batches_of_all_sizes_need_few_shapes():
    counts = [*range(64, 5000), *range(5000, 300_000, 997)]
    batches = (torch.empty(count, dtype=torch.bfloat16) for count in counts)
    lengths = {chunk.stop - chunk.start for rows in batches for chunk in matmul_chunks(rows)}
    assert lengths == {*range(64, 512, 64), *range(512, 4096, 512), *(1 << k for k in range(12, 19))}
