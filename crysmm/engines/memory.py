"""Memory of a CPU: rows taken so many at a time that its cache holds them, and large tensors whose memory is reused.

For products in bf16 it matters, too, that the numbers of rows are few in all: oneDNN generates code for each shape it
has not met before, which takes .5 ms and .3 MB, and batches have other numbers of rows every time.
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

ROWS_IN_CACHE = 4096  # of 256 numbers in bf16: 2 MiB
STEPS = (512, 64)  # whose multiples are the numbers of rows multiplied at once; fewer rows are taken as they are
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # M_... of malloc.h
AFTERWARDS = {TRIM_THRESHOLD: 64 << 20, MMAP_THRESHOLD: 32 << 20, MMAP_MAX: 65536}  # what large blocks lead glibc to
LARGE = 4 << 20  # bytes
PAGE = mmap.PAGESIZE
NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux: room is taken, memory only when it is written to


def rows_at_a_time(tensor: Tensor) -> float:
    """On a CPU as many as its cache holds, else any number."""
    return ROWS_IN_CACHE if tensor.is_cpu else math.inf


def pieces(rows: Tensor) -> Iterator[slice]:
    """Successive rows, so many at a time."""
    step = int(min(rows_at_a_time(rows), max(1, len(rows))))
    return (slice(start, start + step) for start in range(0, len(rows), step))


def few_shapes_are_faster(rows: Tensor) -> bool:
    """Whether oneDNN multiplies them."""
    return rows.is_cpu and rows.dtype == torch.bfloat16


def covering(rows: Tensor, *, in_cache: bool = False) -> Iterator[slice]:
    """Successive rows, of few lengths in all; the last may begin within those before.

    Where the number of rows does not matter, all at once, or as :func:`pieces`.

    Args:
        rows: what is to be covered.
        in_cache: never more at a time than stay in the cache.
    """
    count = len(rows)
    if not few_shapes_are_faster(rows):
        yield from pieces(rows) if in_cache else [slice(0, count)]
        return
    step = next((step for step in STEPS if step <= count), count)
    start = 0
    while start < count:
        length = _length(count - start, step)
        length = min(length, ROWS_IN_CACHE if in_cache else length, count // step * step)
        end = min(start + length, count)
        yield slice(end - length, end)
        start = end


def _length(left: int, step: int) -> int:
    """Of the next piece: a power of two while more are left than stay in the cache, then a multiple of the step."""
    if left > ROWS_IN_CACHE:
        return 1 << left.bit_length() - 1
    return -(-left // step) * step


class Workspace:
    """Room for large tensors, used again when the tensor in it is gone; each lies in the smallest gap that holds it.

    In the heap, smaller blocks would settle in the gaps that large ones leave, and the next large ones need new memory.

    Raises:
        OSError: the system gives no room.
    """

    def __init__(self) -> None:
        room = os.sysconf("SC_PHYS_PAGES") * PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE  # private: a forked child has its own
        self.memory = mmap.mmap(-1, room, flags=flags)
        self.gaps = [(0, room)]  # start and end, ascending
        self._returned: deque[tuple[int, int]] = deque()  # a tensor may go in the midst of anything
        self._lock = Lock()

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
        """A tensor on the CPU with any numbers in it, or none where there is no room; the shape must not be empty."""
        size = math.prod(shape) * dtype.itemsize
        taken = self._take(-(-size // PAGE) * PAGE)
        if taken is None:
            return None
        held = np.frombuffer(self.memory, np.uint8, size, taken[0])  # lives as long as the tensor
        weakref.finalize(held, self._returned.append, taken).atexit = False
        tensor = torch.from_numpy(held).view(dtype).view(*shape)
        return tensor.detach()  # no view: autograd adds gradients to it in place

    def _take(self, size: int) -> tuple[int, int] | None:
        """Start and end of so many bytes, no longer a gap."""
        with self._lock:
            while self._returned:
                insort(self.gaps, self._returned.popleft())
            self.gaps = _joined(self.gaps)
            fitting = [(end - start, place) for place, (start, end) in enumerate(self.gaps) if end - start >= size]
            if not fitting:
                return None
            _, place = min(fitting)
            start, end = self.gaps[place]
            self.gaps[place] = (start + size, end)
            return start, start + size


def _joined(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that touch as one, and none without length."""
    joined: list[tuple[int, int]] = []
    for start, end in gaps:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        elif start < end:
            joined.append((start, end))
    return joined


_workspace: Workspace | None = None  # in use


def empty_rows(shape: Sequence[int], like: Tensor) -> Tensor:
    """A tensor of that shape, with the type and the device of another, and any numbers in it."""
    workspace = _workspace  # another thread may end it
    if workspace is None or not like.is_cpu or math.prod(shape) * like.dtype.itemsize < LARGE:
        return like.new_empty(shape)
    room = workspace.empty(shape, like.dtype)
    return like.new_empty(shape) if room is None else room


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Keep what is freed while a CPU computes, and give it back afterwards.

    As it comes, glibc returns large tensors to the kernel, and the pages of the next ones, faulted in anew, cost as
    much as half of an ALIGNN step. Where there is no glibc nothing is done. Blocks must not be nested: with the inner
    one the outer one ends.
    """
    global _workspace  # as what mallopt sets, it is the whole process'
    library = ctypes.CDLL(None) if sys.platform == "linux" and device.type == "cpu" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(TRIM_THRESHOLD, -1)  # never
    library.mallopt(MMAP_MAX, 0)
    with suppress(OSError):  # the heap does for all
        _workspace = Workspace()
    try:
        yield
    finally:
        _workspace = None
        for option, value in AFTERWARDS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
