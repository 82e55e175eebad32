"""Memory that is freed and soon needed again, kept by the process."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import numpy as np
import torch
from torch import Tensor

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # M_... of malloc.h
AFTERWARDS = {TRIM_THRESHOLD: 64 << 20, MMAP_THRESHOLD: 32 << 20, MMAP_MAX: 65536}  # what large blocks lead glibc to
LARGE = 4 << 20  # bytes
SPARE = 8  # a region has an eighth more than is asked for, for the next batch


class Workspace:
    """Memory for large tensors, used again when the tensor in it is gone.

    In the heap, smaller blocks would settle in the gaps that large ones leave, and the next large ones need new memory.
    """

    def __init__(self) -> None:
        self.free: list[mmap.mmap] = []
        self._lock = Lock()

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor on the CPU with any numbers in it; the shape must not be empty."""
        size = math.prod(shape) * dtype.itemsize
        region = self._take(size)
        held = np.frombuffer(region, np.uint8, size)  # lives as long as the tensor
        weakref.finalize(held, self.free.append, region).atexit = False
        tensor = torch.from_numpy(held).view(dtype).view(*shape)
        return tensor.detach()  # no view: autograd adds gradients to it in place

    def _take(self, size: int) -> mmap.mmap:
        with self._lock:
            fitting = [region for region in self.free if size <= len(region) <= 2 * size]
            if fitting:
                region = min(fitting, key=len)
                self.free.remove(region)
                return region
            # those that have become too small for their kind are let go
            self.free[:] = [region for region in self.free if not size <= 2 * len(region) < 2 * size]
        return mmap.mmap(-1, size + size // SPARE, access=mmap.ACCESS_COPY)  # private: a forked child has its own


_workspace: Workspace | None = None  # in use


def empty_rows(shape: Sequence[int], like: Tensor) -> Tensor:
    """A tensor of that shape, with the type and the device of another, and any numbers in it."""
    workspace = _workspace  # another thread may end it
    if workspace is None or not like.is_cpu or math.prod(shape) * like.dtype.itemsize < LARGE:
        return like.new_empty(shape)
    return workspace.empty(shape, like.dtype)


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
    _workspace = Workspace()
    try:
        yield
    finally:
        _workspace = None
        for option, value in AFTERWARDS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
