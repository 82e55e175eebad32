"""The card of a model, README.md in its folder: one line that says what it is, then sections that every card has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from crysmm.errors import ModelFolderError
from crysmm.files import write_text_atomic

CARD_FILE = "README.md"
SECTIONS = ("Data", "Licence and citation", "Command", "Held-out figures", "Limits")
FIGURES = "Held-out figures"
MARK = "<!-- written by crysmm: a run that takes this one's place rewrites this file -->"
"""The last line of a card, by which it is told from a README.md of the user's."""


@dataclass(frozen=True)
class Card:
    """What a card says.

    Args:
        name: of the model.
        summary: one line.
        sections: text by heading, all of ``SECTIONS``; the first line of the held-out figures is the one to quote.
    """

    name: str
    summary: str
    sections: dict[str, str]

    def text(self) -> str:
        """The card as Markdown, which :func:`read_card` reads back."""
        sections = [f"## {heading}\n\n{text}" for heading, text in self.sections.items()]
        return "\n\n".join([f"# {self.name}", self.summary, *sections, MARK]) + "\n"

    @property
    def figure(self) -> str:
        """The held-out figure to quote."""
        return self.sections[FIGURES].splitlines()[0].removeprefix("- ")


def as_text(name: str) -> str:
    """A name of the user's data on one line, without what Markdown or HTML would take for more than text."""
    return " ".join(name.split()).replace("<", "&lt;").replace("`", "'").replace("](", "] (")


def write_card(folder: Path, card: Card) -> bool:
    """Write the card of a model folder, unless a README.md stands there that is not ours.

    Returns:
        Whether it is written.
    """
    if (folder / CARD_FILE).exists() and not holds_card(folder):
        return False
    write_text_atomic(folder / CARD_FILE, card.text())
    return True


def holds_card(folder: Path) -> bool:
    """Whether the README.md of a folder is a card that this package has written."""
    path = folder / CARD_FILE
    return path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")


def read_card(folder: Path) -> Card:
    """The card of a model folder.

    Raises:
        ModelFolderError: there is none, or a part of it is missing.
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
