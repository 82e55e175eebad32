"""Memory that is freed and soon needed again, kept by the process."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # M_... of malloc.h
AFTERWARDS = {TRIM_THRESHOLD: 64 << 20, MMAP_THRESHOLD: 32 << 20, MMAP_MAX: 65536}  # what large blocks lead glibc to


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Let glibc keep what is freed while a CPU computes, and give it back afterwards.

    As it comes, glibc returns large tensors to the kernel, and the pages of the next ones, faulted in anew, cost as
    much as half of an ALIGNN step. Where there is no glibc nothing is done. Blocks must not be nested: with the inner
    one the outer one ends.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" and device.type == "cpu" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(TRIM_THRESHOLD, -1)  # never
    library.mallopt(MMAP_MAX, 0)
    try:
        yield
    finally:
        for option, value in AFTERWARDS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
