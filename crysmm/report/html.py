"""The scripts in a page, and the policy by which browsers run these and no others, and fetch nothing."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import chain

from crysmm.elements import ATOMIC_NUMBERS, feature_table


@cache
def static_file(name: str) -> str:
    """A text file that comes with the package."""
    return (files("crysmm.report") / "static" / name).read_text("utf-8")


def script_tags(sources: Iterable[str]) -> str:
    """The tags of some scripts, none of which holds an end tag itself."""
    return "\n".join(f"<script>{source}</script>" for source in sources)


def security_policy(sources: Iterable[str]) -> str:
    """What the meta tag ``Content-Security-Policy`` of a page with these scripts has to say."""
    checksums = (base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources)
    allowed = " ".join(f"'sha256-{checksum}'" for checksum in checksums)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


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


ELECTRONEGATIVITY = 3  # its column among the atom features "basic"


def formula_parts(formula: str) -> list[tuple[str, str]]:
    """Element symbols, the most electronegative last, each with its number, which is empty for 1.

    Args:
        formula: reduced, elements in any order; what is none is one part.
    """
    counts = dict(re.findall(r"([A-Z][a-z]?)(\d*)", formula))
    if "".join(chain(*counts.items())) != formula or not counts.keys() <= ATOMIC_NUMBERS.keys():
        return [(formula, "")]
    table = feature_table("basic")
    return sorted(counts.items(), key=lambda part: (table[ATOMIC_NUMBERS[part[0]], ELECTRONEGATIVITY], part[0]))
