"""Numbers as people read them."""

from __future__ import annotations

import math


def number(value: float | None) -> str:
    """Three digits: ``0.0214``, ``25.3``, ``1,234``; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "infinite"
    size = abs(float(f"{value:.3g}"))
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    decimals = 2 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    return f"{value:.{decimals}f}"


def share(value: float | None) -> str:
    """A share as a percentage: ``85.0%``."""
    return "-" if value is None else f"{value:.1%}"


def duration(seconds: float) -> str:
    """A time: ``8.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
