"""LaTeX between dollar signs as MathML, which browsers show without a script or a font of their own."""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

# what pymdownx.arithmatex makes of $...$ and of $$...$$
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """The page with every equation converted."""
    content = INLINE.sub(lambda found: to_mathml(found[1], "inline"), content)
    return BLOCK.sub(lambda found: f'<div class="equation">{to_mathml(found[1], "block")}</div>', content)


def to_mathml(escaped: str, display: str) -> str:
    """An equation of a page, escaped as HTML is.

    Raises:
        PluginError: it holds LaTeX that the converter does not know.
    """
    latex = html.unescape(escaped).strip()
    mathml: str = convert(latex, display=display)
    try:
        unknown = "\\" in "".join(ElementTree.fromstring(mathml).itertext())
    except ElementTree.ParseError:
        unknown = True
    if unknown:
        raise PluginError(f"this equation holds LaTeX that latex2mathml does not know: {latex}")
    return mathml
