"""How much is computed at a time so that it stays in a processor's cache between two operations.

For products in bf16 it matters, too, that the numbers of rows are few in all: oneDNN generates code for each shape it
has not met before, which takes .5 ms and .3 MB, and batches have other numbers of rows every time.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

ROWS_IN_CACHE = 4096  # of 256 numbers in bf16: 2 MiB
STEPS = (512, 64)  # whose multiples are the numbers of rows multiplied at once; fewer rows are taken as they are


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
