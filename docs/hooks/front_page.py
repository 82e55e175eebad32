"""The front page of the site: the README of the repository, with its links made relative to ``docs/``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

MARKER = "<!-- readme -->"
README = Path(__file__).parents[2] / "README.md"
LINK = re.compile(r"\[([^\]]+)\]\(([^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with the README in place of the marker."""
    return markdown.replace(MARKER, LINK.sub(in_site, README.read_text(encoding="utf-8")))


def in_site(link: re.Match[str]) -> str:
    """Return a link to a page of the site; of a file that the site does not hold, its text and path."""
    text, target, anchor = link[1], link[2], link[3] or ""
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')}{anchor})"
    return link[0] if "://" in target else f"{text} (`{target}`)"
