"""The model card, ``README.md`` in a model folder: a line that says what the model is, then fixed sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from crysmm.errors import ModelFolderError
from crysmm.files import write_text_atomic

CARD_FILE = "README.md"
SCORES = "Held-out metrics"
CITATION = "License and citation"
SECTIONS = ("Data", CITATION, "Command", SCORES, "Limits")
MARK = "<!-- written by crysmm: a run that takes this one's place rewrites this file -->"
"""Last line of a card, which distinguishes it from a README.md that the user wrote."""


@dataclass(frozen=True)
class Card:
    """Content of a model card.

    Args:
        name: Name of the model.
        summary: One line that says what it is.
        sections: Text by heading, for all of ``SECTIONS``; the first line of the held-out metrics is the one to quote.
    """

    name: str
    summary: str
    sections: dict[str, str]

    def text(self) -> str:
        """Return the card as Markdown, which :func:`read_card` parses."""
        sections = [f"## {heading}\n\n{text}" for heading, text in self.sections.items()]
        return "\n\n".join([f"# {self.name}", self.summary, *sections, MARK]) + "\n"

    @property
    def figure(self) -> str:
        """Held-out metric to quote."""
        return self.sections[SCORES].splitlines()[0].removeprefix("- ")


def as_text(name: str) -> str:
    """Return a name from the user's data on one line, without characters that are markup in Markdown or HTML."""
    return " ".join(name.split()).replace("<", "&lt;").replace("`", "'").replace("](", "] (")


def write_card(folder: Path, card: Card) -> bool:
    """Write the card of a model folder, unless it has a README.md that this package did not write.

    Returns:
        True if the card was written.
    """
    if (folder / CARD_FILE).exists() and not holds_card(folder):
        return False
    write_text_atomic(folder / CARD_FILE, card.text())
    return True


def holds_card(folder: Path) -> bool:
    """Return whether the README.md of a folder is a card that this package wrote."""
    path = folder / CARD_FILE
    return path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")


def read_card(folder: Path) -> Card:
    """Read the card of a model folder.

    Raises:
        ModelFolderError: There is none, or a part of it is missing.
    """
    path = folder / CARD_FILE
    try:
        text = path.read_text(encoding="utf-8").replace(MARK, "")
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error.strerror}; a shipped model has a card") from error
    top, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    title, _, summary = top.partition("\n")
    sections = {heading.strip(): text.strip() for heading, _, text in (part.partition("\n") for part in rest)}
    missing = [heading for heading in SECTIONS if not sections.get(heading)]
    if not title.startswith("# ") or not summary.strip() or missing:
        what = f"nothing under {', '.join(missing)}" if missing else "no name and line that says what the model is"
        raise ModelFolderError(f"{path} has {what}; expected '# NAME', a line, and ## {', ## '.join(SECTIONS)}")
    return Card(title.removeprefix("# ").strip(), summary.strip().splitlines()[0], sections)
