"""Timing of calls, for this project and its peers; plain Python, so that it runs in a peer's environment too."""

import statistics
import time
from collections.abc import Callable


def median_seconds(call: Callable[[], object], count: int) -> float:
    """Return the median duration of ``count`` calls, after one that is not counted."""
    call()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
