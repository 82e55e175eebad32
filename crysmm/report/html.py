"""Numbers and formulas as text, and scripts in an HTML page with a security policy that allows only these."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import chain

from markupsafe import Markup

from crysmm.data.space_groups import CRYSTAL_SYSTEMS, UNKNOWN, crystal_system
from crysmm.elements import ATOMIC_NUMBERS, feature_table

ELECTRONEGATIVITY = 3  # column of the "basic" atom features


@cache
def static_file(name: str) -> str:
    """Return a text file from the package's ``static`` folder."""
    return (files("crysmm.report") / "static" / name).read_text("utf-8")


def embed_scripts(sources: Sequence[str]) -> tuple[str, str]:
    """Embed JavaScript in a page.

    Args:
        sources: Sources of the scripts, none of which may contain an end tag.

    Returns:
        The script elements, and the ``Content-Security-Policy`` that runs exactly these scripts and fetches nothing.
    """
    elements = "\n".join(f"<script>{source}</script>" for source in sources)
    checksums = (base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources)
    allowed = " ".join(f"'sha256-{checksum}'" for checksum in checksums)
    # Plotly sets inline styles, and makes its images from blobs.
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    return elements, policy


def percentage(fraction: float | None) -> str:
    """Format a fraction as a percentage, ``85.0%``; a dash for None."""
    return "-" if fraction is None else f"{fraction:.1%}"


def formula_parts(formula: str) -> list[tuple[str, str]]:
    """Split a formula into element symbols and counts, in order of increasing electronegativity.

    Args:
        formula: Reduced formula with the elements in any order.

    Returns:
        Symbols with their counts, which are empty for 1. Text that is not a formula is a single part.
    """
    counts = dict(re.findall(r"([A-Z][a-z]?)(\d*)", formula))
    # Ids and file names come here, too: their parts do not add up to the text, or are no symbols.
    if "".join(chain(*counts.items())) != formula or not counts.keys() <= ATOMIC_NUMBERS.keys():
        return [(formula, "")]
    table = feature_table("basic")
    return sorted(counts.items(), key=lambda part: (table[ATOMIC_NUMBERS[part[0]], ELECTRONEGATIVITY], part[0]))


def space_group_name(number: int) -> Markup:
    """Return the symbol of a space group as it is printed, its number and its crystal system, as HTML.

    ::

        space_group_name(166)  # R3m (166), trigonal, with a bar over the 3
    """
    from moyopy import SpaceGroupType

    if number == UNKNOWN:
        return Markup("not found")
    # moyo writes a screw axis as 4_2 and an inversion axis as -3
    symbol = SpaceGroupType(number).hm_short.replace(" ", "")
    symbol = re.sub(r"-(\d)", r'<span style="text-decoration:overline">\1</span>', symbol)
    symbol = re.sub(r"_(\d)", r"<sub>\1</sub>", symbol)
    return Markup(f"{symbol} ({number}), {CRYSTAL_SYSTEMS[crystal_system(number)]}")
