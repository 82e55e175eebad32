"""The scripts in a page, and the policy by which browsers run these and no others, and fetch nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files


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
