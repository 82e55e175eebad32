"""Memory of a CPU: row chunks that stay in its cache, and large tensors that reuse freed memory.

Two costs are avoided here. Rows of all triplets do not fit into the cache, so that every operation on them would read
and write main memory; in chunks, successive operations find their rows in the cache. And glibc returns freed large
tensors to the kernel, which must fault in the pages of the next ones.

For products in bf16 the shapes must be few as well: oneDNN generates code for each shape it has not met before, which
takes 0.5 ms and 0.3 MB, and every batch has another number of rows.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import weakref
from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock

import numpy as np
import torch
from torch import Tensor

ROWS_IN_CACHE = 4096  # rows of 256 numbers in bf16 are 2 MiB; from 2,048 to 8,192 a step takes the same time
ROW_STEPS = (512, 64)  # bf16 products take multiples of the first that is not too large; fewer rows are taken at once
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # M_... of malloc.h
AFTERWARDS = {TRIM_THRESHOLD: 64 << 20, MMAP_THRESHOLD: 32 << 20, MMAP_MAX: 65536}  # glibc's own after large blocks
LARGE = 4 << 20  # bytes
PAGE = mmap.PAGESIZE
NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux: reserve addresses; pages take memory once they are written to


def rows_in_cache(tensor: Tensor) -> float:
    """Return the number of rows to compute at a time: what a CPU's cache holds, any number on a GPU."""
    return ROWS_IN_CACHE if tensor.is_cpu else math.inf


def chunks(rows: Tensor) -> Iterator[slice]:
    """Return slices of successive rows that stay in the cache from one operation to the next."""
    step = int(min(rows_in_cache(rows), max(1, len(rows))))
    return (slice(start, start + step) for start in range(0, len(rows), step))


def multiplied_by_onednn(rows: Tensor) -> bool:
    """Return whether oneDNN multiplies these rows, which is faster with few shapes."""
    return rows.is_cpu and rows.dtype == torch.bfloat16


def matmul_chunks(rows: Tensor, *, in_cache: bool = False) -> Iterator[slice]:
    """Yield slices that cover the rows, of few lengths over all batches.

    Where any length is fast, yield all rows at once, or :func:`chunks` with ``in_cache``. Elsewhere the last slice may
    begin within the one before: its first rows are then computed twice, with the same result, to keep its length.

    Args:
        rows: Rows to cover, ``[n, d]``.
        in_cache: Never yield more rows at a time than stay in the cache.
    """
    count = len(rows)
    if not multiplied_by_onednn(rows):
        yield from chunks(rows) if in_cache else [slice(0, count)]
        return
    step = next((step for step in ROW_STEPS if step <= count), count)
    start = 0
    while start < count:
        left = count - start
        # powers of two while many rows are left, then multiples of the step: few lengths over all batches
        length = 1 << left.bit_length() - 1 if left > ROWS_IN_CACHE else -(-left // step) * step
        length = min(length, ROWS_IN_CACHE if in_cache else length, count // step * step)
        end = min(start + length, count)
        yield slice(end - length, end)
        start = end


class Workspace:
    """Memory for large tensors, reused when a tensor is gone; a new one is put into the smallest gap that holds it.

    In the heap, small blocks would settle in the gaps that large tensors leave, and the next large ones would need new
    memory.

    Raises:
        OSError: The system does not reserve the addresses.
    """

    def __init__(self) -> None:
        size = os.sysconf("SC_PHYS_PAGES") * PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE  # private, so that a forked child has its own
        self.memory = mmap.mmap(-1, size, flags=flags)
        self.gaps = [(0, size)]  # (start, end) in bytes, ascending
        self._freed: deque[tuple[int, int]] = deque()  # finalizers may run at any point, so they only append here
        self._lock = Lock()

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
        """Return an uninitialized CPU tensor of a shape with at least one number, or None if no gap holds it."""
        size = math.prod(shape) * dtype.itemsize
        in_pages = -(-size // PAGE) * PAGE
        with self._lock:
            while self._freed:
                insort(self.gaps, self._freed.popleft())
            joined: list[tuple[int, int]] = []
            for start, end in self.gaps:
                if joined and joined[-1][1] == start:  # adjacent gaps become one
                    joined[-1] = (joined[-1][0], end)
                elif start < end:
                    joined.append((start, end))
            self.gaps = joined
            fitting = [(end - start, place) for place, (start, end) in enumerate(joined) if end - start >= in_pages]
            if not fitting:
                return None
            _, place = min(fitting)
            start, end = joined[place]
            joined[place] = (start + in_pages, end)
        # the array is the tensor's memory: it lives as long as any view of the tensor, and then returns the gap
        held = np.frombuffer(self.memory, np.uint8, size, start)
        weakref.finalize(held, self._freed.append, (start, start + in_pages)).atexit = False
        tensor = torch.from_numpy(held).view(dtype).view(*shape)
        return tensor.detach()  # not a view: autograd may add gradients to it in place


_workspace: Workspace | None = None  # that of the running keep_freed_memory block


def empty_rows(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return an uninitialized tensor with the dtype and device of another; a large one reuses freed memory."""
    workspace = _workspace  # another thread may end the block meanwhile
    if workspace is None or not like.is_cpu or math.prod(shape) * like.dtype.itemsize < LARGE:
        return like.new_empty(shape)
    tensor = workspace.empty(shape, like.dtype)
    return like.new_empty(shape) if tensor is None else tensor


@contextmanager
def keep_freed_memory(device: torch.device) -> Iterator[None]:
    """Keep freed memory in the process while a CPU computes, and return it to the system afterwards.

    By default glibc returns large tensors to the kernel, and faulting in the pages of the next ones takes up to half of
    an ALIGNN step. Nothing is done without glibc. Blocks must not be nested: the inner one would end the outer one.
    """
    global _workspace  # of the whole process, as are the options that mallopt sets
    library = ctypes.CDLL(None) if sys.platform == "linux" and device.type == "cpu" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(TRIM_THRESHOLD, -1)  # never trim the heap
    library.mallopt(MMAP_MAX, 0)  # large blocks, too, come from the heap
    with suppress(OSError):  # without a workspace everything is in the heap
        _workspace = Workspace()
    try:
        yield
    finally:
        _workspace = None
        for option, value in AFTERWARDS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
