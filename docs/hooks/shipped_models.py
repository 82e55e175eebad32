"""The shipped models, from their cards, in place of ``<!-- zoo -->``."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from crysmm.inference.model_card import read_card
from crysmm.zoo import ZOO, shipped_names

MARKER = "<!-- zoo -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the models in it, where it asks for them."""
    return markdown.replace(MARKER, "\n".join(lines())) if MARKER in markdown else markdown


def lines() -> Iterator[str]:
    """Markdown: a definition list."""
    for name in shipped_names():
        card = read_card(ZOO / name)
        summary, figure = (html.escape(text, quote=False) for text in (card.summary, card.figure))
        yield from (f"`{name}`", f":   {summary}", f"    <small>held out: {figure}</small>", "")
