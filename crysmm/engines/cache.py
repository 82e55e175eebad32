"""How much is computed at a time so that it stays in a processor's cache between two operations."""

import math
from collections.abc import Iterator

from torch import Tensor

ROWS_IN_CACHE = 4096  # of 256 numbers in bf16: 2 MiB


def rows_at_a_time(tensor: Tensor) -> float:
    """On a CPU as many as its cache holds, else any number."""
    return ROWS_IN_CACHE if tensor.is_cpu else math.inf


def pieces(rows: Tensor) -> Iterator[slice]:
    """Successive rows, so many at a time."""
    step = int(min(rows_at_a_time(rows), max(1, len(rows))))
    return (slice(start, start + step) for start in range(0, len(rows), step))
